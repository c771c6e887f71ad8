"""Continual learning with backward knowledge transfer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from clbench.capture import Unit
from clbench.errors import BadInput
from clbench.models import Model
from clbench.projection import projected
from clbench.strategies.trgp import TRGP
from clbench.stream import Batch, StreamSpec, TaskView

TINY = 1e-12  # under the root: the gradient of a norm at zero is then zero


@dataclass(kw_only=True)
class CUBER(TRGP):
    """As TRGP, but let a task change weights in an old task's subspace where both gradients point the same way.

    For every layer, an old task j is in one of three regimes. 1: not in the trust region; updates inside its subspace
    are projected out. 2: in the trust region; projected out, and scaled. 3: also <g_j, g_t> >= ``correlation`` |g_j|
    |g_t|; scaled and not projected out, but ``strength`` |(W - W_before) B_j| is added to the loss. g_j is the
    gradient of the old task's loss when it had been learnt, g_t of the new one's. Whenever the condition fails, the
    old task falls back to regime 2 for the rest of the task. ``check``: how often it is looked at, on the mini-batch.

    Source: Lin et al., Beyond Not-Forgetting: Continual Learning with Backward Knowledge Transfer, NeurIPS 2022.
    Differs: as ``TRGP`` does, whose trust region asks for > where this paper has >=; ``strength`` (lambda) is ours, as
    the main text gives none; a direction that an old task in regime 3 shares with another one stays projected out; the
    condition is looked at once per epoch by default, as in what is left of the authors' code, where the paper's
    algorithm does so at every step.
    """

    correlation: float = 0.0
    strength: float = 0.1
    check: Literal["epoch", "step"] = "epoch"

    def setup(self, model: Model, spec: StreamSpec, rng: np.random.Generator) -> None:
        """Start without old tasks."""
        super().setup(model, spec, rng)
        if self.strength < 0 or self.check not in ("epoch", "step"):
            raise BadInput(f"CUBER needs strength >= 0 and check epoch or step; got {self.strength}, {self.check}")
        self.gradients_: dict[int, dict[str, Tensor]] = {}  # by task and unit, when the task had been learnt
        self.regimes_: dict[int, dict[str, dict[int, int]]] = {}  # by task, unit and old task, when the task began
        self.fallen_: dict[int, dict[str, dict[int, int]]] = {}  # the same for those that fell back: in which epoch

    def before_task(self, task: TaskView) -> None:
        """Find the regimes."""
        self.regimes_[self.label_] = {}
        self.fallen_[self.label_] = {}
        super().before_task(task)
        weights = {unit.name: unit.rows(self.model_.get_parameter(unit.weight)) for unit in self.units}
        self._start = {name: weights[name].detach().clone() for name in weights if self.backward(name)}

    def trust_region(self, unit: Unit, gradient: Tensor) -> list[int]:
        """As in TRGP; which of its old tasks are in regime 3 is noted."""
        chosen = super().trust_region(unit, gradient)
        regimes = {j: 2 + self.agrees(unit, j, gradient) if j in chosen else 1 for j in self.columns_}
        self.regimes_[self.label_][unit.name] = regimes
        return chosen

    def agrees(self, unit: Unit, task: int, gradient: Tensor) -> bool:
        """Whether a gradient is positively correlated with that of an old task."""
        old = self.gradients_[task][unit.name]
        product = (old * gradient[: len(old)]).sum()  # the head may have more rows now
        return bool(product >= self.correlation * old.norm() * gradient.norm())

    def backward(self, unit: str) -> list[int]:
        """The old tasks that are in regime 3 in a unit."""
        fallen = self.fallen_[self.label_].get(unit, {})
        regimes = self.regimes_[self.label_].get(unit, {})
        return [j for j, regime in regimes.items() if regime == 3 and j not in fallen]

    def loss(self, batch: Batch) -> Tensor:
        """Cross-entropy, and how far the weights have moved in the subspaces of regime 3."""
        return super().loss(batch) + self.strength * self.moved()

    def moved(self) -> Tensor:
        """Sum of the norms |(W - W_before) B_j| over units and old tasks in regime 3."""
        norms = [torch.zeros((), device=self.model_.head.weight.device)]
        for unit in self.units:
            for j in self.backward(unit.name):
                change = unit.rows(self.model_.get_parameter(unit.weight)) - self._start[unit.name]
                norms.append(((change @ self.basis_of(unit, j)).square().sum() + TINY).sqrt())
        return torch.stack(norms).sum()

    def project(self, unit: Unit, update: Tensor) -> Tensor:
        """The update outside the span of the subspaces of regimes 1 and 2."""
        free = self.backward(unit.name)
        if not free:
            return super().project(unit, update)
        basis = self.bases_[unit.name]
        held = torch.zeros(basis.shape[1], dtype=torch.bool, device=basis.device)
        for j in self.columns_.keys() - free:
            held[self.columns_[j][unit.name]] = True
        return projected(update, basis[:, held])

    def after_step(self, batch: Batch) -> None:
        """Project; then let old tasks fall back to regime 2 whose gradients no longer agree."""
        super().after_step(batch)
        due = (self.check == "step" or batch.last) and any(self.backward(unit.name) for unit in self.units)
        gradients = self.gradients(batch.inputs, batch.y) if due else {}
        for unit in self.units if due else ():
            fell = [j for j in self.backward(unit.name) if not self.agrees(unit, j, gradients[unit.name])]
            self.fallen_[self.label_].setdefault(unit.name, {}).update(dict.fromkeys(fell, batch.epoch))

    def after_task(self, task: TaskView) -> None:
        """Keep the gradient of the task's loss now, beside what TRGP keeps."""
        super().after_task(task)
        self.gradients_[self.label_] = self.gradients(*self.draw(task))
