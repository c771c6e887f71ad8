"""Means over seeds, with the interval that is honest for a handful of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MIN_SEEDS = 3
LEVEL = 0.95
ALIKE = 1e-12  # differences closer than this are equal but for rounding


@dataclass(frozen=True)
class Estimate:
    """A mean over ``n`` seeds; the interval is ``mean ± half_width``, NaN where there is none."""

    mean: float
    half_width: float
    n: int


def estimate(values: Sequence[float], level: float = LEVEL) -> Estimate:
    """Estimate the mean over seeds with its Student-t interval, in the unit of the values.

    Why t and no bootstrap: at 3 and 5 values the percentile bootstrap's "95 %" interval covers the mean in
    75 % and 83 % of cases, the t interval in 95 % (normal values). Below 3 values there is no interval.
    A NaN among the values makes mean and interval NaN: nothing is left out silently.

    >>> e = estimate([0.5, 0.6, 0.7])
    >>> round(e.mean, 3), round(e.half_width, 3), e.n
    (0.6, 0.248, 3)
    >>> estimate([0.5, 0.6]).half_width
    nan
    """
    n = len(values)
    if n == 0:
        return Estimate(math.nan, math.nan, 0)
    mean = float(np.mean(values))
    if n < MIN_SEEDS or math.isnan(mean):
        return Estimate(mean, math.nan, n)
    from scipy.stats import t

    quantile = float(t.ppf((1 + level) / 2, n - 1))
    return Estimate(mean, quantile * float(np.std(values, ddof=1)) / math.sqrt(n), n)


def p_value(differences: Sequence[float]) -> float:
    """Two-sided p of the paired t test that the mean difference is zero; 1 where all are zero, NaN below 3 values.

    >>> round(p_value([1.0, 2.0, 3.0]), 4)
    0.0742
    """
    if len(differences) < MIN_SEEDS or math.isnan(math.fsum(differences)):
        return math.nan
    if max(differences) - min(differences) < ALIKE:
        return 1.0 if abs(differences[0]) < ALIKE else 0.0
    from scipy.stats import ttest_1samp

    return float(ttest_1samp(differences, 0.0).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction of p values; NaN stays NaN and does not count.

    Source: Holm, A simple sequentially rejective multiple test procedure, 1979.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted((p, k) for k, p in enumerate(p_values) if not math.isnan(p))
    corrected, largest = list(p_values), 0.0
    for rank, (p, k) in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p))
        corrected[k] = largest
    return corrected
