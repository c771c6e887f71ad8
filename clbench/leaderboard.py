"""From records to a leaderboard: a table of entries per scenario, where nothing is averaged away."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

from clbench.columns import Column, columns, optional
from clbench.doubts import doubts
from clbench.entries import LABELS, Entry, Failure, Table, Track, track, track_name
from clbench.identity import shipped_card
from clbench.measured import inputs
from clbench.oracles import Oracles
from clbench.overall import Overall, make_overall
from clbench.record import Record
from clbench.statistics import in_words, tie_groups


@dataclass(frozen=True)
class Leaderboard:
    """All tables, official cards and variants apart; what the scenarios say together; what could not be used, and why.

    ``warnings``: what may make figures doubtful though they are shown.
    """

    official: tuple[Table, ...]
    variants: tuple[Table, ...]
    overall: tuple[Overall, ...] = ()
    left_out: tuple[str, ...] = field(default_factory=tuple)
    warnings: tuple[str, ...] = ()

    @property
    def tables(self) -> tuple[Table, ...]:
        """Official tables, then variants."""
        return self.official + self.variants


def make_leaderboard(
    records: Iterable[Record], left_out: Sequence[str] = (), warnings: Sequence[str] = ()
) -> Leaderboard:
    """Make the leaderboard of these records, each run once; their order does not matter."""
    ordered = sorted(records, key=lambda r: (r.names["scenario"], r.entry, r.seed, r.id))
    tables = [_table(name, tuple(group)) for name, group in groupby(ordered, key=lambda r: r.names["scenario"])]
    official = tuple(t for t in tables if not t.is_variant)
    return Leaderboard(
        official=official,
        variants=tuple(t for t in tables if t.is_variant),
        overall=make_overall(official),
        left_out=tuple(dict.fromkeys(left_out)),
        warnings=(*warnings, *doubts(tables)),
    )


def _names(group: Iterable[Record]) -> tuple[str, str, str]:
    """Strategy, model and trainer of one entry's records: the shortest of each, as a default may be spelt out."""
    strategy, model, trainer = (
        min((r.names[kind] for r in group), key=lambda name: (len(name), name)) for kind in LABELS
    )
    return strategy, model, trainer


def _table(scenario: str, records: tuple[Record, ...]) -> Table:
    groups = sorted((list(group) for _, group in groupby(records, key=lambda r: r.entry)), key=_names)
    labels = _display_labels(groups)
    run = [(label, g) for label, g in zip(labels, groups, strict=True) if any(r.status != "skipped" for r in g)]
    never = [(label, g) for label, g in zip(labels, groups, strict=True) if all(r.status == "skipped" for r in g)]
    expected, shown, oracles = _expected(group for _, group in run), columns(records), Oracles.among(records)
    entries = [_entry(label, g, expected[_names(g)[1:]], shown, oracles) for label, g in run]
    filled = [c for c in shown if not optional(c) or any(map(_whole, (e.values[c.id] for e in entries)))]
    skipped = (Failure(label, None, why) for label, group in never for why in dict.fromkeys(map(_reason, group)))
    seeds = tuple(sorted({seed for entry in entries for seed in entry.expected}))
    ranked, standing = _ranked(entries)
    card = shipped_card(scenario) or records[0].card  # what it says beside what decides is in no hash
    return Table(scenario, card, seeds, tuple(filled), ranked, tuple(skipped), standing)


def _whole(values: Sequence[float]) -> bool:
    """Whether there is a value, and none is missing: else there is no mean to show."""
    return bool(values) and not any(map(math.isnan, values))


def _display_labels(groups: Sequence[Sequence[Record]]) -> list[str]:
    """Strategy, with model and trainer where there are several, and the identity's hash where that is not enough."""
    names = [_names(group) for group in groups]
    several = [len(set(kind)) > 1 for kind in zip(*names, strict=True)]
    labels = [" · ".join(part for k, part in enumerate(some) if k == 0 or several[k]) for some in names]
    count = Counter(labels)
    return [f"{a} #{g[0].entry[:6]}" if count[a] > 1 else a for a, g in zip(labels, groups, strict=True)]


def _expected(groups: Iterable[Sequence[Record]]) -> dict[tuple[str, ...], set[int]]:
    """By model and trainer the seeds that at least half of their entries were run with.

    So an entry with a gap is incomplete, a study of five seeds beside one of ten is not, and one more run with a new
    seed does not make all others incomplete.
    """
    runs: dict[tuple[str, ...], list[set[int]]] = defaultdict(list)
    for group in groups:
        runs[_names(group)[1:]].append({r.seed for r in group})
    return {
        names: {seed for seed in set().union(*entries) if 2 * sum(seed in own for own in entries) >= len(entries)}
        for names, entries in runs.items()
    }


def _reason(record: Record) -> str:
    return " ".join((record.reason or "no reason was recorded").split())


def _entry(label: str, group: list[Record], usual: set[int], shown: Iterable[Column], oracles: Oracles) -> Entry:
    done = tuple(r for r in group if r.status == "ok")
    failed = tuple(r for r in group if r.status != "ok")  # a skipped seed of an entry that ran otherwise is a gap too
    beside = [(r, oracles.beside(r), inputs(r)) for r in done]
    head, own = group[0], {r.seed for r in group}
    return Entry(
        label=label,
        names=head.names | dict(zip(LABELS, _names(group), strict=True)),
        id=head.entry,
        reference=head.reference,
        records=done,
        values={column.id: tuple(column.value(*read) for read in beside) for column in shown},
        failures=tuple(Failure(label, r.seed, f"{r.status}: {_reason(r)}") for r in failed),
        expected=tuple(sorted(usual | own)),
        missing=tuple(sorted(usual - own)),
        failed=failed,
    )


def _ranked(entries: list[Entry]) -> tuple[tuple[Entry, ...], str]:
    """Entries by track and average accuracy, each with the rank of its tie group there; and what that separates."""

    def key(entry: Entry) -> tuple[bool, float, str]:
        mean = round(entry.mean(), 12)  # equal but for rounding is a tie
        return (math.isnan(mean), 0.0 if math.isnan(mean) else -mean, entry.label)

    by: dict[Track, list[Entry]] = defaultdict(list)
    for entry in entries:
        by[track((*entry.records, *entry.failed))].append(entry)
    found: list[Entry] = []
    words: list[tuple[str, str]] = []
    for place in sorted(by):
        ordered = sorted(by[place], key=key)
        ranked = [entry for entry in ordered if entry.unranked_because is None]
        ties = tie_groups([entry.by_seed() for entry in ranked])
        ranks = dict(zip((entry.id for entry in ranked), ties.ranks, strict=True))
        best = {entry.id for entry, level in zip(ranked, ties.best, strict=True) if level}
        name = track_name(place)
        found += [replace(e, rank=ranks.get(e.id), best=e.id in best, track=name) for e in ordered]
        if ranked:
            words.append((name, in_words([entry.label for entry in ranked], ties)))
    tell = [f"{name[0].upper()}{name[1:]}: {text}" if len(words) > 1 else text for name, text in words]
    return tuple(found), " ".join(tell) or in_words([], tie_groups([]))
