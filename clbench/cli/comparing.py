"""``clbench compare``: two entries on one scenario, seed by seed."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clbench.agreement import contradictions
from clbench.comparison import Difference, Figure, compare
from clbench.errors import BadInput, RecordError, unknown
from clbench.record import Record
from clbench.statistics import LEVEL, MIN_SEEDS, estimate
from clbench.store import Store

USUAL = ("average accuracy", "forgetting", "backward transfer", "learning accuracy")
SHOWN = 5  # lines of an error
WIDTH = 140  # characters, where it is not a terminal's
MISSING = "—"
HEADS = (
    "figure",
    "A",
    "B",
    "A − B",
    f"{LEVEL:.0%} interval",
    "A better on",
    "P(A beats B)",
    "p (t, Holm)",
    "p (sign flips)",
)
READING = """\
A − B is the mean difference over the seeds that both have, with its 95 % interval. "A better on" is the share of these
seeds on which A is better, ties one half, with its exact 95 % interval; "P(A beats B)" the probability that any run of
A is better than any run of B. p is of the paired t test after Holm's correction over the figures shown; the exact
sign-flip test assumes no distribution, and beside its p is the smallest it can be with so many seeds."""


@dataclass(frozen=True)
class Side:
    """One of the two entries: its finished runs by seed with their files, and the runs that gave no result."""

    folder: Path
    runs: dict[int, Record]
    paths: tuple[Path, ...]
    not_counted: tuple[str, ...]

    @property
    def head(self) -> Record:
        """Any of its records."""
        return next(iter(self.runs.values()))

    @property
    def label(self) -> str:
        """Strategy, model and trainer."""
        return " · ".join(self.head.names[name] for name in ("strategy", "model", "trainer"))


def compare_runs(first: Path, second: Path, metric_id: str | None, matrix: str | None, as_json: bool) -> int:
    """Print how the entry in one folder differs from that in another; raises ``BadInput`` where they do not compare."""
    a, b = _side(first), _side(second)
    _check(a, b)
    figures = _figures(metric_id, matrix, [*a.runs.values(), *b.runs.values()])
    rows = compare((a.label, b.label), a.runs, b.runs, figures)
    if as_json:
        text = json.dumps(_plain(_content(a, b, figures, rows)), indent=1, ensure_ascii=False, allow_nan=False)
        sys.stdout.write(text + "\n")
    else:
        _print(a, b, figures, rows)
    return 0


def _side(folder: Path) -> Side:
    """Read the records of one entry: those under a folder, which may be one record's own."""
    reading = Store(folder).read()
    if reading.left_out:
        raise RecordError(_listed(f"not every record under '{folder}' can be used", reading.left_out))
    if not reading.records:
        raise RecordError(
            f"no record under '{folder}'\n  a RUN is the folder of a record, or of all records of an entry"
        )
    found = list(zip(reading.records, reading.paths, strict=True))
    entries = {r.entry: f"{' · '.join(r.names.values())}, in {path.parent.parent}" for r, path in found}
    if len(entries) > 1:
        raise BadInput(_listed(f"'{folder}' holds several entries; name the folder of one", sorted(entries.values())))
    runs: dict[int, Record] = {}
    lost: list[str] = []
    paths: list[Path] = []
    for record, path in sorted(found, key=lambda both: both[0].seed):
        if record.status != "ok":
            lost.append(f"seed {record.seed}: {record.status}: {' '.join(str(record.reason).split())}")
        elif record.seed in runs:
            raise BadInput(f"'{folder}' holds two records of seed {record.seed}; name the folder of one of them")
        else:
            runs[record.seed] = record
            paths.append(path)
    if not runs:
        raise BadInput(_listed(f"no run under '{folder}' gave a result", lost))
    return Side(folder, runs, tuple(paths), tuple(lost))


