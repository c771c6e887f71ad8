"""One number over runs and streams, and its interval: runs resampled within each stream, streams kept.

Arrays have shape (runs, streams), and scores are comparable across streams; with axes in front of these two every
function gives an array of its numbers. A NaN among the scores makes the number NaN.
Source: Agarwal et al., Deep reinforcement learning at the edge of the statistical precipice, 2021 (rliable).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray

from clbench.errors import BadInput
from clbench.statistics.means import LEVEL, MIN_SEEDS, RESAMPLES

Array = NDArray[np.float64]
Aggregate = Callable[..., Any]  # of one method's scores, or of two methods' to compare
DECIMALS = 12  # scores that differ only beyond are equal but for rounding
AT_ONCE = 2**18  # numbers resampled at a time
TOO_NARROW = 10  # runs of one stream below which a bootstrap interval covers less than its level


def grand_mean(x: ArrayLike) -> float:
    """Mean over runs and streams."""
    return _plain(np.mean(_scores(x), axis=(-2, -1)))


def median_of_stream_means(x: ArrayLike) -> float:
    """Median over streams of the mean over runs."""
    return _plain(np.median(np.mean(_scores(x), axis=-2), axis=-1))


def iqm(x: ArrayLike) -> float:
    """Interquartile mean: mean without the lowest and highest ``int(0.25 n)`` of the n scores of all runs and streams.

    With fewer than 4 scores it is the plain mean.
    """
    scores = _scores(x)
    ordered = np.sort(scores.reshape(*scores.shape[:-2], -1), axis=-1)
    n = ordered.shape[-1]
    cut = int(0.25 * n)
    inner = np.mean(ordered[..., cut : n - cut], axis=-1)
    return _plain(np.where(np.isnan(ordered[..., -1]), np.nan, inner))  # NaN is sorted last


def optimality_gap(x: ArrayLike, gamma: float = 1.0) -> float:
    """By how much scores fall short of ``gamma`` on average, scores above it counting as ``gamma``; low is good."""
    return _plain(gamma - np.mean(np.minimum(_scores(x), gamma), axis=(-2, -1)))


def probability_of_improvement(x: ArrayLike, y: ArrayLike) -> float:
    """How often a run of x beats a run of y on the same stream, ties one half: mean over streams of U / (n m)."""
    first, second = (np.round(_scores(scores), DECIMALS) for scores in (x, y))
    if first.shape[-1] != second.shape[-1]:
        raise BadInput(f"both methods need the same streams; got {first.shape[-1]} and {second.shape[-1]}")
    gaps = first[..., :, None, :] - second[..., None, :, :]
    won = np.mean((np.sign(gaps) + 1) / 2, axis=(-3, -2, -1)) if gaps.size else np.float64(math.nan)
    return _plain(won)


def performance_profile(x: ArrayLike, taus: Sequence[float] | Array) -> Array:
    """For each tau the share of all runs and streams whose score is above it; (..., taus)."""
    scores = _scores(x)
    above = np.greater(scores[..., None], np.asarray(taus, dtype=np.float64))
    missing = np.expand_dims(np.isnan(scores).any(axis=(-2, -1)), -1)
    return np.where(missing, np.nan, above.mean(axis=(-3, -2)))


def stratified_interval(
    aggregate: Aggregate,
    *methods: ArrayLike,
    paired: bool = False,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    generator: Generator | None = None,
) -> tuple[float, float]:
    """Percentile bootstrap interval of an aggregate of one or more methods: runs resampled within each stream.

    ``paired`` draws the same seeds for every method: then their runs lie in the same order, seed by seed. NaN with
    fewer than 3 runs. The order of runs changes nothing; without a ``generator`` the same scores give the same
    interval. With fewer than 10 runs of one stream it is too narrow (at 5 runs "95 %" means 83 %): say so.
    Differs: 10,000 resamples by default, rliable draws 50,000 for one method and 2,000 for a comparison.
    """
    arrays = [_scores(x) for x in methods]
    if paired and len({a.shape for a in arrays}) > 1:
        raise BadInput(f"paired methods need the same seeds and streams; got {[a.shape for a in arrays]}")
    if min(a.shape[0] for a in arrays) < MIN_SEEDS or any(np.isnan(a).any() for a in arrays):
        nothing = _plain(np.asarray(aggregate(*arrays)) * np.nan)
        return nothing, nothing
    drawn = _resampled(_ordered(arrays, paired), paired, resamples, generator or np.random.default_rng(0))
    found = np.concatenate([np.asarray(aggregate(*some)) for some in drawn])
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return _plain(low), _plain(high)


def _ordered(arrays: list[Array], paired: bool) -> list[Array]:
    """Runs sorted within each stream, pairs by their first: so that the order of seeds changes no bit."""
    if not paired:
        return [np.sort(a, axis=0) for a in arrays]
    order = np.lexsort(arrays[::-1], axis=0)
    return [np.take_along_axis(a, order, axis=0) for a in arrays]


def _resampled(arrays: list[Array], paired: bool, resamples: int, generator: Generator) -> Iterator[list[Array]]:
    """Resamples of every method, (some, runs, streams) each, a bounded number of them at a time."""
    some = max(1, AT_ONCE // max(a.size for a in arrays))
    for start in range(0, resamples, some):
        size = min(some, resamples - start)
        rows = [generator.integers(a.shape[0], size=(size, *a.shape)) for a in (arrays[:1] if paired else arrays)]
        rows = rows * len(arrays) if paired else rows
        yield [a[row, np.arange(a.shape[1])] for a, row in zip(arrays, rows, strict=True)]


def _scores(x: ArrayLike) -> Array:
    scores = np.asarray(x, dtype=np.float64)
    if scores.ndim < 2:
        raise BadInput(f"scores have the shape (runs, streams); got {scores.shape}")
    return scores


def _plain(value: Any) -> float:
    """A number as a float; an array, where there were more axes, as it is."""
    return float(value) if np.ndim(value) == 0 else cast(float, value)
