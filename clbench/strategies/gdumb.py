"""GDumb: greedy sampler and dumb learner."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from clbench.buffer import Buffer
from clbench.models import Model
from clbench.strategy import SGDStrategy
from clbench.stream import StreamSpec, TaskView


@dataclass(kw_only=True)
class GDumb(SGDStrategy):
    """Keep a class-balanced memory; at each task train a fresh model on the memory alone.

    ``memory``: samples kept. ``fit_epochs``: passes over the memory, in place of ``trainer.epochs``.

    Source: Prabhu, Torr and Dokania, GDumb, ECCV 2020, section 3.
    Differs: constant learning rate instead of cosine restarts; no cutmix; balancing per task.
    """

    memory: int = 200
    fit_epochs: int = 50

    def setup(self, model: Model, spec: StreamSpec, rng: np.random.Generator) -> None:
        """Start with an empty memory; keep the initial weights to begin from every time."""
        super().setup(model, spec, rng)
        self.buffer_ = Buffer(self.memory, "balanced")
        self.initial_: dict[str, Tensor] = {k: v.clone() for k, v in model.state_dict().items()}

    def train_task(self, task: TaskView) -> None:
        """Sample greedily, then learn from the memory from scratch."""
        self.buffer_.add(task.samples(), self.rng_)
        self.observe(task)
        self.model_.restart(self.initial_)
        self.optimise(task, self.fit_epochs, self.buffer_.rows)

    def stored_samples(self) -> int:
        """Samples in the memory."""
        return len(self.buffer_)