def _check(a: Side, b: Side) -> None:
    """Refuse what does not compare: another card, no seed in common, another stream for the same seed."""
    cards = [side.head.names["scenario"] for side in (a, b)]
    if cards[0] != cards[1]:
        raise BadInput(f"runs of different cards do not compare: A is of {cards[0]}, B of {cards[1]}")
    seeds = sorted(a.runs.keys() & b.runs.keys())
    if not seeds:
        own = [", ".join(map(str, side.runs)) for side in (a, b)]
        raise BadInput(
            f"no seed in common: A has {own[0]}; B has {own[1]}\n  run one of them with the seeds of the other"
        )
    both = [(path.parent, r) for side in (a, b) for r, path in zip(side.runs.values(), side.paths, strict=True)]
    if clashes := sorted(set(contradictions(both).values())):
        raise BadInput(_listed("the runs do not compare; repeat those of one side", clashes))


def _figures(metric_id: str | None, matrix: str | None, records: Sequence[Record]) -> list[Figure]:
    """What to compare: the usual figures or one metric, of its own matrix or a named one."""
    from clbench.metrics import metric

    known = {name: record.matrix(name) for record in records for name in record.result["matrices"]}
    if matrix is not None and matrix not in known:
        raise unknown("matrix", matrix, known)
    figures = [Figure.named(name) for name in USUAL]
    if metric_id is not None:
        made = metric(metric_id)
        figures = [Figure(made.title, metric_id, made.matrix, made.unit)]
    if matrix is None:
        return figures
    unit = known[matrix].unit  # of what is a fraction of the accuracy matrix
    return [Figure(f.title, f.metric, matrix, unit if f.unit == "fraction" else f.unit) for f in figures]


