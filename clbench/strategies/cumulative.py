"""Reference: train on all tasks so far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from clbench.models import Model
from clbench.strategy import SGDStrategy
from clbench.stream import StreamSpec, TaskView


@dataclass(kw_only=True)
class Cumulative(SGDStrategy):
    """Declared oracle: keep every sample, and at each task go on training on all of them.

    Source: the reference a*_k of Chaudhry et al., Riemannian Walk, ECCV 2018 (a model trained on tasks 1..k).
    Differs: it starts each task from the weights of the one before, not from scratch.
    """

    reference: ClassVar[bool] = True

    def setup(self, model: Model, spec: StreamSpec, rng: np.random.Generator) -> None:
        """Start with no samples."""
        super().setup(model, spec, rng)
        self.samples_: dict[str, Tensor] = {}

    def train_task(self, task: TaskView) -> None:
        """Add the task's samples and train on all there are."""
        self.observe(task)
        self.samples_ = joined(self.samples_, task.samples())
        self.optimise(task, samples=self.samples_)

    def stored_samples(self) -> int:
        """All samples so far."""
        return len(self.samples_["y"]) if self.samples_ else 0


def joined(old: dict[str, Tensor], new: dict[str, Tensor]) -> dict[str, Tensor]:
    """The rows of both, name by name."""
    return {name: torch.cat([old[name], rows]) for name, rows in new.items()} if old else new
