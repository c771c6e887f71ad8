"""The figures of LIBERO: learning speed, what is lost afterwards, and the area under both."""

from __future__ import annotations

import numpy as np

from clbench.metrics.metric import Array, Metric, mean

LIBERO_PAPER = "Liu et al., LIBERO, NeurIPS 2023, section 3.3 and the reference notebook"
_SELECTED = "c[k,k,e] is held at its maximum from the evaluation e* on where it is first reached"


def speeds(curves: Array) -> Array:
    """Of each task the mean of its learning curve, held at its maximum once reached: (K,); curves (K, E)."""
    best = curves.max(axis=1, keepdims=True)
    before = np.arange(curves.shape[1]) < curves.argmax(axis=1)[:, None]
    return np.asarray(np.where(before, curves, best).mean(axis=1))


def losses(r: Array) -> Array:
    """Of each task but the last its mean drop over the later rows: (K-1,); R (K+1, K)."""
    n = r.shape[1]
    return np.array([mean(r[k + 1, k] - r[k + 2 :, k]) for k in range(n - 1)])


def areas(r: Array, curves: Array) -> Array:
    """Of each task the mean of its speed and its scores after later tasks: (K,); R (K+1, K), curves (K, E)."""
    later = [r[k + 2 :, k].sum() for k in range(r.shape[1])]
    return np.asarray((speeds(curves) + later) / (r.shape[1] - np.arange(r.shape[1])))


def _negative_transfer(r: Array) -> float:
    n = r.shape[1]
    return float(losses(r).sum() / n) if n > 1 else float("nan")


def _speed(curves: Array) -> float:
    return mean(speeds(curves))


def _area(r: Array, curves: Array) -> float:
    return mean(areas(r, curves)) if len(curves) == r.shape[1] else float("nan")


LIBERO = (
    Metric(
        "forward_transfer.libero2023",
        "learning speed (LIBERO)",
        f"(1/K) sum_k FWT_k, FWT_k = mean over evaluations e, 0 included, of c[k,k,e]; {_SELECTED}",
        f"{LIBERO_PAPER} (FWT)",
        True,
        (0.0, 1.0),
        _speed,
        reads=("success_curves",),
        is_difference=False,
    ),
    Metric(
        "negative_backward_transfer.libero2023",
        "negative backward transfer (LIBERO)",
        "(1/K) sum_k NBT_k, NBT_k = mean_{t>k} (R[k,k] - R[t,k]), NBT_K = 0",
        f"{LIBERO_PAPER} (NBT)",
        False,
        (-1.0, 1.0),
        _negative_transfer,
        differs="undefined for one task, where the notebook gives 0; as there, the last task counts as 0 in the mean",
    ),
    Metric(
        "area_under_success.libero2023",
        "area under the success curve (LIBERO)",
        "(1/K) sum_k (FWT_k + sum_{t>k} R[t,k]) / (K-k+1), FWT_k as in forward_transfer.libero2023",
        f"{LIBERO_PAPER} (AUC)",
        True,
        (0.0, 1.0),
        _area,
        reads=("R", "success_curves"),
        is_difference=False,
    ),
)