def _print(a: Side, b: Side, figures: Sequence[Figure], rows: Sequence[Difference]) -> None:
    """The table for a person, what it means in words, and what was left out of it."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console() if sys.stdout.isatty() else Console(width=WIDTH)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for k, head in enumerate(HEADS):
        table.add_column(head, justify="right" if k else "left")
    for figure, row in zip(figures, rows, strict=True):
        table.add_row(*map(escape, _cells(figure, row)))
    seeds = rows[0].pair.seeds
    lines = [f"{a.head.names['scenario']}, seeds that both have: {_numbers(seeds)}"]
    for name, side in (("A", a), ("B", b)):
        alone = sorted(side.runs.keys() - set(seeds))
        left = [f"not counted: seeds that only {name} has: {_numbers(alone)}"] if alone else []
        lines += [f"{name}: {side.label}", *(f"   {line}" for line in left)]
        lines += [f"   not counted: {line}" for line in side.not_counted]
    if a.head.names["model"] != b.head.names["model"]:
        lines.append("their models differ: runs of a seed share the stream, not the initial weights")
    said = [in_words(figure, row) for figure, row in zip(figures, rows, strict=True)]
    console.print(escape("\n".join(lines)), "", sep="\n", highlight=False, soft_wrap=True)
    console.print(table)
    console.print("", escape("\n".join([*said, "", READING])), sep="\n", highlight=False, soft_wrap=True)


def _cells(figure: Figure, row: Difference) -> list[str]:
    pair, gap = row.pair, row.estimate
    scale, digits, unit = _scale(figure)

    def shown(value: float, sign: str = "") -> str:
        return MISSING if math.isnan(value) else _minus(f"{scale * value:{sign}.{digits}f}")

    exact = "" if math.isnan(pair.better_low) else f" ({100 * pair.better_low:.0f}–{100 * pair.better_high:.0f} %)"
    better = MISSING if math.isnan(pair.better) else f"{len(pair.seeds) * pair.better:g} of {len(pair.seeds)}{exact}"
    return [
        f"{figure.title}{unit}",
        shown(estimate(pair.first).mean),
        shown(estimate(pair.second).mean),
        shown(gap.mean, "+"),
        MISSING if math.isnan(gap.low) else f"{shown(gap.low, '+')} to {shown(gap.high, '+')}",
        better,
        MISSING if math.isnan(pair.improvement) else f"{pair.improvement:.2f}",
        _p(row.p),
        MISSING if math.isnan(pair.sign_flip_p) else f"{_p(pair.sign_flip_p)} (≥ {_p(pair.least_p)})",
    ]


def in_words(figure: Figure, row: Difference) -> str:
    """What the seeds say of one figure."""
    gap, pair = row.estimate, row.pair
    if math.isnan(gap.mean):
        return f"{figure.title}: undefined; {_wanting(figure)}."
    if gap.n < MIN_SEEDS:
        return f"{figure.title}: nothing can be said; that takes {MIN_SEEDS} seeds in common, and there are {gap.n}."
    if not row.separated:
        alone = not gap.low <= 0 <= gap.high
        though = ", though its own interval excludes zero, as some of several figures do by chance" if alone else ""
        return f"{figure.title}: not separated (p {_told(row.p)}){though}."
    ahead = "A" if (gap.mean > 0) == pair.higher_is_better else "B"
    scale, digits, _ = _scale(figure)
    low, high = (_minus(f"{scale * value:+.{digits}f}") for value in (gap.low, gap.high))
    return f"{figure.title}: {ahead} is better; A − B is between {low} and {high}, separated (p {_told(row.p)})."


def _wanting(figure: Figure) -> str:
    from clbench.metrics import metric

    if reference := metric(figure.metric).reference:
        return f"it is read beside a run of the reference '{reference}', which is not among these records"
    reads = sorted(set(metric(figure.metric).reads) - {"R"})
    return f"some run lacks what it reads: {', '.join([f'the matrix {figure.matrix}', *reads])}"


def _scale(figure: Figure) -> tuple[float, int, str]:
    """By what a value is multiplied to be shown, its decimals, and what to write behind the title."""
    return (100.0, 1, ", %") if figure.unit == "fraction" else (1.0, 3, f", {figure.unit}")


def _minus(text: str) -> str:
    return text.replace("-", "−")


def _numbers(seeds: Iterable[int]) -> str:
    return ", ".join(map(str, seeds)) or "none"


def _p(p: float) -> str:
    return MISSING if math.isnan(p) else f"{p:.3f}" if p >= 0.001 else "< 0.001"


def _told(p: float) -> str:
    return _p(p) if p < 0.001 else f"= {_p(p)}"


def _content(a: Side, b: Side, figures: Sequence[Figure], rows: Sequence[Difference]) -> dict[str, Any]:
    """The same for a program; null where there is no number."""
    sides = {
        name: {"names": side.head.names, "seeds": sorted(side.runs), "not_counted": list(side.not_counted)}
        for name, side in (("a", a), ("b", b))
    }
    shared = {"scenario": a.head.names["scenario"], "seeds": list(rows[0].pair.seeds), "level": LEVEL}
    return sides | shared | {"figures": [_figure(f, row) for f, row in zip(figures, rows, strict=True)]}


def _figure(figure: Figure, row: Difference) -> dict[str, Any]:
    pair, gap = row.pair, row.estimate
    return {
        "metric": figure.metric,
        "matrix": figure.matrix,
        "unit": figure.unit,
        "higher_is_better": pair.higher_is_better,
        "a": list(pair.first),
        "b": list(pair.second),
        "difference": {"mean": gap.mean, "low": gap.low, "high": gap.high, "n": gap.n, "method": gap.method},
        "positive": pair.positive,
        "a_better": {"share": pair.better, "low": pair.better_low, "high": pair.better_high},
        "probability_of_improvement": pair.improvement,
        "p": {
            "paired_t": pair.p,
            "paired_t_holm": row.p,
            "sign_flip": pair.sign_flip_p,
            "least_sign_flip": pair.least_p,
        },
        "separated": row.separated,
        "in_words": in_words(figure, row),
    }


def _plain(data: Any) -> Any:
    """The same with None for NaN."""
    if isinstance(data, dict):
        return {key: _plain(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_plain(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def _listed(message: str, lines: Iterable[str]) -> str:
    lines = list(lines)
    more = [f"  and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return "\n".join([message, *(f"  {line}" for line in lines[:SHOWN]), *more])
