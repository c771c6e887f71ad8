"""Many methods over many independent streams: average ranks, and which of them the streams can tell apart.

Two streams of one data set are not independent: they count as one (pick one, or average them).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clbench.errors import BadInput
from clbench.statistics.means import ALPHA
from clbench.statistics.paired import holm, least_p

Array = NDArray[np.float64]
DECIMALS = 12  # scores that differ only beyond are equal but for rounding


@dataclass(frozen=True)
class Ranking:
    """Methods by average rank over ``n_streams`` independent streams, best first; rank 1 is best.

    ``p_values`` (k, k): pairwise Wilcoxon signed-rank tests after Holm's correction, 1 on the diagonal.
    ``groups``: the largest sets of methods (positions) of which no two are separated, the bars of a
    critical-difference diagram; a method that is separated from all others is in none.
    """

    names: tuple[str, ...]
    ranks: tuple[float, ...]
    n_streams: int
    friedman_p: float
    p_values: Array
    groups: tuple[tuple[int, ...], ...]

    def in_words(self) -> str:
        """What the streams separate and what they do not."""
        k = len(self.names)
        told = f"Friedman's test over {self.n_streams} streams and {k} methods: p = {self.friedman_p:.3g}"
        if not self.friedman_p < ALPHA:
            return f"{told}; it finds no difference, so none of the {k} methods is separated from another."
        apart = sum(self.p_values[a, b] < ALPHA for a, b in combinations(range(k), 2))
        bars = "; ".join(", ".join(self.names[m] for m in group) for group in self.groups)
        rest = f"; not separated from each other: {bars}" if bars else ""
        return f"{told}; {apart} of {math.comb(k, 2)} pairs are separated (Wilcoxon, Holm){rest}."


def least_streams(n_methods: int) -> int:
    """How many independent streams are needed before any pair of methods can be separated at 5 %.

    The smallest exact p of Wilcoxon's test, 2 / 2^N, must pass Holm's correction over all pairs.

    >>> [least_streams(k) for k in (2, 3, 4, 5, 6, 8)]
    [6, 7, 8, 9, 10, 11]
    """
    pairs, n = math.comb(n_methods, 2), 1
    while least_p(n) * pairs > ALPHA:
        n += 1
    return n


def too_few(n_streams: int, n_methods: int) -> str | None:
    """Why methods cannot be ranked over so few streams, in words; None where they can."""
    if n_methods < 2:
        return f"ranking over streams needs at least 2 methods that were run on every stream; there are {n_methods}"
    needed = least_streams(n_methods)
    if n_streams >= needed:
        return None
    smallest = min(1.0, least_p(n_streams) * math.comb(n_methods, 2))
    return (
        f"no average ranks and no critical-difference diagram: {n_methods} methods need at least {needed} independent "
        f"data sets, here {'is' if n_streams == 1 else 'are'} {n_streams}, with which no pair could get below "
        f"p = {smallest:.2g}"
    )


def rank_methods(scores: ArrayLike, names: Sequence[str], higher_is_better: bool = True) -> Ranking:
    """Rank methods over independent streams: Friedman's test, then pairwise Wilcoxon tests with Holm's correction.

    ``scores``: (streams, methods), one number each, e.g. the mean over seeds; no cell may be missing. Where Friedman's
    test finds nothing, no pair is looked at further. Raises ``BadInput`` with the reason of ``too_few``.
    Source: Demsar, Statistical comparisons of classifiers over multiple data sets, 2006; Benavoli et al., Should we
    really use post-hoc tests based on mean-ranks?, 2016 (why Wilcoxon and not Nemenyi: independent of the pool).
    """
    values: Array = np.asarray(scores, dtype=np.float64).round(DECIMALS)
    if values.ndim != 2 or values.shape[1] != len(names) or len(set(names)) < len(names):
        raise BadInput(f"scores have the shape (streams, methods), a name for each method; got {values.shape}, {names}")
    if np.isnan(values).any():
        raise BadInput("a method without a score on some stream cannot be ranked over streams; leave it out")
    if reason := too_few(*values.shape):
        raise BadInput(reason)
    from scipy.stats import rankdata

    ranks = rankdata(-values if higher_is_better else values, axis=1).mean(axis=0)
    order = sorted(range(len(names)), key=lambda k: (ranks[k], names[k]))
    values = values[:, order]
    friedman_p = _friedman(values)
    p_values = _wilcoxon_holm(values)
    alike = p_values >= ALPHA if friedman_p < ALPHA else np.ones_like(p_values, dtype=bool)
    return Ranking(
        names=tuple(names[k] for k in order),
        ranks=tuple(float(ranks[k]) for k in order),
        n_streams=values.shape[0],
        friedman_p=friedman_p,
        p_values=p_values,
        groups=tuple(sorted(group for group in _cliques(alike) if len(group) > 1)),
    )


def nemenyi_critical_difference(n_methods: int, n_streams: int, alpha: float = ALPHA) -> float:
    """By how much average ranks must differ in Nemenyi's test: q sqrt(k (k + 1) / (6 N)).

    >>> round(nemenyi_critical_difference(4, 10), 4)
    1.4832
    """
    from scipy.stats import studentized_range

    q = float(studentized_range.isf(alpha, n_methods, math.inf)) / math.sqrt(2)
    return q * math.sqrt(n_methods * (n_methods + 1) / (6 * n_streams))


def _friedman(values: Array) -> float:
    """Friedman's p; with two methods Wilcoxon's, as Friedman's needs three; 1 where all methods are equal."""
    from scipy.stats import friedmanchisquare

    if (values == values[:, :1]).all():
        return 1.0
    if values.shape[1] < 3:
        return float(_wilcoxon_holm(values)[0, 1])
    return float(friedmanchisquare(*values.T).pvalue)


def _wilcoxon_holm(values: Array) -> Array:
    """(k, k) corrected p values; methods that are equal on every stream have p = 1."""
    from scikit_posthocs import posthoc_wilcoxon

    _, first, same = np.unique(values, axis=1, return_index=True, return_inverse=True)
    k, raw = values.shape[1], np.ones((len(first), len(first)))
    if len(first) > 1:  # equal methods have no differences to rank
        raw = posthoc_wilcoxon(values[:, first].T).to_numpy(copy=True)
        np.fill_diagonal(raw, 1.0)
    raw = raw[np.ix_(same, same)]
    upper = np.triu_indices(k, 1)
    corrected = np.ones((k, k))
    corrected[upper] = holm(raw[upper].tolist())
    return np.minimum(corrected, corrected.T)


def _cliques(alike: NDArray[np.bool_]) -> list[tuple[int, ...]]:
    """The largest sets in which every two are alike.

    Source: Bron and Kerbosch, Finding all cliques of an undirected graph, 1973, with a pivot.
    """
    near = [{j for j in range(len(alike)) if alike[i, j] and j != i} for i in range(len(alike))]
    found: list[tuple[int, ...]] = []

    def grow(group: set[int], may: set[int], done: set[int]) -> None:
        if not may and not done:
            found.append(tuple(sorted(group)))
            return
        pivot = max(may | done, key=lambda i: len(near[i] & may))
        for i in sorted(may - near[pivot]):
            grow(group | {i}, may & near[i], done & near[i])
            may, done = may - {i}, done | {i}

    grow(set(), set(range(len(alike))), set())
    return found
