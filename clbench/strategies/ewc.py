"""Elastic weight consolidation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

from clbench.models import Model
from clbench.strategy import SGDStrategy
from clbench.stream import Batch, StreamSpec, TaskView


@dataclass(kw_only=True)
class EWC(SGDStrategy):
    """Hold each weight near its old value, as strongly as the Fisher information of past tasks says.

    ``strength``: lambda. ``mode``: ``separate`` (one quadratic penalty per past task) or ``online`` (one, whose
    Fisher information decays by ``decay``). ``fisher_samples``: training samples it is estimated from.

    Source: Kirkpatrick et al., Overcoming catastrophic forgetting in neural networks, PNAS 2017, Eq. 3
    (separate); Schwarz et al., Progress and Compress, ICML 2018 (online).
    Differs: the penalties of all past tasks are kept as one sum, which has the same gradient and needs the
    memory of one; the Fisher information is the empirical one, from true per-sample gradients.
    """

    strength: float = 30.0
    mode: Literal["separate", "online"] = "separate"
    decay: float = 1.0
    fisher_samples: int = 500

    def setup(self, model: Model, spec: StreamSpec, rng: np.random.Generator) -> None:
        """Start without a penalty."""
        super().setup(model, spec, rng)
        self.fisher_: dict[str, Tensor] = {}  # sum over past tasks of F
        self.pull_: dict[str, Tensor] = {}  # sum over past tasks of F * theta_old

    def after_backward(self, batch: Batch) -> None:
        """Add the gradient of strength / 2 * sum F (theta - theta_old)^2."""
        for name, parameter in self.model_.named_parameters():
            if name in self.fisher_ and parameter.grad is not None:
                known = tuple(slice(n) for n in self.fisher_[name].shape)  # a head may have grown since
                force = self.fisher_[name] * parameter.detach()[known] - self.pull_[name]
                parameter.grad[known].add_(force, alpha=self.strength)

    def after_task(self, task: TaskView) -> None:
        """Estimate the Fisher information of the task and add its penalty."""
        for name, fresh in self._fisher(task).items():
            weight = self.model_.get_parameter(name).detach()
            fisher = _widened(self.fisher_.get(name), fresh)
            if self.mode == "online":
                self.fisher_[name] = self.decay * fisher + fresh
                self.pull_[name] = self.fisher_[name] * weight
            else:
                self.fisher_[name] = fisher + fresh
                self.pull_[name] = _widened(self.pull_.get(name), fresh) + fresh * weight

    def _fisher(self, task: TaskView) -> dict[str, Tensor]:
        """Mean squared gradient of the log-likelihood of single training samples."""
        self.model_.eval()
        weights = {k: p.detach() for k, p in self.model_.named_parameters() if p.requires_grad}

        def sample_loss(weights: dict[str, Tensor], x: dict[str, Tensor], y: Tensor) -> Tensor:
            logits = functional_call(self.model_, weights, ({name: value[None] for name, value in x.items()},))
            return self.cross_entropy(logits, y[None])

        squares = {k: torch.zeros_like(p) for k, p in weights.items()}
        n_samples = 0
        for batch in task.batches(32, phase="fisher"):
            for gradients in _each(grad(sample_loss), weights, dict(batch.raw), batch.y):
                for k, g in gradients.items():
                    squares[k] += g.square().sum(0)
            n_samples += len(batch.y)
            if n_samples >= self.fisher_samples:
                break
        return {k: s / n_samples for k, s in squares.items()}


def _each(
    gradient: Callable[..., dict[str, Tensor]], weights: dict[str, Tensor], inputs: dict[str, Tensor], y: Tensor
) -> Iterator[dict[str, Tensor]]:
    """Gradients of single samples, stacked: of all at once, or one by one where the network looks at its input."""
    try:
        yield vmap(gradient, in_dims=(None, 0, 0))(weights, inputs, y)
    except RuntimeError as error:
        if "vmap" not in str(error):
            raise
        for row in range(len(y)):  # a text encoder, which cuts padding
            alone = gradient(weights, {k: x[row] for k, x in inputs.items()}, y[row])
            yield {k: g[None] for k, g in alone.items()}


def _widened(old: Tensor | None, like: Tensor) -> Tensor:
    wide = torch.zeros_like(like)
    if old is not None:
        wide[tuple(slice(n) for n in old.shape)] = old
    return wide
