"""Differences between entries, paired by seed: the same stream, the same initial weights, another choice."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from clbench.errors import BadInput
from clbench.metrics import metric
from clbench.record import Record
from clbench.statistics import Estimate, estimate, holm, p_value

READING = """\
Differences are in percentage points, paired by seed (same stream, same initial weights), with a 95 % Student-t
interval. *p* is of the paired t test after Holm's correction over the rows of its table; **separated** means p < 0.05,
"outside its own interval only" that the interval excludes zero, as some rows of a long table do by chance. A positive
difference in forgetting means that more is forgotten."""
NAMES = ("scenario", "strategy", "model", "trainer")
MEASURED = {  # what is compared: a metric, and the matrix it is taken from
    "average accuracy": ("average_accuracy.gem2017", "accuracy"),
    "forgetting": ("forgetting.rwalk2018", "accuracy"),
    "forward transfer, tasks told": ("forward_transfer.gem2017", "task_masked_accuracy"),  # tasks not trained yet
}
Labels = tuple[str, ...]


@dataclass(frozen=True)
class Difference:
    """One choice minus another on one scenario, in the unit of the metric, over the seeds that both have.

    ``where``: the labels that both share. ``measured``: one of ``MEASURED``. ``p``: of a paired t test, after Holm's
    correction over the table.
    """

    where: Labels
    of: str
    against: str
    measured: str
    estimate: Estimate
    p: float

    @property
    def separated(self) -> bool:
        """Whether the data tell the two apart at 5 %, all comparisons of the table together."""
        return self.p < 0.05


@dataclass(frozen=True)
class Comparison:
    """A question that a study asks: entries whose labels match ``of``, each minus its partner in ``against``."""

    title: str
    of: Mapping[str, str]
    against: Mapping[str, str]

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Comparison:
        """``{title, of: {label: pattern}, against: {label: pattern}}``; a pattern's ``*`` stands for anything."""
        try:
            made = cls(str(config["title"]), dict(config["of"]), dict(config["against"]))
        except (KeyError, TypeError, ValueError) as error:
            raise BadInput(f"a comparison needs title, of and against; got {config!r}") from error
        if wrong := {*made.of, *made.against} - set(NAMES):
            raise BadInput(f"a comparison goes by {', '.join(NAMES)}; got '{min(wrong)}'")
        return made

    def differences(self, records: Iterable[Record]) -> list[Difference]:
        """All pairs of entries that agree in the labels not named, by place; seeds that one side lacks are left out."""
        shared = [n for n in NAMES if n not in {*self.of, *self.against}]
        done = [r for r in records if r.status == "ok"]
        sides = [_grouped(done, pattern, shared) for pattern in (self.of, self.against)]
        found: list[Difference] = []
        ps: list[float] = []
        for where in sorted(sides[0].keys() & sides[1].keys()):
            for of, first in sorted(sides[0][where].items()):
                for against, second in sorted(sides[1][where].items()):
                    for measured in MEASURED if of != against else ():
                        gaps = _gaps(first, second, measured)
                        found.append(Difference(where, of, against, measured, estimate(gaps), math.nan))
                        ps.append(p_value(gaps))
        return [replace(row, p=p) for row, p in zip(found, holm(ps), strict=True)]


def _gaps(first: Mapping[int, Record], second: Mapping[int, Record], measured: str) -> list[float]:
    name, matrix = MEASURED[measured]
    value = metric(name)
    seeds = sorted(first.keys() & second.keys())
    return [value(first[s].matrix(matrix)) - value(second[s].matrix(matrix)) for s in seeds]


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
    lines = ["# Comparisons", "", " ".join(purpose.split()), "", READING, ""]
    lines += [f"- {measured}: `{name}` of the matrix `{matrix}`" for measured, (name, matrix) in MEASURED.items()]
    lines.append("")
    for comparison in comparisons:
        rows = comparison.differences(records)
        lines += [
            f"## {comparison.title}",
            "",
            "| where | minus | metric | difference | seeds | p | |",
            "|" + "---|" * 7,
        ]
        lines += [_row(row) for row in rows]
        lines += ["", *(_in_words(m, [r for r in rows if r.measured == m]) for m in MEASURED), ""]
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
    rest = len(rows) - len(apart)
    return f"- {measured}: {parts[0]}, {parts[1]}, not separated in {rest} of {len(rows)} differences."


def _shown(where: Labels) -> list[str]:
    return [label for label in where if label != "none"]


def _row(row: Difference) -> str:
    gap = row.estimate
    shown = f"{100 * gap.mean:+.1f} ± {100 * gap.half_width:.1f}"
    outside = abs(gap.mean) > gap.half_width
    verdict = "**separated**" if row.separated else "outside its own interval only" if outside else "not separated"
    where = ", ".join(_shown(row.where))
    pair = f"{row.of} − {row.against}"
    return f"| {where} | {pair} | {row.measured} | {shown} | {gap.n} | {row.p:.3f} | {verdict} |"
