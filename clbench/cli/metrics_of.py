"""``clbench metrics``: every metric that a record defines, and what libraries would print for its matrix."""

from __future__ import annotations

import math
import sys
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from clbench.errors import BadInput
from clbench.measured import OF_CURVES, OF_RECORDS, inputs, other_probes, value
from clbench.metrics import FAMILIES, Metric, References, metric
from clbench.metrics.libraries import side_by_side
from clbench.oracles import EXPERT, runs_beside
from clbench.record import FILE, Record, read_record
from clbench.store import Store, record_files

AAA = "anytime_accuracy.caccia2022"
SMALL = ("fraction", "ratio", "score", "nats", "squared probability", "perplexity", "seconds")  # with decimals
NO_VALUE = "the formula has no value here: a missing cell, a single task, too few evaluations, or nothing to divide by"
NO_REFERENCE = "no run of the reference '{}' (see --references)"
LACKING: Mapping[str, str] = {  # by what a metric reads
    **dict.fromkeys(OF_CURVES, "no in-training curves: run again with probe_every=N"),
    "early_curve": "not probed at every mini-batch: run again with probe_every=1",
    "train_flops": "operations were not counted: run again with flops=true",
    **dict.fromkeys(("train_seconds", "evaluate_seconds"), "no seconds, as operations were counted: run without flops"),
    "energy_joules": "energy was not measured: the machine of the run has no counter that could be read",
    "peak_memory_bytes": "peak memory was not measured on the machine of the run",
}
MATRICES: Mapping[str, str] = {
    "task_inference_accuracy": "the strategy does not infer the task of a sample",
    **dict.fromkeys(
        ("negative_log_likelihood", "brier_score", "expected_calibration_error"),
        "probabilities were not measured when this run was made: run it again",
    ),
}
PYTHON_ONLY = (
    "from Python only, for no run measures what they read (clbench.metrics.READS says what that is): metric(id).of(...)"
)
WIDE_OPEN = 10_000  # columns where nobody looks: a file or a pipe
LEAST_TITLE = 20  # columns; with less room there is none
Known = dict[str, tuple[str, Metric, float]]  # by id: family, metric, value


@dataclass(frozen=True)
class Beside:
    """What lies beside a record: matrices of references, its expert, and by strategy why there is none."""

    oracles: References = field(default_factory=dict)
    expert: Record | None = None
    why_not: Mapping[str, str] = field(default_factory=dict)


def show_metrics(path: Path, references: Path | None) -> int:
    """Print them; ``references``: a folder of records, for the metrics that compare with a reference strategy's run."""
    record = read_record(_place(path))
    if record.status != "ok":
        raise BadInput(f"expected the record of a finished run; the run of '{path}' {record.status}: {record.reason}")
    beside = _beside(record, references) if references is not None else Beside()
    console = Console() if sys.stdout.isatty() else Console(width=WIDE_OPEN)
    names = record.names
    title = f"{names['strategy']} on {names['scenario']}, {names['model']}, seed {record.seed}"
    console.print(f"[bold]{escape(title)}[/bold]", highlight=False)
    asked = _asked(record)
    outside = {m.id: ", ".join(foreign) for _, m in asked if (foreign := _foreign(m))}
    known = {
        m.id: (family, m, value(m, record, beside.oracles, beside.expert)) for family, m in asked if m.id not in outside
    }
    console.print(_defined(known, console.width), crop=False)
    console.print(escape(_undefined(known, record, beside)), highlight=False, soft_wrap=True)
    console.print(escape(_grouped(PYTHON_ONLY, outside)), highlight=False, soft_wrap=True)
    console.print("\n[bold]the same words elsewhere[/bold] (accuracy matrix)", highlight=False)
    console.print(_variants(record), crop=False)
    return 0


def _place(path: Path) -> Path:
    """The folder of the record that a path names; ``BadInput`` where it names none."""
    if not path.exists():
        raise BadInput(f"no record at '{path}'; expected a {FILE} or its folder")
    if path.name == FILE:
        return path.parent
    if not path.is_dir():
        raise BadInput(f"expected a {FILE} or its folder; got the file '{path}'")
    if not (path / FILE).exists():
        below = record_files(path)
        named = f"'{path}' holds {len(below)} records; name one, e.g. {below[0].parent}" if below else ""
        raise BadInput(named or f"no record at '{path}': the folder holds no {FILE}")
    return path


def _beside(record: Record, references: Path) -> Beside:
    if references.is_file():
        raise BadInput(f"expected a folder of records after --references; got the file '{references}'")
    reading = Store(references).read()
    sys.stderr.writelines(f"left out: {line}\n" for line in reading.left_out)
    runs = runs_beside(record, reading.records)
    why_not = {s: f"{len(r)} runs of '{s}' here, one is needed" for s, r in runs.items() if len(r) > 1}
    oracles = {s: r[0].matrix() for s, r in runs.items() if len(r) == 1}
    reasons = [other_probes(record, run) for run in runs.get(EXPERT, [])]
    alike = [run for run, reason in zip(runs.get(EXPERT, []), reasons, strict=True) if not reason]
    if reasons and not alike:
        why_not["curves"] = f"its run of '{EXPERT}' was {reasons[0]}"
    return Beside(oracles, alike[0] if len(alike) == 1 else None, why_not)


