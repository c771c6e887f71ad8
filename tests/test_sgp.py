"""SGP: importances after the paper's formulas, and GPM where all are 1."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from clbench.capture import Unit
from clbench.strategies.gpm import GPM
from clbench.strategies.sgp import SGP
from tests.toy_projection import FEW, learnt, matrices


def literal(basis: Tensor, importance: Tensor, r: Tensor, n_new: int, new: Tensor, alpha: float) -> Tensor:
    """Importances as the page writes them, by singular value decompositions of the inputs themselves."""
    u, s, _ = torch.linalg.svd(basis @ basis.T @ r, full_matrices=False)
    old = ((basis.T @ u).square() * s.square()).sum(1).sqrt()
    left = torch.linalg.svdvals(r - basis @ basis.T @ r)[:n_new]
    values = torch.cat([old, left])
    mapped = (alpha + 1) * values / (alpha * values + values.max())
    return torch.cat([(importance + mapped[: len(old)]).clamp(0, 1), mapped[len(old) :]])


def test_importances_are_those_of_the_formulas() -> None:
    torch.manual_seed(0)
    strategy = SGP(alpha=5.0)
    strategy.bases_, strategy.importances_ = {"w": torch.zeros(20, 0)}, {"w": torch.zeros(0)}
    mixing = torch.randn(20, 20).double() @ torch.logspace(0, -2, 20).double().diag()
    basis, importance = torch.zeros(20, 0).double(), torch.zeros(0).double()
    for share in (0.8, 0.9, 0.2):  # the last adds nothing: importances rise all the same
        r = mixing @ torch.randn(20, 60).double()
        strategy.remember(Unit("w"), r @ r.T, share)
        grown = strategy.bases_["w"].double()
        n_new = grown.shape[1] - basis.shape[1]
        importance = literal(basis, importance, r, n_new, grown, 5.0)
        basis = grown
        np.testing.assert_allclose(strategy.importances_["w"], importance, atol=1e-5)
        mixing = mixing.roll(2, 0)
    assert n_new == 0
    first = strategy.importance(torch.tensor([4.0, 2.0, 0.0]))
    assert first.tolist() == pytest.approx([1.0, 12 / 14, 0.0])


class Certain(SGP):
    """Every direction is as important as can be."""

    def importance(self, values: Tensor) -> Tensor:
        return torch.ones_like(values)


def test_with_importances_of_one_it_is_gpm() -> None:
    certain, gpm, sgp = matrices(learnt(Certain(trainer=FEW))), *(matrices(learnt(c(trainer=FEW))) for c in (GPM, SGP))
    assert all(torch.equal(certain[name], gpm[name]) for name in gpm)
    assert any(not torch.equal(sgp[name], gpm[name]) for name in gpm)


def test_importances_lie_between_0_and_1_and_never_fall() -> None:
    seen: list[dict[str, Tensor]] = []
    learnt(SGP(trainer=FEW), look=lambda s, index: seen.append({k: v.clone() for k, v in s.importances_.items()}))
    for before, after in pairwise(seen):
        for name, values in after.items():
            assert values.min() >= 0 and values.max() <= 1
            assert (values[: len(before[name])] >= before[name]).all()


def test_an_unimportant_direction_is_updated_and_an_important_one_is_not() -> None:
    strategy = SGP()
    strategy.bases_ = {"w": torch.eye(4)[:, :2]}
    strategy.importances_ = {"w": torch.tensor([1.0, 0.25])}
    assert strategy.project(Unit("w"), torch.ones(1, 4)).tolist() == [[0.0, 0.75, 1.0, 1.0]]
