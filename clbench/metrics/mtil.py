"""Transfer, average and last of multi-domain task-incremental learning: every task is scored after every task."""

from __future__ import annotations

import numpy as np

from clbench.metrics.accuracy import last_row
from clbench.metrics.metric import Array, Metric, mean

ZSCL = "Zheng et al., Preventing Zero-Shot Transfer Degradation (ZSCL), ICCV 2023, and its notebook"


def transfers(r: Array) -> Array:
    """Of each task but the first, the mean of its scores after rows 1..j-1: (T-1,); R (T+1, T)."""
    return np.array([mean(r[1 : j + 1, j]) for j in range(1, r.shape[1])])


def _transfer(r: Array) -> float:
    return mean(transfers(r))


def _average(r: Array) -> float:
    return mean(r[1:])


MTIL = (
    Metric(
        "transfer.mtil2023",
        "zero-shot transfer (MTIL)",
        "(1/(T-1)) sum_{j=2..T} mean_{i<j} R[i,j]; row 0 is not read",
        f"{ZSCL} (Transfer)",
        True,
        (0.0, 1.0),
        _transfer,
        is_difference=False,
    ),
    Metric(
        "average.mtil2023",
        "average over all cells (MTIL)",
        "(1/T²) sum_{i,j} R[i,j], tasks not learned yet included",
        f"{ZSCL} (Avg.)",
        True,
        (0.0, 1.0),
        _average,
        is_difference=False,
    ),
    Metric(
        "last.mtil2023",
        "average after the last task (MTIL)",
        "(1/T) sum_j R[T,j]",
        f"{ZSCL} (Last); the number of average_accuracy.gem2017",
        True,
        (0.0, 1.0),
        last_row,
        is_difference=False,
    ),
)
