"""CUBER: its regimes, what they let move, and what of it is TRGP; with a literal sum of projections planted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from clbench.capture import Unit
from clbench.evaluate import evaluate
from clbench.strategies import cuber
from clbench.strategies.cuber import CUBER
from clbench.strategies.trgp import TRGP
from clbench.strategy import Trainer
from clbench.stream import Batch, Inputs
from tests.toy_projection import FEW, learnt, matrices, permuted
from tests.toy_streams import CPU


def in_regime(strategy: Any, regime: int) -> list[tuple[int, str, int]]:
    """(task, unit, old task) of every slot that was in this regime when the task began."""
    found = [(t, u, j, r) for t, by in strategy.regimes_.items() for u, of in by.items() for j, r in of.items()]
    return [(t, u, j) for t, u, j, r in found if r == regime]


@pytest.mark.parametrize(("options", "trust"), [({"correlation": 1.5}, 0.5), ({"trust": 1.5}, 1.5)])
def test_without_regime_3_it_is_trgp_bit_for_bit(options: dict[str, Any], trust: float) -> None:
    mine, trgp = learnt(CUBER(trainer=FEW, **options)), learnt(TRGP(trainer=FEW, trust=trust))
    assert not in_regime(mine, 3)
    ours, theirs = matrices(mine), matrices(trgp)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    first, second = (evaluate(s, "task-incremental", permuted().tasks, 3, CPU).accuracy for s in (mine, trgp))
    assert np.array_equal(first, second)


class Louder(CUBER):
    """All gradients are those of a loss eight times as large."""

    def gradients(self, inputs: Inputs, y: Tensor) -> dict[str, Tensor]:
        return {name: 8 * gradient for name, gradient in super().gradients(inputs, y).items()}


def test_the_size_of_the_loss_changes_no_regime() -> None:
    loud, quiet = (learnt(cls(trainer=FEW, correlation=0.1), permuted(4)) for cls in (Louder, CUBER))
    assert in_regime(quiet, 3) and in_regime(quiet, 1)
    assert loud.regimes_ == quiet.regimes_ and loud.fallen_ == quiet.fallen_


def test_regimes_are_those_of_the_two_conditions() -> None:
    strategy: Any = CUBER(trust=0.5, correlation=0.5)
    strategy.bases_, strategy.label_ = {"w": torch.eye(4)}, 4
    strategy.columns_ = {1: {"w": torch.tensor([0, 1])}, 2: {"w": torch.tensor([1])}, 3: {"w": torch.tensor([3])}}
    strategy.regimes_, strategy.fallen_ = {4: {}}, {4: {}}
    strategy.gradients_ = {j: {"w": torch.tensor([g])} for j, g in {1: [-1.0, 0, 0, 0], 2: [1.0, 2, 0, 0]}.items()}
    strategy.gradients_[3] = {"w": torch.tensor([[1.0, 1, 1, 1]])}
    for scale in (1.0, 7.0):  # of the loss
        assert strategy.trust_region(Unit("w"), scale * torch.tensor([[1.0, 2.0, 0.0, 0.5]])) == [1, 2]
        assert strategy.regimes_[4] == {"w": {1: 2, 2: 3, 3: 1}}
        assert strategy.backward("w") == [2]
    assert strategy.project(Unit("w"), torch.ones(1, 4)).tolist() == [[0.0, 0.0, 1.0, 0.0]]  # 1 shares its only column
    strategy.columns_[1]["w"] = torch.tensor([0, 2])
    assert strategy.project(Unit("w"), torch.ones(1, 4)).tolist() == [[0.0, 1.0, 0.0, 0.0]]


@pytest.mark.parametrize("check", ["epoch", "step"])
def test_regime_3_occurs_and_falls_back_to_regime_2_for_good(check: Any) -> None:
    strategy = learnt(CUBER(trainer=Trainer(epochs=8, batch_size=20, momentum=0.0), check=check), permuted(4))
    began = in_regime(strategy, 3)
    fell = [(t, u, j) for t, by in strategy.fallen_.items() for u, of in by.items() for j in of]
    assert len(began) >= 3 and set(fell) <= set(began)
    assert len(fell) >= len(began) / 2


class Watched(CUBER):
    """Notes after each step which old tasks are in regime 3, and the penalty of each loss."""

    def setup(self, *args: Any) -> None:
        super().setup(*args)
        self.alive: list[tuple[int, set[tuple[str, int]]]] = []
        self.penalties: list[tuple[int, bool, float]] = []

    def loss(self, batch: Batch) -> Tensor:
        first = batch.epoch == 1 and batch.step == 1
        self.penalties.append((self.label_, first, float(self.moved().detach())))
        return super().loss(batch)

    def after_step(self, batch: Batch) -> None:
        super().after_step(batch)
        self.alive.append((self.label_, {(u.name, j) for u in self.units for j in self.backward(u.name)}))


@pytest.mark.parametrize(("tiny", "ok"), [(cuber.TINY, True), (0.0, False)])
def test_the_penalty_has_a_gradient_where_nothing_has_moved(
    tiny: float, ok: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    strategy = learnt(CUBER(trainer=FEW), upto=2)
    monkeypatch.setattr(cuber, "TINY", tiny)
    strategy.regimes_[2] = {unit.name: {1: 3} for unit in strategy.units}
    strategy.fallen_[2], strategy._start = {}, matrices(strategy)
    strategy.model_.zero_grad()
    strategy.moved().backward()
    found = [strategy.model_.get_parameter(unit.weight).grad for unit in strategy.units]
    assert all(not gradient.any() if ok else gradient.isnan().any() for gradient in found)


class Lasting(CUBER):
    """Regime 3 lasts until the task ends."""

    def after_step(self, batch: Batch) -> None:
        TRGP.after_step(self, batch)


def test_the_penalty_begins_at_zero_and_regime_3_never_comes_back() -> None:
    strategy = learnt(Watched(trainer=FEW), permuted(4))
    assert max(p for _, first, p in strategy.penalties if first) < 1e-4
    assert max(p for _, first, p in strategy.penalties if not first) > 1e-2
    for (task, before), (later, after) in zip(strategy.alive, strategy.alive[1:], strict=False):
        assert task != later or after <= before


def check_regimes_say_what_moves(strategy: Any) -> None:
    """Invariant 8: only inside subspaces that no old task of another regime has a part in."""
    seen: list[dict[str, Tensor]] = []
    bases: list[dict[str, Tensor]] = []

    def look(strategy: Any, index: int) -> None:
        seen.append(matrices(strategy))
        bases.append({name: basis.clone() for name, basis in strategy.bases_.items()})

    learnt(strategy, permuted(4), look=look)
    moved = 0
    for task in (2, 3, 4):
        for unit in strategy.units:
            update = seen[task][unit.name] - seen[task - 1][unit.name]
            free = [j for j, r in strategy.regimes_[task][unit.name].items() if r == 3]
            old = {j: strategy.columns_[j][unit.name] for j in range(1, task)}
            basis = bases[task - 1][unit.name]
            held = sorted({k for j, columns in old.items() if j not in free for k in columns.tolist()})
            loose = sorted(set(range(basis.shape[1])) - set(held))
            assert (update @ basis[:, held]).norm() < 1e-4 * update.norm(), f"{unit.name} in task {task}"
            moved += bool(loose) and bool((update @ basis[:, loose]).norm() > 1e-3 * update.norm())
            assert free or not loose
    assert moved, "regime 3 lets something move"


def test_what_moves_is_what_the_regimes_say() -> None:
    check_regimes_say_what_moves(CUBER(trainer=FEW))
    check_regimes_say_what_moves(Lasting(trainer=FEW))


def check_projecting_removes_a_part_once(strategy: Any) -> None:
    """What is left of an update has no part in the bases, and what was outside of them is all there."""
    for unit in strategy.units:
        update = torch.randn(5, len(strategy.bases_[unit.name]))
        left = strategy.project(unit, update)
        basis = strategy.bases_[unit.name]
        assert (left @ basis).norm() < 1e-4 * update.norm(), "a part of the update is left, or taken twice"
        assert (left - (update - update @ basis @ basis.T)).norm() < 1e-4 * update.norm()


class Literal(CUBER):
    """Takes out the sum of the projections on each old task's basis; vectors they share are taken out twice."""

    def project(self, unit: Unit, update: Tensor) -> Tensor:
        bases = [self.basis_of(unit, j) for j in self.columns_ if j not in self.backward(unit.name)]
        return update - sum((update @ b @ b.T for b in bases), torch.zeros_like(update))


def test_a_literal_sum_of_projections_is_noticed() -> None:
    check_projecting_removes_a_part_once(learnt(CUBER(trainer=FEW, correlation=1.5)))
    with pytest.raises(AssertionError, match="taken twice"):
        check_projecting_removes_a_part_once(learnt(Literal(trainer=FEW, correlation=1.5), upto=2))
