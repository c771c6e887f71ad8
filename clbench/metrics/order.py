"""How much the order of tasks matters."""

from __future__ import annotations

import numpy as np

from clbench.metrics.metric import Array, Metric, mean

APD = "Yoon et al., Scalable and Order-robust Continual Learning (APD), ICLR 2020"
_OPD = "OPD_t = max_r P[r,t] - min_r P[r,t], P[r,t] = final accuracy of task t under order r"
_ORDERS = "formula from memory of the paper; undefined for one order. It grows with the number of orders: fix that at 5"


def disparities(order_scores: Array) -> Array:
    """Of each task its largest minus its smallest final accuracy over orders: (T,); order_scores (orders, T)."""
    if len(order_scores) < 2:
        return np.full(np.shape(order_scores)[1], np.nan)
    return np.asarray(np.max(order_scores, axis=0) - np.min(order_scores, axis=0))


def _mean(order_scores: Array) -> float:
    return mean(disparities(order_scores))


def _max(order_scores: Array) -> float:
    return float(np.max(disparities(order_scores)))


ORDER = tuple(
    Metric(
        f"order_disparity.apd2020_{name}",
        f"{title} order disparity",
        f"{formula}; {_OPD}",
        f"{APD} ({short})",
        False,
        (0.0, 1.0),
        function,
        reads=("order_scores",),
        differs=_ORDERS,
    )
    for name, title, formula, short, function in (
        ("mean", "mean", "(1/T) sum_t OPD_t", "AOPD", _mean),
        ("max", "largest", "max_t OPD_t", "MOPD", _max),
    )
)
