"""Synaptic intelligence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from clbench.models import Model
from clbench.strategy import SGDStrategy
from clbench.stream import Batch, StreamSpec, TaskView


@dataclass(kw_only=True)
class SI(SGDStrategy):
    """Hold each weight near its old value, as strongly as its path contributed to lowering past losses.

    ``strength``: c. ``damping``: xi.

    Source: Zenke, Poole and Ganguli, Continual Learning Through Synaptic Intelligence, ICML 2017, Eqs. 3-5.
    Differs: negative contributions count as zero, which keeps the penalty bounded below.
    """

    strength: float = 1.0
    damping: float = 0.1

    def setup(self, model: Model, spec: StreamSpec, rng: np.random.Generator) -> None:
        """Start without a penalty."""
        super().setup(model, spec, rng)
        self.importance_: dict[str, Tensor] = {}
        self.anchor_: dict[str, Tensor] = {}
        self.path_: dict[str, Tensor] = {}

    def before_task(self, task: TaskView) -> None:
        """Begin a new path at the present weights."""
        for name, weight in self._weights().items():
            anchor, importance = weight.clone(), torch.zeros_like(weight)
            if name in self.importance_:  # rows that a head has grown start without importance
                known = tuple(slice(n) for n in self.importance_[name].shape)
                importance[known] = self.importance_[name]
            self.anchor_[name], self.importance_[name] = anchor, importance
            self.path_[name] = torch.zeros_like(weight)

    def after_backward(self, batch: Batch) -> None:
        """Note loss gradient and weights before the step, then add the gradient of the penalty."""
        self._before = {k: w.clone() for k, w in self._weights().items()}
        self._slope = {}
        for name, parameter in self.model_.named_parameters():
            if parameter.grad is not None and name in self.anchor_:
                self._slope[name] = parameter.grad.clone()
                pull = self.importance_[name] * (parameter.detach() - self.anchor_[name])
                parameter.grad.add_(pull, alpha=2 * self.strength)

    def after_step(self, batch: Batch) -> None:
        """Add what each weight's move did to the loss."""
        for name, weight in self._weights().items():
            if name in self._slope:
                self.path_[name] -= self._slope[name] * (weight - self._before[name])

    def after_task(self, task: TaskView) -> None:
        """Turn the path into importance."""
        for name, weight in self._weights().items():
            moved = (weight - self.anchor_[name]).square()
            self.importance_[name] += self.path_[name].clamp(min=0) / (moved + self.damping)
        self.path_, self._before, self._slope = {}, {}, {}

    def _weights(self) -> dict[str, Tensor]:
        return {k: p.detach() for k, p in self.model_.named_parameters() if p.requires_grad}
