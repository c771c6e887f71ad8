"""Calibration: how far confidence can be believed, from predictions and over a stream.

The candidates of each cell are those of the run's protocol, so the logits are masked as its accuracies are.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from clbench.metrics.accuracy import incremental, last_row
from clbench.metrics.metric import Array, Metric, mean

BINS = 15


def expected_calibration_error(confidence: ArrayLike, correct: ArrayLike, bins: int = BINS) -> float:
    """Mean distance between confidence and accuracy in bins of equal width, weighted by samples; NaN of none.

    ``confidence`` (N,) in [0, 1], ``correct`` (N,) 0, 1 or the share of a tie. A bin holds its upper edge.

    >>> expected_calibration_error([0.9, 0.9, 0.6], [1, 0, 1])  # (2/3) |0.5 - 0.9| + (1/3) |1 - 0.6|
    0.4
    """
    confidence, correct = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    if confidence.size == 0 or np.isnan(confidence).any() or np.isnan(correct).any():
        return math.nan
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(place, weights=correct - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / confidence.size)


def negative_log_likelihood(truth: ArrayLike) -> float:
    """Mean of -log p, p (N,) the probability of the truth; infinite where one is 0, NaN of none."""
    with np.errstate(divide="ignore"):
        return mean(-np.log(np.asarray(truth, dtype=np.float64)))


def brier_score(truth: ArrayLike, squares: ArrayLike) -> float:
    """Mean squared distance of the probabilities from the truth, summed over classes: 1 - 2 p + sum_c p_c².

    ``truth`` (N,): probability p of the true class. ``squares`` (N,): sum over classes of squared probabilities.

    >>> brier_score([0.5, 1.0], [0.5, 1.0])
    0.25
    """
    return mean(1.0 - 2.0 * np.asarray(truth, dtype=np.float64) + np.asarray(squares, dtype=np.float64))


_MEASURES: tuple[tuple[str, str, str, str, str, float], ...] = (
    (
        "expected_calibration_error",
        "calibration error",
        "fraction",
        "sum_m (n_m/n) |acc_m - conf_m| over 15 bins of equal width",
        "Naeini et al., Obtaining Well Calibrated Probabilities Using Bayesian Binning, AAAI 2015",
        1.0,
    ),
    (
        "negative_log_likelihood",
        "negative log-likelihood",
        "nats",
        "mean of -log p, p = probability of the truth",
        "the usual definition",
        math.inf,
    ),
    (
        "brier_score",
        "Brier score",
        "squared probability",
        "mean of sum_c (p_c - y_c)², summed over the classes of the cell",
        "Brier, Verification of forecasts expressed in terms of probability, Monthly Weather Review 1950",
        2.0,
    ),
)
_TIMES: tuple[tuple[str, str, str, Callable[[Array], float]], ...] = (
    ("last", "at the end", "(1/T) sum_j R[T,j]", last_row),
    ("over_time", "over time", "(1/T) sum_i (1/i) sum_{j<=i} R[i,j]", incremental),
)
CALIBRATION = tuple(
    Metric(
        f"{name}.{when}",
        f"{title} {time}",
        f"{average}, R = {cell}",
        f"{source}; read from the matrix `{name}`",
        False,
        (0.0, high),
        function,
        is_difference=False,
        matrix=name,
        unit=unit,
    )
    for name, title, unit, cell, source, high in _MEASURES
    for when, time, average, function in _TIMES
)