def _asked(record: Record) -> list[tuple[str, Metric]]:
    """All metrics but those of libraries; the anytime average at the spacing of this record's evaluations."""
    found = [(family, m) for family, members in FAMILIES.items() if family != "libraries" for m in members]
    if record.curves and record.curves["every"] != 1:
        every = metric(f"{AAA}[period={record.curves['every']}]")
        found = [(family, every if m.id.startswith(AAA) else m) for family, m in found]
    return found


def _foreign(m: Metric) -> list[str]:
    """What a metric reads that no record holds."""
    matrix = ["R of perplexities"] if m.matrix == "perplexity" else []
    return matrix + [name for name in m.reads if name not in OF_RECORDS]


def _defined(known: Known, width: int) -> Table:
    """Ids stay whole; titles are left out where they have no room."""
    rows = [
        (id, _number(number, m.unit), m.unit, "higher" if m.higher_is_better else "lower", m.title, family)
        for id, (family, m, number) in known.items()
        if not math.isnan(number)
    ]
    unit = max((len(word) for row in rows for word in row[2].split()), default=0)
    whole = [_whole(name, [row[n] for row in rows]) for n, name in ((0, "id"), (1, "value"), (3, "better"))]
    room = width - sum(column.min_width or 0 for column in whole) - unit - 8
    last = [Column("what it is", overflow="fold")] if room >= LEAST_TITLE else []
    columns = [*whole[:2], Column("unit", min_width=unit), whole[2], *last]
    return _under_headings(columns, rows)


def _under_headings(columns: list[Column], rows: Sequence[tuple[str, ...]]) -> Table:
    """A table of rows that end with the heading they stand under; what has no column is left out."""
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    before = ""
    for *cells, heading in rows:
        if heading != before:
            table.add_row(f"[bold]{escape(heading)}[/bold]")
        table.add_row(*map(escape, cells[: len(columns)]))
        before = heading
    return table


def _whole(name: str, cells: Collection[str]) -> Column:
    """A column that is never cut, to be copied as it is."""
    return Column(name, min_width=max(map(len, [name, *cells])), no_wrap=True)


def _undefined(known: Known, record: Record, beside: Beside) -> str:
    """Which are not defined, by what this record lacks for them."""
    there = {"R", *inputs(record, beside.expert)}
    reasons = {id: _lacking(m, record, beside, there) for id, (_, m, number) in known.items() if math.isnan(number)}
    return _grouped("not defined for this record", reasons) or "\nall are defined for this record"


def _grouped(title: str, reasons: Mapping[str, str]) -> str:
    """Ids by why they are here."""
    ids: dict[str, list[str]] = defaultdict(list)
    for id, reason in reasons.items():
        ids[reason].append(id)
    return "\n".join(["", title, *(f"  {reason}: {', '.join(own)}" for reason, own in ids.items())]) if ids else ""


def _lacking(m: Metric, record: Record, beside: Beside, there: set[str]) -> str:
    if m.matrix not in record.result["matrices"] and {"R", "A"} & {*m.reads}:
        return MATRICES.get(m.matrix, f"the record has no matrix '{m.matrix}'")
    if m.reference and m.reference not in beside.oracles:
        return beside.why_not.get(m.reference, NO_REFERENCE.format(m.reference))
    missing = [name for name in m.reads if name not in there and name != "A"]
    no_expert = beside.why_not.get("curves") or beside.why_not.get(EXPERT) or NO_REFERENCE.format(EXPERT)
    said = {**LACKING, "expert_blocks": no_expert}
    return "; ".join(dict.fromkeys(said.get(name, f"{name} was not measured") for name in missing)) or NO_VALUE


def _variants(record: Record) -> Table:
    found = side_by_side(record.matrix(), inputs(record).get("test_sizes"))
    rows = [(row.id, _number(row.value), row.by, row.quantity) for row in found]
    columns = [_whole(name, [row[n] for row in rows]) for n, name in enumerate(("id", "value"))]
    return _under_headings([*columns, Column("whose", overflow="fold")], rows)


def _number(number: float, unit: str = "fraction") -> str:
    """Three or four significant digits; counts below a million in full."""
    if math.isnan(number):
        return "—"
    if number == 0 or (unit not in SMALL and number.is_integer() and abs(number) < 1e6):
        return f"{number + 0.0:,.0f}"
    if abs(number) < 0.01:
        return f"{number:.3g}"
    return f"{number:.4f}" if abs(number) < 1 else f"{number:.4g}"
