"""Differences between entries, paired by seed: the same stream, the same initial weights, another choice."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from clbench.errors import BadInput, unknown
from clbench.measured import value
from clbench.metrics import metric
from clbench.oracles import Oracles
from clbench.record import Record
from clbench.statistics import ALPHA, MAX_SEEDS_T, Estimate, Paired, holm, paired

READING = """\
Differences are in percentage points, paired by seed (same stream, same initial weights), with a 95 % Student-t
interval. *p* is of the paired t test after Holm's correction over the rows of its table; **separated** means p < 0.05,
"outside its own interval only" that the interval excludes zero, as some rows of a long table do by chance. A positive
difference in forgetting means that more is forgotten."""
BOOTSTRAP = f"Rows of more than {MAX_SEEDS_T} seeds have a bootstrap interval instead, given by its ends."
NAMES = ("scenario", "strategy", "model", "trainer")
MEASURED = {  # what can be compared: a metric, and the matrix it is taken from
    "average accuracy": ("average_accuracy.gem2017", "accuracy"),
    "learning accuracy": ("learning_accuracy.mer2019", "accuracy"),
    "forgetting": ("forgetting.rwalk2018", "accuracy"),
    "backward transfer": ("backward_transfer.gem2017", "accuracy"),
    "forward transfer": ("forward_transfer.gem2017", "accuracy"),
    "forward transfer, tasks told": ("forward_transfer.gem2017", "task_masked_accuracy"),  # tasks not trained yet
    "forward transfer (CUBER)": ("forward_transfer.cuber2022", "accuracy"),
    "task inference accuracy": ("task_inference_accuracy.last", "task_inference_accuracy"),
}
USUAL = ("average accuracy", "forgetting", "forward transfer, tasks told")
Labels = tuple[str, ...]
Runs = Mapping[int, Record]  # the finished runs of one entry by seed


@dataclass(frozen=True)
class Figure:
    """What is compared: a metric, the matrix of a record that it is taken from, what to call it, and its unit."""

    title: str
    metric: str
    matrix: str
    unit: str = "fraction"

    @classmethod
    def named(cls, measured: str) -> Figure:
        """One of ``MEASURED``."""
        return cls(measured, *MEASURED[measured])

    def values(self, runs: Runs, oracles: Oracles) -> dict[int, float]:
        """The figure of each run by seed; NaN where a record lacks what it reads."""
        made = replace(metric(self.metric), matrix=self.matrix)
        return {seed: value(made, record, oracles.beside(record)) for seed, record in runs.items()}

    def higher_is_better(self, runs: Runs) -> bool:
        """The metric's direction; a mean of scores that are better when low is itself better when low."""
        made = metric(self.metric)
        there = next((r.matrix(self.matrix) for r in runs.values() if self.matrix in r.result["matrices"]), None)
        scores = there is None or made.is_difference or there.higher_is_better
        return made.higher_is_better if scores else not made.higher_is_better


@dataclass(frozen=True)
class Difference:
    """One choice minus another on one scenario, in the unit of the metric, over the seeds that both have.

    ``where``: the labels that both share. ``measured``: the title of the figure. ``pair``: the comparison by itself;
    ``p``: of its paired t test, after Holm's correction over the table.
    """

    where: Labels
    of: str
    against: str
    measured: str
    pair: Paired
    p: float

    @property
    def estimate(self) -> Estimate:
        """The mean difference with its interval."""
        return self.pair.difference

    @property
    def separated(self) -> bool:
        """Whether the data tell the two apart at 5 %, all comparisons of the table together."""
        return self.p < ALPHA


@dataclass(frozen=True)
class Comparison:
    """A question that a study asks: entries whose labels match ``of``, each minus its partner in ``against``.

    The labels that neither names must agree. ``measured``: some of ``MEASURED``.
    """

    title: str
    of: Mapping[str, str]
    against: Mapping[str, str]
    measured: tuple[str, ...] = USUAL

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Comparison:
        """``{title, of: {label: pattern}, against: {label: pattern}}``, and at need ``measured: [...]``.

        A pattern's ``*`` stands for anything: ``trainer: "*"`` compares strategies trained in different ways.
        """
        if not isinstance(config, Mapping):
            raise BadInput(f"a comparison needs title, of and against; got {config!r}")
        measured = config.get("measured", list(USUAL))
        if wrong := config.keys() - {"title", "of", "against", "measured"}:
            raise BadInput(f"a comparison has title, of, against and measured; got '{min(map(str, wrong))}'")
        if not isinstance(measured, (list, tuple)) or not measured or len({*map(str, measured)}) < len(measured):
            raise BadInput(f"'measured' of a comparison is a list of: {', '.join(MEASURED)}; got {measured!r}")
        for name in map(str, measured):
            if name not in MEASURED:
                raise unknown("figure to compare", name, MEASURED)
        try:
            made = cls(str(config["title"]), dict(config["of"]), dict(config["against"]), tuple(measured))
        except (KeyError, TypeError, ValueError) as error:
            raise BadInput(f"a comparison needs title, of and against; got {config!r}") from error
        if wrong := {*made.of, *made.against} - set(NAMES):
            raise BadInput(f"a comparison goes by {', '.join(NAMES)}; got '{min(wrong)}'")
        return made

    def differences(self, records: Iterable[Record]) -> list[Difference]:
        """All pairs of entries that agree in the labels not named, by place; seeds that one side lacks are left out.

        ``records``: all of the study, as some figures read those of a reference strategy too.
        """
        shared = [n for n in NAMES if n not in {*self.of, *self.against}]
        done = [r for r in records if r.status == "ok"]
        oracles = Oracles.among(done)
        sides = [_grouped(done, pattern, shared) for pattern in (self.of, self.against)]
        found: list[Difference] = []
        for where in sorted(sides[0].keys() & sides[1].keys()):
            for of, first in sorted(sides[0][where].items()):
                for against, second in sorted(sides[1][where].items()):
                    for measured in self.measured if of != against else ():
                        pair = _pair(first, second, Figure.named(measured), oracles)
                        found.append(Difference(where, of, against, measured, pair, pair.p))
        return _corrected(found)


