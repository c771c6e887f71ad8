"""Trust region gradient projection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from clbench.capture import HEAD, Unit
from clbench.errors import BadInput
from clbench.models import Model
from clbench.projection import ROUNDING, ProjectedSGD, energy_along, extended, how_many, outside, principal
from clbench.stream import ProtocolName, StreamSpec, TaskView

MOST = 2  # old tasks in the trust region of a layer


def with_pooled(basis: Tensor, gram: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """The basis with what a task adds to it, and which of its columns are the task's own (r,).

    Old columns and directions of the residual are ranked together by energy; the fewest that hold the share of it are
    the task's, and those of them that are new join the basis.
    """
    energies, vectors = principal(outside(gram, basis))
    n_old, d = basis.shape[1], len(basis)
    pool = torch.cat([energy_along(gram, basis), energies[: d - n_old]])
    order = pool.argsort(descending=True, stable=True)
    taken = order[: how_many(pool[order], (share - ROUNDING) * gram.trace())].sort().values
    new = taken[taken >= n_old]  # the first of the residual is number n_old: the strongest new direction
    columns = torch.cat([taken[taken < n_old], torch.arange(n_old, n_old + len(new), device=taken.device)])
    return extended(basis, vectors[:, new - n_old]), columns


@dataclass(kw_only=True)
class TRGP(ProjectedSGD):
    """Project as GPM does, and let a task reuse the weights inside the subspaces of the old tasks most like it.

    A task's basis B_j is a set of columns of the layer's basis M. Before a task, an old task j enters the trust region
    of a layer if |g B_j| > ``trust`` |g| for the gradient g of the new task's loss; the two largest do. The task then
    works with W + sum_j (W B_j)(Q_j - 1) B_jT, where Q_j (r, r) begins as the identity and is learnt beside W; each
    task keeps its own Q_j and is answered with them.

    Source: Lin et al., TRGP: Trust Region Gradient Projection for Continual Learning, ICLR 2022.
    Differs: as ``GPM`` does; the strongest new direction does enter the basis, the inputs are those of the scaled
    network, every layer with a trust region is scaled and each Q_j is a parameter of its own (four faults of the
    public code); a head none of whose rows an old task has trained is not scaled.
    """

    protocols: ClassVar[frozenset[ProtocolName]] = frozenset({"task-incremental"})
    protocols_because: ClassVar[str] = "a task is answered with the scaling it has learnt, so its label must be told"
    trust: float = 0.5

    def setup(self, model: Model, spec: StreamSpec, rng: np.random.Generator) -> None:
        """Start without old tasks."""
        super().setup(model, spec, rng)
        if self.trust < 0:
            raise BadInput(f"{type(self).__name__} needs trust >= 0; got {self.trust}")
        self.columns_: dict[int, dict[str, Tensor]] = {}  # by task and unit: its columns of the unit's basis
        self.scalings_: dict[int, dict[str, dict[int, Tensor]]] = {}  # by task, unit and old task: Q

    def parameters(self) -> list[Tensor]:
        """The weights, and the scalings of the task at hand."""
        return [*super().parameters(), *(q for of in self.scalings_[self.label_].values() for q in of.values())]

    def before_task(self, task: TaskView) -> None:
        """Choose the trust region of every layer, and let its scalings begin as identities."""
        super().before_task(task)
        self.scalings_[self.label_] = {}
        gradients = self.gradients(*self.draw(task)) if self.columns_ else {}
        for unit in self.units:
            if gradients and (unit.weight != HEAD or bool(self._old.any())):
                chosen = self.trust_region(unit, gradients[unit.name])
                self.scalings_[self.label_][unit.name] = {j: self.identity(unit, j) for j in chosen}

    def trust_region(self, unit: Unit, gradient: Tensor) -> list[int]:
        """The at most two old tasks in whose subspaces the largest part of the gradient (out, d_in) lies."""
        norms = {j: float((gradient @ self.basis_of(unit, j)).norm()) for j in self.columns_}
        floor = self.trust * float(gradient.norm())
        return sorted((j for j in norms if norms[j] > floor), key=lambda j: -norms[j])[:MOST]

    def basis_of(self, unit: Unit, task: int) -> Tensor:
        """The basis (d_in, r) of an old task in a unit."""
        return self.bases_[unit.name][:, self.columns_[task][unit.name]]

    def identity(self, unit: Unit, task: int) -> Tensor:
        """A scaling in the subspace of an old task that does nothing yet, to be learnt."""
        basis = self.bases_[unit.name]
        return torch.eye(len(self.columns_[task][unit.name]), device=basis.device).requires_grad_()

    def weights(self, label: int) -> dict[str, Tensor]:
        """The scaled weights of a task, and its statistics."""
        found, scalings = super().weights(label), self.scalings_.get(label, {})
        for name in {unit.weight: None for unit in self.units if scalings.get(unit.name)}:
            weight = self.model_.get_parameter(name)
            parts = [self.scaled(u, u.rows(weight), scalings.get(u.name, {})) for u in self.units if u.weight == name]
            found[name] = torch.cat(parts).view_as(weight)
        return found

    def scaled(self, unit: Unit, weight: Tensor, scalings: Mapping[int, Tensor]) -> Tensor:
        """A unit's weight (out, d_in) with its part in each old task's subspace scaled."""
        made = weight
        for j, scaling in scalings.items():
            basis = self.basis_of(unit, j)
            inside = weight @ basis
            made = made + (inside @ scaling - inside) @ basis.T
        return made

    def after_task(self, task: TaskView) -> None:
        """Enlarge the bases by inputs of the scaled network, and keep the scalings as they are now."""
        self.columns_[self.label_] = {}
        super().after_task(task)
        own = self.scalings_[self.label_]
        self.scalings_[self.label_] = {name: {j: q.detach() for j, q in of.items()} for name, of in own.items()}

    def remember(self, unit: Unit, gram: Tensor, share: float) -> None:
        """Choose the task's columns, and enlarge the basis by the new ones."""
        made = with_pooled(self.bases_[unit.name], gram, share)
        self.bases_[unit.name], self.columns_[self.label_][unit.name] = made
