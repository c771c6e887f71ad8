"""Averaged gradient episodic memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from clbench.buffer import Buffer
from clbench.models import Model
from clbench.strategy import SGDStrategy
from clbench.stream import Batch, StreamSpec, TaskView


@dataclass(kw_only=True)
class AGEM(SGDStrategy):
    """Project the gradient so that the mean loss on stored samples of past tasks does not rise.

    ``memory``: samples kept, balanced by class. ``memory_batch``: samples the reference gradient is taken from.

    Source: Chaudhry et al., Efficient Lifelong Learning with A-GEM, ICLR 2019, Eq. 11.
    Differs: the memory is balanced by class over all past tasks instead of a fixed share per task, since the
    number of tasks is not known.
    """

    memory: int = 200
    memory_batch: int = 64

    def setup(self, model: Model, spec: StreamSpec, rng: np.random.Generator) -> None:
        """Start with an empty memory."""
        super().setup(model, spec, rng)
        self.buffer_ = Buffer(self.memory, "balanced")

    def after_backward(self, batch: Batch) -> None:
        """Remove from the gradient what points against the gradient on memory."""
        if not len(self.buffer_):
            return
        old = batch.augmented(self.buffer_.sample(self.memory_batch, self.rng_), self.rng_)
        inputs = {name: old[name] for name in batch.inputs}
        loss = self.cross_entropy(self.model_(inputs), old["y"], old["label"])
        used = [p for p in self.model_.parameters() if p.grad is not None]
        reference = torch.autograd.grad(loss, used, materialize_grads=True)
        gradients = [p.grad for p in used if p.grad is not None]
        dot = torch.stack([(g * r).sum() for g, r in zip(gradients, reference, strict=True)]).sum()
        norm = torch.stack([r.square().sum() for r in reference]).sum()
        scale = torch.where(norm > 0, dot / norm, 0.0).clamp(max=0)
        for gradient, r in zip(gradients, reference, strict=True):
            gradient.sub_(scale * r)

    def after_task(self, task: TaskView) -> None:
        """Offer the task's samples to the memory."""
        self.buffer_.add(task.samples(), self.rng_)

    def stored_samples(self) -> int:
        """Samples in the memory."""
        return len(self.buffer_)