def compare(names: tuple[str, str], first: Runs, second: Runs, figures: Sequence[Figure]) -> list[Difference]:
    """One entry minus another on one scenario, over the seeds that both have; a difference for each figure."""
    oracles = Oracles.among([*first.values(), *second.values()])
    pairs = {figure.title: _pair(first, second, figure, oracles) for figure in figures}
    return _corrected([Difference((), *names, title, pair, pair.p) for title, pair in pairs.items()])


def _pair(first: Runs, second: Runs, figure: Figure, oracles: Oracles) -> Paired:
    higher = figure.higher_is_better({**first, **second})
    return paired(figure.values(first, oracles), figure.values(second, oracles), higher)


def _corrected(rows: Sequence[Difference]) -> list[Difference]:
    """The rows of one table with their p values after Holm's correction."""
    return [replace(row, p=p) for row, p in zip(rows, holm([row.pair.p for row in rows]), strict=True)]


def _grouped(
    records: Sequence[Record], patterns: Mapping[str, str], shared: Sequence[str]
) -> dict[Labels, dict[str, dict[int, Record]]]:
    """Records that match, by shared labels, then by the labels that differ, then by seed."""
    grouped: dict[Labels, dict[str, dict[int, Record]]] = {}
    for record in records:
        if all(_matches(record.names[name], pattern) for name, pattern in patterns.items()):
            own = ", ".join(record.names[name] for name in NAMES if name in patterns)
            place = grouped.setdefault(tuple(record.names[n] for n in shared), {})
            seeds = place.setdefault(own, {})
            if record.seed in seeds:
                raise BadInput(f"two records of {own} have seed {record.seed}; name more labels to tell them apart")
            seeds[record.seed] = record
    return grouped


def _matches(label: str, pattern: str) -> bool:
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), label) is not None


def to_markdown(purpose: str, comparisons: Sequence[Comparison], records: Sequence[Record]) -> str:
    """The page of a study's comparisons, in points of a percent, with a sentence on what is separated."""
    tables = [comparison.differences(records) for comparison in comparisons]
    resampled = any(row.estimate.method == "bootstrap" for rows in tables for row in rows)
    lines = ["# Comparisons", "", " ".join(purpose.split()), "", READING, *([BOOTSTRAP] if resampled else []), ""]
    asked = {m for comparison in comparisons for m in comparison.measured}
    lines += [f"- {m}: `{name}` of the matrix `{matrix}`" for m, (name, matrix) in MEASURED.items() if m in asked]
    lines.append("")
    for comparison, rows in zip(comparisons, tables, strict=True):
        lines += [
            f"## {comparison.title}",
            "",
            "| where | minus | metric | difference | seeds | p | |",
            "|" + "---|" * 7,
        ]
        lines += [_row(row) for row in rows]
        lines += ["", *(_in_words(m, [r for r in rows if r.measured == m]) for m in comparison.measured), ""]
    return "\n".join(lines)


def _in_words(measured: str, rows: Sequence[Difference]) -> str:
    """What the data say about one metric: where it is higher, where lower, and where nothing can be said."""
    apart = [row for row in rows if row.separated]
    parts = []
    for word, some in (
        ("higher", [r for r in apart if r.estimate.mean > 0]),
        ("lower", [r for r in apart if r.estimate.mean <= 0]),
    ):
        where = "; ".join(dict.fromkeys(", ".join([*_shown(r.where), r.of]) for r in some))
        parts.append(f"{word} in {len(some)}" + (f" ({where})" if where else ""))
    missing = sum(math.isnan(row.estimate.mean) for row in rows)
    rest = len(rows) - len(apart) - missing
    unsaid = f", undefined in {missing}" if missing else ""
    return f"- {measured}: {parts[0]}, {parts[1]}{unsaid}, not separated in {rest} of {len(rows)} differences."


def _shown(where: Labels) -> list[str]:
    return [label for label in where if label != "none"]


def _row(row: Difference) -> str:
    gap = row.estimate
    spread = f"± {_points(gap.half_width, '.1f')}"
    if gap.method == "bootstrap":
        spread = f"({_points(gap.low, '+.1f')} to {_points(gap.high, '+.1f')})"
    shown = f"{_points(gap.mean, '+.1f')} {spread}"
    outside = not gap.low <= 0 <= gap.high and not math.isnan(gap.low)
    verdict = "**separated**" if row.separated else "outside its own interval only" if outside else "not separated"
    where = ", ".join(_shown(row.where))
    pair = f"{row.of} − {row.against}"
    p = "—" if math.isnan(row.p) else f"{row.p:.3f}"
    said = "undefined" if math.isnan(gap.mean) else verdict
    return f"| {where} | {pair} | {row.measured} | {shown} | {gap.n} | {p} | {said} |"


def _points(value: float, form: str) -> str:
    """Percentage points; a dash where a record lacks what the figure reads."""
    return "—" if math.isnan(value) else format(100 * value, form)
