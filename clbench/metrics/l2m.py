"""The L2M suite: lifetime figures, each the mean over the tasks or pairs of tasks that have a value.

``l2m_terms`` has the values before averaging, recovery times, and the scale of l2metrics.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from clbench.metrics.l2m_terms import (
    backward_transfer,
    contrast,
    forward_transfer,
    lifetime,
    mean_evaluation_performance,
    mean_training_performance,
    performance_maintenance,
    performance_recovery,
    ratio,
    relative_performance,
    sample_efficiency,
)
from clbench.metrics.metric import Metric

SOURCE = "New et al. 2022 (arXiv 2201.08278), as l2metrics 3.1.0 computes it"
DIFFERS = "of scores as they are (l2metrics smooths and scales unless told not to); a missing score or curve gives NaN"


def _mean_of(terms: Callable[..., Any], **fixed: Any) -> Callable[..., float]:
    return lambda *inputs, **given: lifetime(terms(*inputs, **fixed, **given))


def _maintenance(*inputs: Any, **given: Any) -> float:
    r, *blocks = inputs
    return lifetime(performance_maintenance(r, blocks=blocks[0] if blocks else None, **given))


_MAINTENANCE = Metric(
    "performance_maintenance.l2m_mrlep",
    "performance maintenance",
    "mean over tasks j of mean over rows i > e of R[i,j] - R[e,j], e = row after the latest training of task j",
    SOURCE,
    True,
    (-1.0, 1.0),
    _maintenance,
    differs=DIFFERS,
    optional=("train_order",),
)
_FORWARD = Metric(
    "forward_transfer.l2m_ratio",
    "forward transfer (L2M, ratio)",
    "mean over pairs a, b of R[i,b] / R[i-1,b], row i after the first training of a and before any of b",
    SOURCE,
    True,
    (0.0, math.inf),
    _mean_of(forward_transfer, compare=ratio),
    unit="ratio",
    is_difference=False,
    differs=f"{DIFFERS}; a pair whose R[i-1,b] is 0 has no value",
    optional=("train_order",),
)
_BACKWARD = replace(
    _FORWARD,
    id="backward_transfer.l2m_ratio",
    title="backward transfer (L2M, ratio)",
    formula="mean over pairs a, b of R[i,b] / R[i-1,b], row i after the first training of a that follows one of b",
    function=_mean_of(backward_transfer, compare=ratio),
)


def _contrast(metric: Metric, terms: Callable[..., Any]) -> Metric:
    return replace(
        metric,
        id=metric.id.replace("ratio", "contrast"),
        title=metric.title.replace("ratio", "contrast"),
        formula=metric.formula.replace("R[i,b] / R[i-1,b]", "(R[i,b] - R[i-1,b]) / (R[i,b] + R[i-1,b])"),
        bounds=(-1.0, 1.0),
        function=_mean_of(terms, compare=contrast),
        differs=f"{DIFFERS}; a pair whose two scores add up to 0 has no value",
    )


L2M = (
    _MAINTENANCE,
    replace(
        _MAINTENANCE,
        id="performance_maintenance.l2m_mrtlp",
        title="performance maintenance against training",
        formula="mean over tasks j of mean over rows i > e of R[i,j] - p, e = row after the latest training of task j, "
        "p = mean of the last tenth of that training's curve",
        reads=("R", "blocks"),
    ),
    Metric(
        "performance_recovery.l2m",
        "performance recovery",
        "mean over tasks of minus the Theil-Sen slope of recovery times; recovery time: experiences of a learning "
        "block until as good as the last tenth of the one before",
        SOURCE,
        True,
        (-math.inf, math.inf),
        _mean_of(performance_recovery),
        reads=("blocks",),
        unit="experiences",
        differs=f"{DIFFERS}; NaN where no task has three learning blocks",
        optional=("train_order",),
    ),
    _FORWARD,
    _contrast(_FORWARD, forward_transfer),
    _BACKWARD,
    _contrast(_BACKWARD, backward_transfer),
    Metric(
        "relative_performance.l2m",
        "performance relative to single-task experts",
        "mean over tasks of sum(x[:m]) / sum(y[:m]), x = training curve, y = that of training on the task alone, "
        "m = length of the shorter",
        SOURCE,
        True,
        (0.0, math.inf),
        _mean_of(relative_performance),
        reads=("blocks", "expert_blocks"),
        unit="ratio",
        is_difference=False,
        differs=DIFFERS,
        optional=("train_order",),
    ),
    Metric(
        "sample_efficiency.l2m",
        "sample efficiency",
        "mean over tasks of (max x / max y)(argmax y / argmax x), x = training curve, y = that of training on the task "
        "alone, both smoothed over a fifth of their length; 0 where x falls or stays under a fifth of y",
        SOURCE,
        True,
        (0.0, math.inf),
        _mean_of(sample_efficiency),
        reads=("blocks", "expert_blocks"),
        unit="ratio",
        is_difference=False,
        differs=f"{DIFFERS}; the first maximum of a level curve is not left to rounding",
        optional=("train_order",),
    ),
    Metric(
        "mean_evaluation_performance.l2m",
        "mean evaluation performance",
        "mean over tasks j and rows i = 0..E of R[i,j]",
        SOURCE,
        True,
        (0.0, 1.0),
        _mean_of(mean_evaluation_performance),
        is_difference=False,
        differs=DIFFERS,
    ),
    Metric(
        "mean_training_performance.l2m",
        "mean training performance",
        "mean over tasks of the mean over its learning blocks of the mean of the training curve",
        SOURCE,
        True,
        (0.0, 1.0),
        _mean_of(mean_training_performance),
        reads=("blocks",),
        is_difference=False,
        differs=DIFFERS,
        optional=("train_order",),
    ),
)
