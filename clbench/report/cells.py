"""Numbers and standings in words, the same on every page."""

from __future__ import annotations

import math
from collections import defaultdict

from clbench.columns import SORT_KEY, Column
from clbench.entries import Entry, Table
from clbench.leaderboard import Leaderboard
from clbench.matrix import numbered
from clbench.statistics import INTERVALS, Estimate, estimate
from clbench.statistics.ties import READING as TIES

MISSING = "—"
SHOWN: dict[str, tuple[float, str, int | None]] = {  # unit: scale, sign and decimals; None: three significant digits
    "fraction": (100.0, "%", 1),
    "percent": (1.0, "%", 1),
    "ratio": (1.0, "", 2),
    "score": (1.0, "", 2),
    "nats": (1.0, "nats", 2),
    "squared probability": (1.0, "", 3),
    "perplexity": (1.0, "", 2),
    "experiences": (1.0, "", 1),
    "samples": (1.0, "", 0),
    "steps": (1.0, "", 0),
    "parameters": (1e-3, "thousand", None),
    "bytes": (1e-6, "MB", None),
    "bytes per task": (1e-3, "kB", None),
    "operations": (1e-9, "GFLOP", None),
    "joules": (1.0, "J", None),
    "seconds": (1.0, "s", None),
}
COUNTED = frozenset(
    {"samples", "steps", "bytes", "bytes per task", "parameters", "operations"}
)  # shown without interval

INFERENCE = "Task inference after the last task: percent of each task's test samples taken for their own task."
READING = (
    "Rows are sorted by track, then by the mean of `average_accuracy.gem2017`, highest first; it alone decides the "
    "ranks. A track holds what may be compared: the same replay budget (samples stored at most), and the same "
    "pretrained backbone or none; ranks are within a track, references come last.",
    TIES,
    INTERVALS,
    "Scores are fractions shown as percent, differences of scores as percentage points. Means are over the n finished "
    "seeds (column seeds); a seed fixes class order, data split, initialisation and batches alike for all strategies.",
    "Reference strategies see data a continual learner must not see: shown, never ranked. "
    "An entry that lacks a seed which at least half of those with its model and trainer have is shown with the mean of "
    "those it has, and not ranked.",
    "— means undefined or not measured, never zero.",
    "Columns that depend on the machine come last: compare them within one machine only. 1 MB is 10⁶ bytes.",
    "Every figure is computed from the score matrices when this page is made; the records hold the matrices, not the "
    "figures.",
)


def number(value: float, unit: str = "fraction") -> str:
    """A value in the unit it is shown in.

    >>> number(0.8125), number(float("nan")), number(-0.00001), number(0.01234, "seconds"), number(1234.5, "seconds")
    ('81.2', '—', '0.0', '0.0123', '1234')
    """
    if math.isnan(value):
        return MISSING
    scale, _, decimals = SHOWN[unit]
    scaled = value * scale
    if decimals is None:
        decimals = min(4, max(0, 2 - math.floor(math.log10(abs(scaled))))) if scaled else 0
    shown = round(scaled, decimals) + 0.0  # no minus zero
    return f"{shown:.{decimals}f}".replace("-", "−")


def spread(value: Estimate, unit: str = "fraction") -> str:
    """A mean with its interval where there is one: ``81.2 ± 3.4``, or ``81.2 [77.0, 83.1]`` where it is lopsided."""
    shown = number(value.mean, unit)
    if value.method == "bootstrap":
        return f"{shown} [{number(value.low, unit)}, {number(value.high, unit)}]"
    return shown if math.isnan(value.half_width) else f"{shown} ± {number(value.half_width, unit)}"


def cell(entry: Entry, column: Column) -> str:
    """An entry's cell: scores with their interval, what is counted or timed as the mean alone."""
    value = entry.estimate(column.id)
    alone = column.unit in COUNTED or column.machine
    return number(value.mean, column.unit) if alone else spread(value, column.unit)


def head(column: Column) -> str:
    """Title and unit of a column; a score that can be negative is a difference, in percentage points."""
    _, unit, _ = SHOWN[column.unit]
    if column.unit == "fraction" and column.bounds is not None and column.bounds[0] < 0:
        unit = "points"
    return f"{column.title} ({unit})" if unit else column.title


def seeds(entry: Entry) -> str:
    """How many of the expected seeds are there: ``4 of 5``."""
    return f"{len(set(entry.seeds))} of {len(entry.expected)}"


