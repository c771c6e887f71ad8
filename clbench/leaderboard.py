"""From records to a leaderboard: a table of entries per scenario, where nothing is averaged away."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

from clbench.columns import SORT_KEY, Column, columns
from clbench.matrix import ScoreMatrix
from clbench.oracles import Oracles
from clbench.record import Record
from clbench.statistics import MIN_SEEDS, Estimate, Ranking, estimate

INFERENCE = "task_inference_accuracy"


@dataclass(frozen=True)
class Failure:
    """A run that gave no result, and why; ``seed`` is None where the reason holds for every seed."""

    label: str
    seed: int | None
    reason: str


@dataclass(frozen=True)
class Entry:
    """A strategy with its parameters, model and trainer on one scenario, over seeds.

    ``records``: the finished runs by seed; ``values``: per column id one number for each of them;
    ``missing``: expected seeds without any record; ``rank``: None where the entry is not ranked.
    """

    label: str
    names: Mapping[str, str]
    id: str
    reference: bool
    records: tuple[Record, ...]
    values: Mapping[str, tuple[float, ...]]
    failures: tuple[Failure, ...] = ()
    missing: tuple[int, ...] = ()
    rank: int | None = None
    track: str = ""
    failed: tuple[Record, ...] = ()

    def estimate(self, column: str = SORT_KEY) -> Estimate:
        """Mean and interval of a column over the finished seeds."""
        return estimate(self.values[column])

    def matrices(self, name: str = "accuracy") -> list[ScoreMatrix]:
        """The score matrices of the finished runs, by seed."""
        return [record.matrix(name) for record in self.records]

    def task_inference(self) -> list[tuple[float, ...]]:
        """Per task the share of its test samples taken for it after the last task, for each finished run.

        Empty where no run inferred tasks.
        """
        if not any(INFERENCE in record.result["matrices"] for record in self.records):
            return []
        rows = [r.matrix(INFERENCE).values[-1] if INFERENCE in r.result["matrices"] else None for r in self.records]
        n_tasks = self.matrices()[0].n_tasks
        return [tuple(math.nan if row is None else float(row[j]) for row in rows) for j in range(n_tasks)]

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds with a finished run."""
        return tuple(record.seed for record in self.records)

    @property
    def complete(self) -> bool:
        """Whether every expected seed has a finished run."""
        return not self.failures and not self.missing

    @property
    def unranked_because(self) -> str | None:
        """Why the entry has no rank; None where it has one."""
        if self.reference:
            return "reference" if self.complete else "reference, incomplete"
        if not self.complete:
            return "incomplete: not ranked"
        if len(set(self.seeds)) < len(self.seeds):  # e.g. the same order with several initialisations
            return "several records of one seed: not ranked"
        if len(self.seeds) < MIN_SEEDS:
            return f"fewer than {MIN_SEEDS} seeds: not ranked"
        if math.isnan(self.estimate().mean):
            return f"{SORT_KEY} undefined: not ranked"
        return None


@dataclass(frozen=True)
class Table:
    """The entries of one scenario, best average accuracy first. ``seeds``: those any entry was run with."""

    scenario: str
    card: Mapping[str, Any]
    seeds: tuple[int, ...]
    columns: tuple[Column, ...]
    entries: tuple[Entry, ...]
    skipped: tuple[Failure, ...]
    standing: str = ""

    @property
    def is_variant(self) -> bool:
        """Whether the official card was changed, so that results do not compare with it."""
        return "[" in self.scenario


@dataclass(frozen=True)
class Leaderboard:
    """All tables, official cards and variants apart; ``left_out``: records that could not be used, and why."""

    official: tuple[Table, ...]
    variants: tuple[Table, ...]
    left_out: tuple[str, ...] = field(default_factory=tuple)
    warnings: tuple[str, ...] = ()
    ranking: Ranking | None = None
    no_ranking: str = ""

    @property
    def tables(self) -> tuple[Table, ...]:
        """Official tables, then variants."""
        return self.official + self.variants


def make_leaderboard(records: Iterable[Record], left_out: Sequence[str] = ()) -> Leaderboard:
    """Make the leaderboard of these records; their order does not matter."""
    ordered = sorted(records, key=lambda r: (r.names["scenario"], *_labels(r), r.entry, r.seed, r.id))
    tables = [_table(name, tuple(group)) for name, group in groupby(ordered, key=lambda r: r.names["scenario"])]
    return Leaderboard(
        official=tuple(t for t in tables if not t.is_variant),
        variants=tuple(t for t in tables if t.is_variant),
        left_out=tuple(dict.fromkeys(left_out)),
    )


def _labels(record: Record) -> tuple[str, str, str]:
    return record.names["strategy"], record.names["model"], record.names["trainer"]


def _table(scenario: str, records: tuple[Record, ...]) -> Table:
    card = records[0].card
    shown = columns(records)
    groups = [list(group) for _, group in groupby(records, key=lambda r: (_labels(r), r.entry))]
    labels = _display_labels([group[0] for group in groups])
    run = [(label, g) for label, g in zip(labels, groups, strict=True) if any(r.status != "skipped" for r in g)]
    never = [(label, g) for label, g in zip(labels, groups, strict=True) if all(r.status == "skipped" for r in g)]
    seeds = tuple(sorted({r.seed for _, group in run for r in group}))
    oracles = Oracles.among(records)
    entries = [_entry(label, group, seeds, shown, oracles) for label, group in run]
    skipped = (Failure(label, None, why) for label, group in never for why in dict.fromkeys(map(_reason, group)))
    return Table(scenario, card, seeds, shown, _ranked(entries), tuple(skipped))


def _display_labels(heads: list[Record]) -> list[str]:
    """Strategy, with model and trainer where there are several, and the identity's hash where that is not enough."""
    several = [len({_labels(r)[k] for r in heads}) > 1 for k in range(3)]
    labels = [" · ".join(part for k, part in enumerate(_labels(r)) if k == 0 or several[k]) for r in heads]
    count = Counter(labels)
    return [f"{a} #{r.entry[:6]}" if count[a] > 1 else a for a, r in zip(labels, heads, strict=True)]


def _reason(record: Record) -> str:
    return " ".join((record.reason or "no reason was recorded").split())


def _entry(label: str, group: list[Record], seeds: Sequence[int], shown: Iterable[Column], oracles: Oracles) -> Entry:
    done = tuple(r for r in group if r.status == "ok")
    failures = tuple(
        Failure(label, r.seed, f"{r.status}: {_reason(r)}") for r in group if r.status != "ok"
    )  # a skipped seed of an entry that ran otherwise is a gap like any other
    values = {column.id: tuple(column.value(r, oracles.beside(r)) for r in done) for column in shown}
    missing = tuple(sorted(set(seeds) - {r.seed for r in group}))
    head = group[0]
    failed = tuple(r for r in group if r.status != "ok")
    return Entry(label, head.names, head.entry, head.reference, done, values, failures, missing, failed=failed)


def _ranked(entries: list[Entry]) -> tuple[Entry, ...]:
    """Sort by average accuracy and number those that may be ranked; equal means share a rank."""

    def key(entry: Entry) -> tuple[bool, float, str]:
        mean = round(entry.estimate().mean, 12)  # the order of a sum must not break a tie
        return (math.isnan(mean), 0.0 if math.isnan(mean) else -mean, entry.label)

    ordered = sorted(entries, key=key)
    ranked = [key(entry)[1] for entry in ordered if entry.unranked_because is None]
    return tuple(e if e.unranked_because else replace(e, rank=ranked.index(key(e)[1]) + 1) for e in ordered)
