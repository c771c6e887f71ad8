"""Numbers that need more than the run itself: an ideal model, single-task experts, restricted answers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from clbench.metrics.metric import Array, Metric, mean

KEMKER = "Kemker et al., Measuring Catastrophic Forgetting in Neural Networks, AAAI 2018"
_IDEAL = "A = matrix of the reference 'joint' on the same card and seed"
_REMEMBERED = "formula from memory of the paper; the ideal is the joint model's accuracy on the first task"


def _over_ideal(values: Sequence[float] | Array, a: Array) -> float:
    return mean(np.asarray(values) / a[-1, 0]) if a[-1, 0] != 0 else math.nan


def _omega_base(r: Array, a: Array) -> float:
    return _over_ideal(r[2:, 0], a)


def _omega_new(r: Array) -> float:
    return mean(np.diagonal(r[1:])[1:])


def _omega_all(r: Array, a: Array) -> float:
    return _over_ideal([mean(r[i, :i]) for i in range(2, len(r))], a)


def _normalised_area(blocks: Sequence[Array], expert_blocks: Sequence[Sequence[Array]]) -> float:
    if len(blocks) != len(expert_blocks):  # a task was trained more than once: the definition says nothing
        return math.nan
    own = np.array([mean(block) for block in blocks])
    alone = np.array([mean(np.concatenate(list(runs))) if len(runs) else math.nan for runs in expert_blocks])
    return mean((own - alone) / (1.0 - alone)) if (alone != 1).all() else math.nan


def _cumulative(cumulative_rows: Array) -> float:
    return mean(cumulative_rows[-1])


REFERENCE = (
    Metric(
        "omega_base.kemker2018",
        "first task kept, against the ideal",
        f"(1/(T-1)) sum_{{i>=2}} R[i,1] / A[T,1], {_IDEAL}",
        f"{KEMKER} (Ω_base)",
        True,
        (0.0, math.inf),
        _omega_base,
        reads=("R", "A"),
        unit="ratio",
        is_difference=False,
        reference="joint",
        differs=_REMEMBERED,
    ),
    Metric(
        "omega_new.kemker2018",
        "new tasks learned",
        "(1/(T-1)) sum_{i>=2} R[i,i]",
        f"{KEMKER} (Ω_new)",
        True,
        (0.0, 1.0),
        _omega_new,
        is_difference=False,
        differs="formula from memory of the paper",
    ),
    Metric(
        "omega_all.kemker2018",
        "all tasks seen, against the ideal",
        f"(1/(T-1)) sum_{{i>=2}} (1/i) sum_{{j<=i}} R[i,j] / A[T,1], {_IDEAL}",
        f"{KEMKER} (Ω_all)",
        True,
        (0.0, math.inf),
        _omega_all,
        reads=("R", "A"),
        unit="ratio",
        is_difference=False,
        reference="joint",
        differs=f"{_REMEMBERED}; tasks are weighted equally",
    ),
    Metric(
        "forward_transfer.cw2021",
        "forward transfer (Continual World)",
        "(1/T) sum_i (AUC_i - AUC_i^b) / (1 - AUC_i^b), AUC_i = mean score while task i is trained, "
        "AUC_i^b = the same of a model trained on task i alone from scratch",
        "Wołczyk et al., Continual World, NeurIPS 2021",
        True,
        (-math.inf, 1.0),
        _normalised_area,
        reads=("blocks", "expert_blocks"),
        unit="ratio",
        differs="of one run; the paper's code averages AUC over seeds before the ratio",
    ),
    Metric(
        "cumulative_accuracy.soutif2021",
        "cumulative accuracy",
        "(1/T) sum_k C[T,k], C[i,k] = accuracy after task i on the classes of tasks 1..k among those classes alone",
        "Soutif-Cormerais et al., On the importance of cross-task features for class-incremental learning, 2021; "
        "Avalanche reports C[i,k] for each k",
        True,
        (0.0, 1.0),
        _cumulative,
        reads=("cumulative_rows",),
        is_difference=False,
        differs="the source gives one number for each k; this is their mean after the last task",
    ),
)
