"""``clbench metrics``: every metric that a record defines, and what libraries would print for its matrix."""

from __future__ import annotations

import math
import sys
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from clbench.errors import BadInput
from clbench.measured import inputs, value
from clbench.metrics import FAMILIES, Metric, References, metric
from clbench.metrics.libraries import side_by_side
from clbench.oracles import Oracles
from clbench.record import FILE, Record, read_record
from clbench.store import Store

AAA = "anytime_accuracy.caccia2022"
SMALL = ("fraction", "ratio", "score", "nats", "squared probability", "perplexity", "seconds")  # with decimals
NO_VALUE = "the formula has no value here: a missing cell, a single task, or nothing to divide by"
Known = dict[str, tuple[str, Metric, float]]  # by id: family, metric, value


def show_metrics(path: Path, references: Path | None) -> int:
    """Print them; ``references``: a folder of records, for the metrics that compare with a reference strategy's run."""
    record = read_record(path.parent if path.name == FILE else path)
    if record.status != "ok":
        raise BadInput(f"expected the record of a finished run; the run of '{path}' {record.status}: {record.reason}")
    oracles: References = {}
    expert = None
    if references is not None:
        others = Store(references).read().records
        oracles = Oracles.among(others).beside(record)
        expert = _expert(record, others)
    console = Console() if sys.stdout.isatty() else Console(width=140)
    names = record.names
    title = f"{names['strategy']} on {names['scenario']}, {names['model']}, seed {record.seed}"
    console.print(f"[bold]{escape(title)}[/bold]", highlight=False)
    known = {m.id: (family, m, value(m, record, oracles, expert)) for family, m in _asked(record)}
    console.print(_defined(known))
    console.print(escape(_undefined(known, record, oracles, expert)), highlight=False, soft_wrap=True)
    console.print("\n[bold]the same words elsewhere[/bold] (accuracy matrix)", highlight=False)
    console.print(_variants(record))
    return 0


def _asked(record: Record) -> list[tuple[str, Metric]]:
    """All metrics but those of libraries; the anytime average at the spacing of this record's evaluations."""
    found = [(family, m) for family, members in FAMILIES.items() if family != "libraries" for m in members]
    if record.curves and record.curves["every"] != 1:
        every = metric(f"{AAA}[period={record.curves['every']}]")
        found = [(family, every if m.id.startswith(AAA) else m) for family, m in found]
    return found


def _expert(record: Record, others: tuple[Record, ...]) -> Record | None:
    shared = ("scenario", "model", "trainer")
    found = [
        r
        for r in others
        if (r.status, r.reference, r.names["strategy"], r.seed) == ("ok", True, "independent", record.seed)
        and all(r.names[name] == record.names[name] for name in shared)
    ]
    return found[0] if len(found) == 1 else None


def _defined(known: Known) -> Table:
    table = Table(
        "family", "id", "value", "unit", "better", "what it is", box=None, pad_edge=False, header_style="bold"
    )
    before = ""
    for id, (family, m, number) in known.items():
        if not math.isnan(number):
            cells = (id, _number(number, m.unit), m.unit, "higher" if m.higher_is_better else "lower", m.title)
            table.add_row("" if family == before else family, *map(escape, cells))
            before = family
    return table


def _undefined(known: Known, record: Record, oracles: References, expert: Record | None) -> str:
    """Which are not defined, by what this record lacks for them."""
    there = {"R", *inputs(record, expert)}
    by_reason: dict[str, list[str]] = {}
    for id, (_, m, number) in known.items():
        if math.isnan(number):
            by_reason.setdefault(_lacking(m, record, oracles, there), []).append(id)
    lines = [f"  {reason}: {', '.join(ids)}" for reason, ids in by_reason.items()]
    return "\n".join(["", "not defined for this record", *lines]) if lines else "\nall are defined for this record"


def _lacking(m: Metric, record: Record, oracles: References, there: set[str]) -> str:
    if m.matrix not in record.result["matrices"] and {"R", "A"} & {*m.reads}:
        return f"no matrix {m.matrix}"
    if m.reference and m.reference not in oracles:
        return f"no run of the reference '{m.reference}' (see --references)"
    missing = [name for name in m.reads if name not in there and name != "A"]
    return f"no {', '.join(missing)}" if missing else NO_VALUE


def _variants(record: Record) -> Table:
    table = Table("quantity", "whose", "id", "value", box=None, pad_edge=False, header_style="bold")
    before = ""
    for row in side_by_side(record.matrix(), inputs(record).get("test_sizes")):
        table.add_row("" if row.quantity == before else row.quantity, row.by, escape(row.id), _number(row.value))
        before = row.quantity
    return table


def _number(number: float, unit: str = "fraction") -> str:
    if math.isnan(number):
        return "—"
    return f"{number:.4f}" if unit in SMALL else f"{number:,.10g}"
