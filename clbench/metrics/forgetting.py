"""Backward transfer and forgetting: what later tasks did to earlier ones."""

from __future__ import annotations

import numpy as np

from clbench.metrics.accuracy import GEM
from clbench.metrics.metric import Array, Metric, mean

DIAZ = "Díaz-Rodríguez et al., Don't forget, there is more than forgetting, NeurIPS 2018 workshop"


def changes(r: Array) -> Array:
    """Of each task but the last, its score at the end minus right after learning: (T-1,); R (T+1, T)."""
    return np.asarray(r[-1] - np.diagonal(r[1:]))[:-1]


def backward_transfer(r: Array) -> float:
    """Mean change from right after learning to the end; R (T+1, T)."""
    return mean(changes(r))


def over_tasks(r: Array, total: float) -> float:
    """A sum over the T-1 tasks that can change, divided by T as some released code does; NaN for one task."""
    return total / r.shape[1] if r.shape[1] > 1 else float("nan")


def lower_changes(r: Array) -> Array:
    """R[i,j] - R[j,j] of every pair i > j: (T(T-1)/2,); R (T+1, T)."""
    row, column = np.tril_indices(r.shape[1], -1)
    return r[1 + row, column] - r[1 + column, column]


def _pairwise(r: Array) -> float:
    return mean(lower_changes(r))


def _remembering(r: Array) -> float:
    return 1.0 + min(_pairwise(r), 0.0) if not np.isnan(_pairwise(r)) else float("nan")


def _positive(r: Array) -> float:
    return max(_pairwise(r), 0.0) if not np.isnan(_pairwise(r)) else float("nan")


def from_best(r: Array) -> float:
    """Mean drop of each task but the last from its best over rows 1..T-1 to the end; R (T+1, T)."""
    best = r[1:-1, :-1].max(axis=0) if r.shape[1] > 1 else np.empty(0)
    return mean(best - r[-1, :-1])


def drops_since_learned(r: Array) -> Array:
    """Drop of each task but the last from its best over rows j..T-1 to the end: (T-1,); R (T+1, T)."""
    n = r.shape[1]
    return np.array([r[j + 1 : n, j].max() - r[-1, j] for j in range(n - 1)])


def since_learned(r: Array) -> float:
    """Mean drop since learned; R (T+1, T)."""
    return mean(drops_since_learned(r))


def since_learned_nonneg(r: Array) -> float:
    """Mean drop from the best over rows j..T, the last included; R (T+1, T)."""
    return mean(np.maximum(drops_since_learned(r), 0.0))


def first_last(r: Array) -> float:
    """Mean drop from right after learning to the end; R (T+1, T)."""
    return mean(-changes(r))


def _stability_ratio(r: Array) -> float:
    learned = np.diagonal(r[1:])[:-1]
    return mean(r[-1, :-1] / learned) if (learned != 0).all() else float("nan")


FORGETTING = (
    Metric(
        "backward_transfer.gem2017",
        "backward transfer",
        "(1/(T-1)) sum_{j<T} (R[T,j] - R[j,j])",
        f"{GEM} (BWT)",
        True,
        (-1.0, 1.0),
        backward_transfer,
    ),
    Metric(
        "backward_transfer.gem2017_code",
        "backward transfer, released code of GEM",
        "(1/T) sum_{j<T} (R[T,j] - R[j,j])",
        f"the code released with {GEM}: a mean over T values of which the last is 0; also BeGin's AF",
        True,
        (-1.0, 1.0),
        lambda r: over_tasks(r, float(changes(r).sum())),
        differs="from the paper: divided by T, not T-1",
    ),
    Metric(
        "backward_transfer.diaz2018",
        "backward transfer over all rows",
        "sum_{i>j} (R[i,j] - R[j,j]) / (T(T-1)/2)",
        f"{DIAZ} (BWT); what Continuum prints",
        True,
        (-1.0, 1.0),
        _pairwise,
    ),
    Metric(
        "remembering.diaz2018",
        "remembering",
        "1 - |min(B, 0)|, B = backward_transfer.diaz2018",
        f"{DIAZ} (REM)",
        True,
        (0.0, 1.0),
        _remembering,
    ),
    Metric(
        "positive_backward_transfer.diaz2018",
        "positive backward transfer",
        "max(B, 0), B = backward_transfer.diaz2018",
        f"{DIAZ} (BWT+)",
        True,
        (0.0, 1.0),
        _positive,
    ),
    Metric(
        "forgetting.rwalk2018",
        "forgetting",
        "(1/(T-1)) sum_{j<T} (max_{l=1..T-1} R[l,j] - R[T,j])",
        "Chaudhry et al., Riemannian Walk, ECCV 2018; all earlier rows count",
        False,
        (-1.0, 1.0),
        from_best,
    ),
    Metric(
        "forgetting.since_learned",
        "forgetting since learned",
        "(1/(T-1)) sum_{j<T} (max_{l=j..T-1} R[l,j] - R[T,j])",
        "the rule of Continuum and FACIL: only rows since task j was trained count",
        False,
        (-1.0, 1.0),
        since_learned,
    ),
    Metric(
        "forgetting.since_learned_nonneg",
        "forgetting since learned, never negative",
        "(1/(T-1)) sum_{j<T} (max_{l=j..T} R[l,j] - R[T,j])",
        "the rule of CL-Gym, PyCIL and the function of mammoth: the last row counts too",
        False,
        (0.0, 1.0),
        since_learned_nonneg,
    ),
    Metric(
        "forgetting.first_last",
        "forgetting first to last",
        "(1/(T-1)) sum_{j<T} (R[j,j] - R[T,j])",
        "the rule of Avalanche; minus backward_transfer.gem2017",
        False,
        (-1.0, 1.0),
        first_last,
    ),
    Metric(
        "stability_ratio",
        "share of the learned score that is left",
        "(1/(T-1)) sum_{j<T} R[T,j] / R[j,j]; undefined where an R[j,j] is 0",
        "defined by clbench",
        True,
        (0.0, float("inf")),
        _stability_ratio,
        unit="ratio",
        is_difference=False,
    ),
)
