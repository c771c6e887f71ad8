"""Ranks that the data can carry: neighbours in a table that they cannot tell apart share one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from operator import itemgetter

from clbench.statistics.means import ALPHA, MIN_SEEDS
from clbench.statistics.paired import differences, holm, p_value

READING = """\
Neighbours of a table share a rank unless their seeds separate them: paired t test over the seeds that both have, \
p < 0.05 after Holm's correction over the neighbours of the table. A rank counts the entries above its group. The \
first and the last of a group may still differ; a shared rank says only that there is no step between neighbours. Bold \
answers another question: the first, and the entries that the same test, corrected over all comparisons with the \
first, does not separate from it. An entry with few seeds may be bold below one with many that is not."""


@dataclass(frozen=True)
class Ties:
    """The rank of each entry, best first (1, 1, 3: a shared rank counts all entries above it).

    ``p_values``: of each entry against the next one, after Holm's correction; NaN where there are too few seeds.
    ``best``: whether an entry is the first, or not separated from it.
    """

    ranks: tuple[int, ...]
    p_values: tuple[float, ...]
    best: tuple[bool, ...] = ()


def tie_groups(entries: Sequence[Mapping[int, float]], higher_is_better: bool = True) -> Ties:
    """Rank entries, sorted best first, by their values per seed; ``READING`` says when neighbours share a rank.

    >>> best, next, last = {0: 0.9, 1: 0.8, 2: 0.9}, {0: 0.8, 1: 0.9, 2: 0.8}, {0: 0.3, 1: 0.4, 2: 0.3}
    >>> tie_groups([best, next, last]).ranks, tie_groups([best, next, last]).best
    ((1, 1, 3), (True, True, False))
    """
    p_values, steps = _separated(list(pairwise(entries)), higher_is_better)
    ranks = [1] * min(1, len(entries))
    for k, step in enumerate(steps, start=1):
        ranks.append(k + 1 if step else ranks[-1])
    _, behind = _separated([(entries[0], other) for other in entries[1:]], higher_is_better)
    best = (*[True] * min(1, len(entries)), *(not found for found in behind))
    return Ties(tuple(ranks), tuple(p_values), best)


def _separated(
    pairs: Sequence[tuple[Mapping[int, float], Mapping[int, float]]], higher_is_better: bool
) -> tuple[list[float], list[bool]]:
    """p values of pairs after Holm's correction over them, and where the first is ahead by more than chance."""
    gaps = [differences(first, second) for first, second in pairs]
    p_values = holm([p_value(some) for some in gaps])
    ahead = [math.fsum(some) > 0 if higher_is_better else math.fsum(some) < 0 for some in gaps]  # on common seeds
    return p_values, [first and p < ALPHA for first, p in zip(ahead, p_values, strict=True)]


def in_words(names: Sequence[str], ties: Ties) -> str:
    """What is separated and what is not, for the page; ``names`` in the order of the ranks.

    >>> print(in_words(["A", "B", "C"], Ties((1, 1, 3), (0.4, 0.01))))
    Rank 1 is shared by 2 without a step between neighbours (A, B); rank 3: C. Steps: B from C (p = 0.010).
    """
    if len(names) < 2:
        return f"Only {names[0]} is ranked." if names else "No entry is ranked."
    ranked = zip(ties.ranks, names, strict=True)
    groups = [(rank, [name for _, name in some]) for rank, some in groupby(ranked, itemgetter(0))]
    if len(groups) == 1:
        why = "" if any(not math.isnan(p) for p in ties.p_values) else f": fewer than {MIN_SEEDS} seeds in common"
        return f"No two neighbours of the {len(names)} ranked entries are separated{why}; all share rank 1."
    said = [_group(rank, some) for rank, some in groups]
    steps = [
        f"{names[k]} from {names[k + 1]} (p {_p(ties.p_values[k])})"
        for k, (a, b) in enumerate(pairwise(ties.ranks))
        if a != b
    ]
    text = "; ".join(said)
    return f"{text[0].upper()}{text[1:]}. Steps: {'; '.join(steps)}."


def _group(rank: int, names: Sequence[str]) -> str:
    if len(names) == 1:
        return f"rank {rank}: {names[0]}"
    return f"rank {rank} is shared by {len(names)} without a step between neighbours ({', '.join(names)})"


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"
