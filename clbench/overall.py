"""What scenarios of one protocol say together, track by track: means over streams, of what was run on all of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, groupby

import numpy as np
from numpy.typing import NDArray

from clbench.entries import Entry, Table, track
from clbench.statistics import (
    Ranking,
    grand_mean,
    iqm,
    probability_of_improvement,
    rank_methods,
    stratified_interval,
    too_few,
)

RESAMPLES = 2000
READING = (
    "Together are scenarios of one protocol on which the same methods of a track were run: the two that have most in "
    "common, and each other one that leaves at least half of these. A method is a strategy with its model, whatever "
    "the length of training that a scenario asks for. The mean is over scenarios of the mean over the seeds that all "
    "methods have, as many for each scenario; IQM: the mean of the middle half of all runs; better than another: how "
    "often a run beats a run of another method on the same scenario, ties one half, mean over the others. Intervals: "
    "95 % bootstrap of the runs within each scenario, too narrow for fewer than ten seeds. Methods that lack a "
    "scenario have no mean: they are listed apart."
)
Found = Mapping[str, Mapping[str, Sequence[Entry]]]  # by scenario and method its entries in one track


@dataclass(frozen=True)
class Method:
    """One strategy with its model over the scenarios of a pool; ``scores``: average accuracy, (seeds, scenarios)."""

    label: str
    track: str
    scores: NDArray[np.float64]
    mean: float
    mean_ends: tuple[float, float]
    iqm: float
    iqm_ends: tuple[float, float]
    better: float


@dataclass(frozen=True)
class Overall:
    """Scenarios of one protocol, methods of one track, best first; ``apart``: those that lack a scenario, and why.

    ``data``: the data sets behind the scenarios; streams of one are not independent and count as one in ``ranking``,
    which is None, with the reason in ``because``, where they are too few to separate anything.
    """

    protocol: str
    scenarios: tuple[str, ...]
    data: tuple[str, ...]
    methods: tuple[Method, ...]
    apart: tuple[str, ...]
    ranking: Ranking | None
    because: str
    track: str = ""


def make_overall(tables: Iterable[Table]) -> tuple[Overall, ...]:
    """The overall standings of official tables: by protocol and track each pool of scenarios with methods in common."""
    ordered = sorted(tables, key=lambda t: (str(t.card.get("protocol")), t.scenario))
    found: list[Overall] = []
    for _, group in groupby(ordered, lambda t: str(t.card.get("protocol"))):
        known = {table.scenario: table for table in group}
        order = {e.track: track((*e.records, *e.failed)) for table in known.values() for e in table.entries if e.rank}
        for place in sorted(order, key=lambda name: order[name]):
            entries = {name: _methods(table, place) for name, table in known.items()}
            found += [_overall(place, [known[name] for name in pool], entries) for pool in _pools(entries)]
    return tuple(found)


def _methods(table: Table, place: str) -> dict[str, list[Entry]]:
    """All entries of a track by strategy and model."""
    by: dict[str, list[Entry]] = defaultdict(list)
    for entry in table.entries:
        if entry.track == place:
            by[f"{entry.names['strategy']} · {entry.names['model']}"].append(entry)
    return by


def _why_not(entries: Sequence[Entry]) -> str:
    """Why a method has no figure on a scenario; empty where it has one."""
    if not entries:
        return "not on"
    if len(entries) > 1:
        return "several entries on"
    return "" if entries[0].rank else "not ranked on"


def _pools(entries: Found) -> list[list[str]]:
    """Scenarios with methods in common: the two that share most, and others while half of these methods stay."""
    rest = {name: {m for m, found in by.items() if not _why_not(found)} for name, by in entries.items()}
    pools: list[list[str]] = []
    while len(rest) > 1:
        one, other = max(combinations(rest, 2), key=lambda pair: len(rest[pair[0]] & rest[pair[1]]))
        pool, common = [one, other], rest.pop(one) & rest.pop(other)
        enough = len(common) / 2
        while common and rest:
            name = max(rest, key=lambda name: len(rest[name] & common))
            if len(rest[name] & common) < enough:
                break
            pool.append(name)
            common &= rest.pop(name)
        if not common:
            break
        pools.append(sorted(pool))
    return pools


def _overall(place: str, pool: Sequence[Table], entries: Found) -> Overall:
    names = [table.scenario for table in pool]
    known = sorted({label for name in names for label in entries[name]})
    lacks = {label: {name: _why_not(entries[name].get(label, ())) for name in names} for label in known}
    complete = [label for label in known if not any(lacks[label].values())]
    apart = tuple(f"{label}: {_lacking(lacks[label])}" for label in known if label not in complete)
    methods = _compared({label: [entries[name][label][0] for name in names] for label in complete})
    methods.sort(key=lambda m: (-round(m.mean, 12), m.label))
    data = [_data(table) for table in pool]
    ranking, because = _ranking(methods, data)
    protocol, sets = str(pool[0].card.get("protocol")), tuple(dict.fromkeys(data))
    return Overall(protocol, tuple(names), sets, tuple(methods), apart, ranking, because, place)


def _lacking(reasons: Mapping[str, str]) -> str:
    """For each reason the scenarios.

    >>> _lacking({"a": "not on", "b": "", "c": "not on", "d": "not ranked on"})
    'not on a, c; not ranked on d'
    """
    told = dict.fromkeys(why for why in reasons.values() if why)
    return "; ".join(f"{why} {', '.join(name for name, its in reasons.items() if its == why)}" for why in told)


def _compared(found: Mapping[str, Sequence[Entry]]) -> list[Method]:
    streams = range(len(next(iter(found.values()))))
    seeds = [sorted(set.intersection(*(set(entries[k].seeds) for entries in found.values()))) for k in streams]
    n_seeds = min(map(len, seeds))
    if n_seeds == 0:
        return []
    scores = {
        label: np.array([[entries[k].by_seed()[seed] for seed in seeds[k][:n_seeds]] for k in streams]).T
        for label, entries in found.items()
    }
    return [_method(label, found[label][0].track, scores) for label in found]


def _method(label: str, place: str, scores: Mapping[str, NDArray[np.float64]]) -> Method:
    own = scores[label]
    others = [probability_of_improvement(own, other) for name, other in scores.items() if name != label]
    ends = [stratified_interval(f, own, resamples=RESAMPLES) for f in (grand_mean, iqm)]
    better = float(np.mean(others)) if others else float("nan")
    return Method(label, place, own, grand_mean(own), ends[0], iqm(own), ends[1], better)


def _ranking(methods: Sequence[Method], data: Sequence[str]) -> tuple[Ranking | None, str]:
    """Average ranks over independent data sets, or why there are none."""
    known = list(dict.fromkeys(data))
    if reason := too_few(len(known), len(methods)):
        return None, reason
    means = np.array([method.scores.mean(axis=0) for method in methods])  # (methods, scenarios)
    of = np.array(data)
    scores = np.array([means[:, of == name].mean(axis=1) for name in known])
    return rank_methods(scores, [method.label for method in methods]), ""


def _data(table: Table) -> str:
    """The data set of a scenario, by its source and, where that reads a file, its place."""
    data = table.card.get("data") or {"source": table.scenario}
    return " ".join(str(data[key]) for key in ("source", "path") if data.get(key))
