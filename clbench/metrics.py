"""Continual-learning metrics: pure functions of a score matrix, each under an id that never changes meaning.

A metric that reads a missing cell is NaN; so is a difference over pairs of tasks when there is one task.
For a matrix whose scores are better when lower, differences change sign and best means smallest, so that
negative transfer and positive forgetting always mean damage.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clbench.errors import unknown
from clbench.matrix import ScoreMatrix

References = Mapping[str, ScoreMatrix]
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Metric:
    """A number derived from a score matrix, with its definition.

    ``bounds`` hold for scores in [0, 1]. ``reference`` names the reference strategy whose matrix on the
    same card and seed is read as well; without that matrix the metric is NaN.
    """

    id: str
    title: str
    formula: str
    source: str
    higher_is_better: bool
    bounds: tuple[float, float]
    function: Callable[[Array, Array | None], float]
    reference: str | None = None
    is_difference: bool = True
    matrix: str = "accuracy"

    def __call__(self, matrix: ScoreMatrix, references: References | None = None) -> float:
        """Compute the metric; NaN when a cell or reference it reads is missing."""
        other = (references or {}).get(self.reference) if self.reference else None
        if self.reference and (other is None or other.n_tasks != matrix.n_tasks):
            return float("nan")
        sign = -1.0 if self.is_difference and not matrix.higher_is_better else 1.0
        return float(self.function(sign * matrix.values, sign * other.values if other is not None else None))


def _mean(values: Array) -> float:
    return float(np.mean(values)) if values.size else float("nan")


def _mean_of_last_row(r: Array, _: Array | None) -> float:
    return _mean(r[-1])


def _learning_accuracy(r: Array, _: Array | None) -> float:
    return _mean(np.diagonal(r[1:]))


def _average_incremental_accuracy(r: Array, _: Array | None) -> float:
    return _mean(np.array([_mean(row[: i + 1]) for i, row in enumerate(r[1:])]))


def _backward_transfer(r: Array, _: Array | None) -> float:
    return _mean((r[-1] - np.diagonal(r[1:]))[:-1])


def _forward_transfer(r: Array, _: Array | None) -> float:
    return _mean((np.diagonal(r[:-1]) - r[0])[1:])


def _forgetting(r: Array, _: Array | None) -> float:
    best = r[1:-1, :-1].max(axis=0) if r.shape[1] > 1 else np.empty(0)
    return _mean(best - r[-1, :-1])


def _forgetting_since_learned(r: Array, _: Array | None) -> float:
    n = r.shape[1]
    return _mean(np.array([r[j + 1 : n, j].max() - r[-1, j] for j in range(n - 1)]))


def _forgetting_first_last(r: Array, _: Array | None) -> float:
    return -_backward_transfer(r, None)


def _intransigence(r: Array, reference: Array | None) -> float:
    assert reference is not None
    return _mean(np.diagonal(reference[1:]) - np.diagonal(r[1:]))


def _gain_over_scratch(r: Array, reference: Array | None) -> float:
    assert reference is not None
    return _mean(np.diagonal(r[1:]) - np.diagonal(reference[1:]))


_ALL = (
    Metric(
        "average_accuracy.gem2017",
        "average accuracy",
        "(1/T) sum_j R[T,j]",
        "Lopez-Paz and Ranzato, Gradient Episodic Memory, NeurIPS 2017 (ACC)",
        True,
        (0.0, 1.0),
        _mean_of_last_row,
        is_difference=False,
    ),
    Metric(
        "average_incremental_accuracy.icarl2017_macro",
        "average incremental accuracy",
        "(1/T) sum_i (1/i) sum_{j<=i} R[i,j]",
        "Rebuffi et al., iCaRL, CVPR 2017; tasks weighted equally",
        True,
        (0.0, 1.0),
        _average_incremental_accuracy,
        is_difference=False,
    ),
    Metric(
        "learning_accuracy.mer2019",
        "learning accuracy",
        "(1/T) sum_j R[j,j]",
        "Riemer et al., Meta-Experience Replay, ICLR 2019",
        True,
        (0.0, 1.0),
        _learning_accuracy,
        is_difference=False,
    ),
    Metric(
        "backward_transfer.gem2017",
        "backward transfer",
        "(1/(T-1)) sum_{j<T} (R[T,j] - R[j,j])",
        "Lopez-Paz and Ranzato, Gradient Episodic Memory, NeurIPS 2017 (BWT)",
        True,
        (-1.0, 1.0),
        _backward_transfer,
    ),
    Metric(
        "forward_transfer.gem2017",
        "forward transfer",
        "(1/(T-1)) sum_{j=2..T} (R[j-1,j] - R[0,j])",
        "Lopez-Paz and Ranzato, Gradient Episodic Memory, NeurIPS 2017 (FWT)",
        True,
        (-1.0, 1.0),
        _forward_transfer,
    ),
    Metric(
        "forward_transfer.cuber2022",
        "forward transfer (CUBER)",
        "(1/T) sum_j (R[j,j] - a_j), a_j = A[j,j], A = matrix of the reference 'independent' on the same card and seed",
        "Lin et al., Beyond Not-Forgetting (CUBER), NeurIPS 2022 (FWT); "
        "the paper prints it minus that of GPM, where a_j cancels",
        True,
        (-1.0, 1.0),
        _gain_over_scratch,
        reference="independent",
    ),
    Metric(
        "forgetting.rwalk2018",
        "forgetting",
        "(1/(T-1)) sum_{j<T} (max_{l=1..T-1} R[l,j] - R[T,j])",
        "Chaudhry et al., Riemannian Walk, ECCV 2018; all earlier rows count",
        False,
        (-1.0, 1.0),
        _forgetting,
    ),
    Metric(
        "forgetting.since_learned",
        "forgetting since learned",
        "(1/(T-1)) sum_{j<T} (max_{l=j..T-1} R[l,j] - R[T,j])",
        "the rule of Continuum and FACIL: only rows since task j was trained count",
        False,
        (-1.0, 1.0),
        _forgetting_since_learned,
    ),
    Metric(
        "forgetting.first_last",
        "forgetting first to last",
        "(1/(T-1)) sum_{j<T} (R[j,j] - R[T,j])",
        "the rule of Avalanche; minus backward_transfer.gem2017",
        False,
        (-1.0, 1.0),
        _forgetting_first_last,
    ),
    Metric(
        "intransigence.rwalk2018",
        "intransigence",
        "(1/T) sum_k (C[k,k] - R[k,k]), C = matrix of the reference 'cumulative' on the same card and seed",
        "Chaudhry et al., Riemannian Walk, ECCV 2018",
        False,
        (-1.0, 1.0),
        _intransigence,
        reference="cumulative",
    ),
    Metric(
        "task_inference_accuracy.last",
        "task inference accuracy",
        "(1/T) sum_j I[T,j], I[i,j] = share of task j's test samples taken for task j after task i",
        "the task is inferred as in Wortsman et al., Supermasks in Superposition, NeurIPS 2020; "
        "read from the matrix `task_inference_accuracy`",
        True,
        (0.0, 1.0),
        _mean_of_last_row,
        is_difference=False,
        matrix="task_inference_accuracy",
    ),
)

METRICS: Mapping[str, Metric] = {metric.id: metric for metric in _ALL}

HEADLINE = (  # of the accuracy matrix
    "average_accuracy.gem2017",
    "average_incremental_accuracy.icarl2017_macro",
    "learning_accuracy.mer2019",
    "forgetting.rwalk2018",
    "backward_transfer.gem2017",
    "forward_transfer.gem2017",
    "forward_transfer.cuber2022",
    "intransigence.rwalk2018",
)


def metric(id: str) -> Metric:
    """Return the metric with this id; ``BadInput`` with the nearest id otherwise."""
    if id not in METRICS:
        raise unknown("metric", id, METRICS)
    return METRICS[id]


def score(
    matrix: ScoreMatrix, ids: tuple[str, ...] = HEADLINE, references: References | None = None
) -> dict[str, float]:
    """Compute several metrics of one matrix: ``{id: value}``, NaN where undefined."""
    return {id: metric(id)(matrix, references) for id in ids}
