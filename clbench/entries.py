"""What a leaderboard is made of: entries over seeds, and the table of one scenario."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from clbench.columns import SORT_KEY, Column
from clbench.identity import backbone_label
from clbench.matrix import ScoreMatrix
from clbench.record import Record
from clbench.statistics import MIN_SEEDS, Estimate, estimate

LABELS = ("strategy", "model", "trainer")  # that are an entry's own
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

    ``records``: the finished runs by seed; ``values``: per column id one number for each of them; ``expected``: its
    seeds and those that at least half of the entries with its model and trainer were run with; ``missing``: those
    without any record. ``track``: what it competes in (see :func:`track`); ``rank``: its tie group there, None where
    not ranked; ``best``: whether it is the first there, or not separated from it.
    """

    label: str
    names: Mapping[str, str]
    id: str
    reference: bool
    records: tuple[Record, ...]
    values: Mapping[str, tuple[float, ...]]
    failures: tuple[Failure, ...] = ()
    expected: tuple[int, ...] = ()
    missing: tuple[int, ...] = ()
    rank: int | None = None
    best: bool = False
    track: str = ""
    failed: tuple[Record, ...] = ()

    def estimate(self, column: str = SORT_KEY) -> Estimate:
        """Mean and interval of a column over the finished seeds."""
        if column not in self._estimates:
            self._estimates[column] = estimate(self.values[column])
        return self._estimates[column]

    @cached_property
    def _estimates(self) -> dict[str, Estimate]:
        return {}

    def mean(self) -> float:
        """Mean over the finished seeds of what ranks, whatever their order; NaN of none and where one is missing."""
        values = self.values[SORT_KEY]
        return math.fsum(values) / len(values) if values else math.nan

    def by_seed(self, column: str = SORT_KEY) -> dict[int, float]:
        """The values of a column by seed."""
        return dict(zip(self.seeds, self.values[column], strict=True))

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
        if math.isnan(self.mean()):
            return f"{SORT_KEY} undefined: not ranked"
        return None


@dataclass(frozen=True)
class Table:
    """The entries of one scenario, track by track, best average accuracy first.

    ``seeds``: those any entry was run with. ``standing``: what the seeds separate and what they do not, in words.
    """

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

    @property
    def tracks(self) -> tuple[str, ...]:
        """The tracks of the ranked entries, in the table's order."""
        return tuple(dict.fromkeys(entry.track for entry in self.entries if entry.rank))


Track = tuple[bool, str, int]


def track(records: Sequence[Record]) -> Track:
    """What an entry may be compared with: whether a reference, the backbone it stands on, and its replay budget.

    In the order of a table: references last, and all in one. The budget is counted in samples: the field ``memory``,
    or what was stored where that is more with any seed.
    """
    first = records[0]
    if first.reference:
        return True, "", 0
    strategy = first.identity.get("strategy") or {}
    memory = strategy.get("parameters", {}).get("memory", 0) if isinstance(strategy, dict) else 0
    stored = [counts["stored_samples"] for record in records for counts in record.result.get("counts", ())]
    backbone = ""
    if "backbone" in first.identity:  # by its name, or its class where it has none
        target = str(first.identity["backbone"].get("backbone", {}).get("_target_", "a backbone"))
        backbone = backbone_label(first.names["model"]) or target.rpartition(".")[2]
    return False, backbone, max([memory if isinstance(memory, int) else 0, *stored])


def track_name(found: Track) -> str:
    """A track in words.

    >>> track_name((False, "", 0)), track_name((False, "lite0", 200))
    ('no stored samples', 'on lite0, 200 stored samples')
    """
    reference, backbone, memory = found
    if reference:
        return "references"
    stored = f"{memory} stored samples" if memory else "no stored samples"
    return f"on {backbone}, {stored}" if backbone else stored
