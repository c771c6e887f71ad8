"""What all scenarios of one protocol say together: means over streams, of what was run on every one of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from clbench.entries import Entry, Table
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
SHARE = 3  # a third
READING = (
    "Together are the scenarios of a protocol that share at least a third of the methods with the one that has most; a "
    "method is a strategy with its model, whatever the length of training that a scenario asks for. The mean is over "
    "scenarios of the mean over the seeds that all methods have; IQM: the mean of the middle half of all runs; better "
    "than another: how often a run beats a run of another method on the same scenario, ties one half, mean over the "
    "others. Intervals: 95 % bootstrap of the runs within each scenario, too narrow for fewer than ten seeds. Methods "
    "that lack a scenario have no mean: they are listed apart. Tracks are not mixed up: the column says what each "
    "stores and stands on."
)


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
    """The scenarios of one protocol, methods best first; ``apart``: those that lack a scenario, and which.

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


def make_overall(tables: Iterable[Table]) -> tuple[Overall, ...]:
    """The overall standings of the official tables: for each protocol the pools of scenarios with methods in common."""
    ordered = sorted(tables, key=lambda t: (str(t.card.get("protocol")), t.scenario))
    found: list[Overall] = []
    for protocol, group in groupby(ordered, lambda t: str(t.card.get("protocol"))):
        known = {table.scenario: table for table in group}
        rest = {name: _methods(table) for name, table in known.items()}
        while rest:
            widest = max(rest.values(), key=len)
            shared = {name: len(methods.keys() & widest.keys()) for name, methods in rest.items()}
            pool = {n: rest[n] for n in rest if rest[n] is widest or SHARE * shared[n] >= len(widest)}
            rest = {name: methods for name, methods in rest.items() if name not in pool}
            if len(pool) > 1 and widest:
                found.append(_overall(protocol, [known[name] for name in pool], pool))
    return tuple(found)


def _overall(protocol: str, pool: Sequence[Table], entries: Mapping[str, Mapping[str, Entry]]) -> Overall:
    names = [table.scenario for table in pool]
    known = sorted({label for name in names for label in entries[name]})
    complete = [label for label in known if all(label in entries[name] for name in names)]
    lacking = {label: [n for n in names if label not in entries[n]] for label in known if label not in complete}
    apart = tuple(f"{label}: not on {', '.join(some)}" for label, some in lacking.items())
    found = {label: [entries[name][label] for name in names] for label in complete}
    methods = tuple(sorted(_compared(found), key=lambda m: (-round(m.mean, 12), m.label)))
    data = [_data(table) for table in pool]
    ranking, because = _ranking(methods, data)
    return Overall(protocol, tuple(names), tuple(dict.fromkeys(data)), methods, apart, ranking, because)


def _methods(table: Table) -> dict[str, Entry]:
    """Ranked entries by strategy and model; one that is there with several trainers is ambiguous and left out."""
    by: dict[str, list[Entry]] = defaultdict(list)
    for entry in table.entries:
        if entry.rank:
            by[f"{entry.names['strategy']} · {entry.names['model']}"].append(entry)
    return {label: some[0] for label, some in by.items() if len(some) == 1}


def _compared(found: Mapping[str, Sequence[Entry]]) -> list[Method]:
    if not found:
        return []
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


def _method(label: str, track: str, scores: Mapping[str, NDArray[np.float64]]) -> Method:
    own = scores[label]
    others = [probability_of_improvement(own, other) for name, other in scores.items() if name != label]
    ends = [stratified_interval(f, own, resamples=RESAMPLES) for f in (grand_mean, iqm)]
    better = float(np.mean(others)) if others else float("nan")
    return Method(label, track, own, grand_mean(own), ends[0], iqm(own), ends[1], better)


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
