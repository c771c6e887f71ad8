"""TRGP: its memory, its trust region and its scalings, with the faults of the public code planted."""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import pytest
import torch
from torch import Tensor

from clbench.capture import Unit
from clbench.models import ConvNet
from clbench.projection import energy_along
from clbench.strategies.gpm import GPM
from clbench.strategies.trgp import TRGP, with_pooled
from clbench.stream import Query, TaskView
from tests.toy_projection import (
    ALL,
    FEW,
    NotingTRGP,
    answers,
    check_energy_is_held,
    check_old_answers_stand,
    check_updates_stay_outside,
    learnt,
    matrices,
    mlp,
    permuted,
    split,
)


@cache
def trained(cls: type[TRGP] = TRGP, trust: float = 0.0) -> Any:
    """After three tasks; with ``trust`` 0 both old tasks are in every trust region of the third."""
    return learnt(cls(trainer=FEW, trust=trust))


def test_updates_stay_out_of_the_bases() -> None:
    check_updates_stay_outside(TRGP(trainer=FEW))


def check_own_basis_is_the_strongest(strategy: Any) -> None:
    """A task's columns hold the share of its energy, and no fewer would; what is new of them is in the basis."""
    check_energy_is_held(strategy)
    for k, (unit, gram, share, before, after) in enumerate(strategy.steps):
        columns = strategy.columns_[1 + k // len(strategy.units)][unit.name]
        held = energy_along(gram, after[:, columns])
        assert held.sum() >= (share - 1e-6) * gram.trace() > held.sum() - held.min() - 1e-6 * gram.trace()
        assert set(range(before.shape[1], after.shape[1])) <= set(columns.tolist())


class StrongestMissing(NotingTRGP):
    """``>`` for ``>=`` where new directions are told from old ones: the strongest never enters (G1)."""

    def remember(self, unit: Unit, gram: Tensor, share: float) -> None:
        super().remember(unit, gram, share)
        step, columns = self.steps[-1], self.columns_[self.label_][unit.name]
        n_old, grown = step[3].shape[1], self.bases_[unit.name]
        if self.n_learnt_ and grown.shape[1] > n_old:
            self.bases_[unit.name] = torch.cat([grown[:, :n_old], grown[:, n_old + 1 :]], dim=1)
            self.columns_[self.label_][unit.name] = columns[columns != columns.max()]
            self.steps[-1] = (*step[:-1], self.bases_[unit.name])


def test_the_pooled_basis_of_a_task_holds_its_energy() -> None:
    check_own_basis_is_the_strongest(NotingTRGP(trainer=FEW))


def test_a_basis_without_the_strongest_new_direction_is_noticed() -> None:
    with pytest.raises(AssertionError, match="of the energy instead of"):
        check_own_basis_is_the_strongest(StrongestMissing(trainer=FEW))


def test_old_columns_are_pooled_with_new_directions_by_energy() -> None:
    basis = torch.eye(5)[:, :2]
    gram = torch.tensor([3.0, 0.1, 8.0, 1.0, 0.5]).diag().double()
    after, columns = with_pooled(basis, gram, 0.85)
    assert columns.tolist() == [0, 2]  # 8 + 3 of 12.6; the weak old column is not the task's
    assert after.shape == (5, 3) and after[:, 2].abs().tolist() == pytest.approx([0, 0, 1, 0, 0])
    assert with_pooled(after, gram, 0.5)[0].shape == (5, 3)


class FromUnscaled(NotingTRGP):
    """The memory is taken from the network without its scalings (G3)."""

    def after_task(self, task: TaskView) -> None:
        scalings, self.scalings_[self.label_] = self.scalings_[self.label_], {}
        super().after_task(task)
        self.scalings_[self.label_] = {name: {j: q.detach() for j, q in of.items()} for name, of in scalings.items()}


def test_a_memory_of_the_unscaled_network_is_noticed() -> None:
    check_old_answers_stand(NotingTRGP(trainer=FEW, **ALL))
    with pytest.raises(AssertionError, match="have changed"):
        check_old_answers_stand(FromUnscaled(trainer=FEW, **ALL))


def check_every_scaling_is_applied(strategy: Any) -> None:
    """The network of a task is W + sum (W B_j)(Q_j - 1) B_jT in every layer that has scalings."""
    for label, scalings in strategy.scalings_.items():
        used = strategy.weights(label)
        for unit in strategy.units:
            weight = unit.rows(strategy.model_.get_parameter(unit.weight)).detach()
            wanted = weight.double()
            for j, q in scalings.get(unit.name, {}).items():
                basis = strategy.basis_of(unit, j).double()
                assert q.shape == (basis.shape[1], basis.shape[1]), "no larger than the subspace"
                wanted = wanted + weight.double() @ basis @ (q.double() - torch.eye(len(q))) @ basis.T
            found = unit.rows(used.get(unit.weight, strategy.model_.get_parameter(unit.weight)))
            scaled = (wanted - weight).norm()  # 0 where nothing is to be scaled
            assert scaled > 1e-3 * weight.norm() or not scalings.get(unit.name), "every scaling is learnt"
            assert (found - wanted).norm() <= 1e-3 * scaled, f"{unit.name} of task {label} is not scaled"


class FirstLayerOnly(TRGP):
    """Scalings are used only where the first layer has a trust region (G4)."""

    def weights(self, label: int) -> dict[str, Tensor]:
        if not self.scalings_.get(label, {}).get(self.units[0].name):
            return self.own_.of(label)
        return super().weights(label)


@pytest.mark.parametrize(("cls", "ok"), [(TRGP, True), (FirstLayerOnly, False)])
def test_every_layer_with_a_trust_region_is_scaled(cls: type[TRGP], ok: bool) -> None:
    strategy = learnt(cls(trainer=FEW, trust=0.0))
    check_every_scaling_is_applied(strategy)
    strategy.scalings_[3]["body.1.weight"] = {}
    if ok:
        check_every_scaling_is_applied(strategy)
    else:
        with pytest.raises(AssertionError, match="is not scaled"):
            check_every_scaling_is_applied(strategy)


def check_scalings_are_apart(strategy: Any) -> None:
    """Changing one scaling changes no other."""
    every = [q for of in strategy.scalings_.values() for unit in of.values() for q in unit.values()]
    assert len(every) == 9  # three units, one old task and then two
    for q in every:
        before = [other.clone() for other in every if other is not q]
        q.add_(1.0)
        after = [other for other in every if other is not q]
        q.sub_(1.0)
        assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True)), "two scalings are one"


