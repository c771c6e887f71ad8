"""Two methods on one stream, compared seed by seed: the same order, split and initial weights, another method."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from clbench.statistics.aggregates import probability_of_improvement
from clbench.statistics.means import ALIKE, LEVEL, MIN_SEEDS, Estimate, Values, estimate

MAX_SEEDS_EXACT = 16  # 65,536 ways to flip signs; above, the t test says as much


@dataclass(frozen=True)
class Paired:
    """What the seeds that both have say of a first method minus a second one, in the unit of the values.

    ``first``, ``second``: their values by ``seeds``. ``positive``: share of seeds with a positive difference.
    ``better``: share of seeds on which the first is better, a tie counting one half, with its exact interval
    ``better_low`` to ``better_high`` (NaN with fewer than 3 seeds). ``improvement``: probability that a run of the
    first is better than any run of the second. ``p``: of the paired t test; ``sign_flip_p``: of the exact test, NaN
    above 16 seeds, and ``least_p`` the smallest it can be with so many seeds.
    """

    seeds: tuple[int, ...]
    higher_is_better: bool
    first: tuple[float, ...]
    second: tuple[float, ...]
    difference: Estimate
    positive: float
    better: float
    better_low: float
    better_high: float
    improvement: float
    p: float
    sign_flip_p: float
    least_p: float


def paired(first: Mapping[int, float], second: Mapping[int, float], higher_is_better: bool = True) -> Paired:
    """Compare two methods by their values per seed, over the seeds that both have; NaN stays NaN.

    >>> pair = paired({0: 0.8, 1: 0.7, 2: 0.9}, {0: 0.5, 1: 0.6, 2: 0.7, 3: 0.1})
    >>> round(pair.difference.mean, 3), pair.difference.n, pair.better, pair.sign_flip_p, pair.least_p
    (0.2, 3, 1.0, 0.25, 0.25)
    """
    seeds = tuple(sorted(first.keys() & second.keys()))
    one, other = (tuple(values[seed] for seed in seeds) for values in (first, second))
    gaps = differences(first, second)
    better, low, high = _better([gap if higher_is_better else -gap for gap in gaps])
    x, y = (np.array(values).reshape(-1, 1) for values in (one, other))  # (runs, one stream)
    return Paired(
        seeds=seeds,
        higher_is_better=higher_is_better,
        first=one,
        second=other,
        difference=estimate(gaps),
        positive=math.nan if math.isnan(better) else sum(gap > ALIKE for gap in gaps) / len(gaps),
        better=better,
        better_low=low,
        better_high=high,
        improvement=probability_of_improvement(x, y) if higher_is_better else probability_of_improvement(y, x),
        p=p_value(gaps),
        sign_flip_p=sign_flip_p(gaps),
        least_p=least_p(len(gaps)),
    )


def differences(first: Mapping[int, float], second: Mapping[int, float]) -> list[float]:
    """First minus second for each seed that both have, by seed."""
    return [first[seed] - second[seed] for seed in sorted(first.keys() & second.keys())]


def _better(gaps: Sequence[float]) -> tuple[float, float, float]:
    """Share of positive differences, ties one half, and its Clopper-Pearson interval: all ties lost, all ties won."""
    if not gaps or math.isnan(math.fsum(gaps)):
        return math.nan, math.nan, math.nan
    n, won, tied = len(gaps), sum(gap > ALIKE for gap in gaps), sum(abs(gap) <= ALIKE for gap in gaps)
    share = (won + tied / 2) / n
    if n < MIN_SEEDS:
        return share, math.nan, math.nan
    from scipy.stats import binomtest

    low = binomtest(won, n).proportion_ci(LEVEL, method="exact").low
    high = binomtest(won + tied, n).proportion_ci(LEVEL, method="exact").high
    return share, float(low), float(high)


def p_value(differences: Values) -> float:
    """Two-sided p of the paired t test that the mean difference is zero; 1 where all are zero, NaN below 3 values.

    >>> round(p_value([1.0, 2.0, 3.0]), 4)
    0.0742
    """
    if len(differences) < MIN_SEEDS or math.isnan(math.fsum(differences)):
        return math.nan
    if max(differences) - min(differences) < ALIKE:
        return 1.0 if abs(differences[0]) < ALIKE else 0.0
    from scipy.stats import ttest_1samp

    return float(ttest_1samp(sorted(differences), 0.0).pvalue)


def sign_flip_p(differences: Values) -> float:
    """Exact two-sided p that the differences are as likely to have the other sign; NaN for none or more than 16.

    The share of the 2^n ways to choose the signs whose sum is as far from zero as the one seen.
    Source: Fisher, The design of experiments, 1935, section 21 (the randomisation test of paired differences).

    >>> sign_flip_p([0.1, 0.2, 0.3]), sign_flip_p([0.1, 0.2, -0.3])
    (0.25, 1.0)
    """
    n = len(differences)
    if not 1 <= n <= MAX_SEEDS_EXACT or math.isnan(math.fsum(differences)):
        return math.nan
    signs = 1.0 - 2.0 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)
    sums = np.abs(signs @ np.sort(np.asarray(differences, dtype=np.float64)))
    return float(np.mean(sums >= sums[0] - ALIKE))


def least_p(n: int) -> float:
    """The smallest two-sided p that n pairs can reach in the exact sign-flip test and in Wilcoxon's: 2 / 2^n.

    >>> least_p(3), least_p(5), least_p(6)
    (0.25, 0.0625, 0.03125)
    """
    return min(1.0, 2.0 ** (1 - n)) if n else math.nan


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