def gaps(table: Table) -> list[str]:
    """What is not in the means, and why: failed seeds, seeds without a record, skipped strategies."""
    found = [f"{f.label}, seed {f.seed}: {f.reason}" for entry in table.entries for f in entry.failures]
    found += [f"{e.label}, seed {seed}: no record" for e in table.entries for seed in e.missing]
    return found + [f"{f.label}: skipped: {f.reason}" for f in table.skipped]


def task_inference(table: Table) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Per entry that infers tasks, how often a test sample was taken for its own task after the last task.

    The heads, and by label the cells: the numbered tasks, and the task that fares worst of all. Empty where no entry
    infers tasks.
    """
    found = [(e.label, [estimate(v) for v in per_task]) for e in table.entries if (per_task := e.task_inference())]
    if not found:
        return [], []
    shown = numbered(len(found[0][1]))
    return [*(f"task {j}" for j in shown), "lowest of all tasks"], [
        (label, [*(spread(tasks[j - 1]) for j in shown), _lowest(tasks)]) for label, tasks in found
    ]


def _lowest(tasks: list[Estimate]) -> str:
    means = [task.mean for task in tasks]
    if any(map(math.isnan, means)):
        return MISSING
    return f"{number(min(means))} (task {means.index(min(means)) + 1})"


OVERVIEW = (
    "Mean `average_accuracy.gem2017` in percent. Of a strategy's several entries on a scenario (parameters, models, "
    "trainers) the best one, which favours strategies with many; the scenario's table has them all."
)


def overview(board: Leaderboard) -> list[tuple[str, bool, list[str]]]:
    """Mean average accuracy per strategy and official scenario: name, whether a reference, cells; references last.

    An asterisk marks a mean over too few seeds, or not all; it stands only where no entry of the strategy is whole.
    """
    found: dict[tuple[bool, str], dict[int, list[Entry]]] = defaultdict(lambda: defaultdict(list))
    for k, table in enumerate(board.official):
        for entry in table.entries:
            found[entry.reference, entry.names["strategy"].partition("[")[0]][k].append(entry)
    n_tables = len(board.official)
    return [
        (name, reference, [_best(by[k]) if k in by else MISSING for k in range(n_tables)])
        for (reference, name), by in sorted(found.items())
    ]


def _best(entries: list[Entry]) -> str:
    whole = [entry for entry in entries if entry.unranked_because in (None, "reference")]
    means = [entry.estimate(SORT_KEY).mean for entry in whole or entries]
    known = [mean for mean in means if not math.isnan(mean)]
    return number(max(known)) + "*" * (not whole) if known else MISSING


def bounds(column: Column) -> str:
    """The ends of a column's range for scores in [0, 1], in words; empty where there are none.

    >>> from types import SimpleNamespace
    >>> bounds(SimpleNamespace(bounds=(0.0, math.inf)))
    '0 to ∞'
    """
    if column.bounds is None:
        return ""
    low, high = (f"{end:g}".replace("inf", "∞").replace("-", "−") for end in column.bounds)
    return f"{low} to {high}"


def is_best(entry: Entry, column: Column) -> bool:
    """Whether the cell is shown in bold: the ranked figure of the first of a track and of what is level with it."""
    return column.id == SORT_KEY and entry.best


def ends_group(entry: Entry, table: Table) -> bool:
    """Whether the next ranked entry has another rank: the seeds separate the two."""
    ranked = [other for other in table.entries if other.rank and other.track == entry.track]
    below = ranked[ranked.index(entry) + 1 :][:1] if entry.rank else []
    return bool(below) and below[0].rank != entry.rank


def starts_track(entry: Entry, table: Table) -> bool:
    """Whether the entry is the first of its track, after another one."""
    place = table.entries.index(entry)
    return place > 0 and table.entries[place - 1].track != entry.track


def definitions(board: Leaderboard) -> list[Column]:
    """Every column that occurs, once, in the order of the tables."""
    return list({column.id: column for table in board.tables for column in table.columns}.values())


def environments(board: Leaderboard) -> list[tuple[str, int]]:
    """What the finished runs ran on, in words, and how many runs each."""
    count: dict[str, int] = {}
    for record in (r for table in board.tables for e in table.entries for r in e.records if r.environment):
        known = record.environment
        parts = [f"{key} {known[key]}" for key in ("clbench", "commit", "python", "torch", "numpy") if known.get(key)]
        parts += [str(known[key]) for key in ("platform", "processor", "instructions", "accelerator") if known.get(key)]
        parts += [f"threads: {known['threads']}"] if known.get("threads") else []
        text = ", ".join(parts) or "not recorded"
        count[text] = count.get(text, 0) + 1
    return sorted(count.items())