class Aliased(TRGP):
    """All scalings are views of one tensor (G9)."""

    def setup(self, *args: Any) -> None:
        super().setup(*args)
        self.shared = torch.eye(128)

    def identity(self, unit: Unit, task: int) -> Tensor:
        r = len(self.columns_[task][unit.name])
        return self.shared[:r, :r].detach().requires_grad_()


def test_scalings_are_parameters_of_their_own() -> None:
    check_scalings_are_apart(learnt(TRGP(trainer=FEW, trust=0.0)))
    with pytest.raises(AssertionError, match="two scalings are one"):
        check_scalings_are_apart(learnt(Aliased(trainer=FEW, trust=0.0)))


def test_identities_leave_the_weights_as_they_are() -> None:
    strategy = trained()
    for unit in strategy.units:
        weight = matrices(strategy)[unit.name]
        identities = {j: strategy.identity(unit, j) for j in (1, 2)}
        assert (strategy.scaled(unit, weight, identities) - weight).abs().max() < 1e-6


def test_without_a_trust_region_the_memory_is_still_not_that_of_gpm() -> None:
    trgp, gpm = learnt(TRGP(trainer=FEW, trust=1.5)), learnt(GPM(trainer=FEW))
    assert not any(trgp.scalings_[3].values())
    ranks = [[basis.shape[1] for basis in strategy.bases_.values()] for strategy in (trgp, gpm)]
    assert ranks[0] > ranks[1], "weak old columns are not counted, so that more new ones are needed"
    ours, theirs = matrices(trgp), matrices(gpm)
    assert all((ours[name] - theirs[name]).norm() > 1e-3 * theirs[name].norm() for name in theirs)


def test_a_task_is_answered_with_its_own_scalings() -> None:
    strategy = trained()
    x = permuted().tasks[0].test.take(torch.arange(50))
    by = [answers(strategy, label, x) for label in (1, 2, 3)]
    own = strategy.model_.scores(x, Query(None, tuple(range(10)), ()))
    assert torch.equal(by[0], own)  # the first task has none
    assert not torch.allclose(by[1], own) and not torch.allclose(by[1], by[2])
    assert torch.equal(answers(strategy, 9, x), own)  # not learnt yet


def test_the_trust_region_is_the_two_old_tasks_that_hold_most_of_the_gradient() -> None:
    strategy: Any = TRGP(trust=0.5)
    strategy.bases_ = {"w": torch.eye(6)}
    strategy.columns_ = {j: {"w": torch.tensor(c)} for j, c in {1: [0], 2: [1, 2], 3: [3], 4: [1, 2, 3]}.items()}
    unit = Unit("w")
    assert strategy.trust_region(unit, torch.tensor([[1.0, 3.0, 0.0, 2.0, 0.0, 0.0]])) == [4, 2]
    assert strategy.trust_region(unit, torch.tensor([[1.0, 0.0, 0.0, 0.0, 5.0, 0.0]])) == []
    assert strategy.trust_region(unit, torch.zeros(1, 6)) == []


def test_of_a_head_with_rows_per_task_nothing_is_scaled_or_projected() -> None:
    for stream, mode in ((permuted(), "per_task"), (split(), "sliced")):
        strategy = learnt(TRGP(trainer=FEW, trust=0.0), stream, mlp(head_mode=mode))
        assert set(strategy.scalings_[2]) == {"body.1.weight", "body.3.weight"}
        check_every_scaling_is_applied(strategy)


def test_a_convolutional_network_is_scaled_in_every_layer() -> None:
    model = partial(ConvNet, width=4, hidden=20)
    strategy = learnt(TRGP(trainer=FEW, trust=0.0), permuted(2), model)
    assert len(strategy.scalings_[2]) == 6
    check_every_scaling_is_applied(strategy)
