"""A run as trackers get it: what its record has, as flat names and numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from clbench.measured import value
from clbench.metrics import METRICS
from clbench.record import Record

Point = dict[str, float]
AFTER_TASK, EVALUATION = "after_task", "evaluation"  # what the two series are drawn over


@dataclass(frozen=True)
class Trace:
    """One run for a tracker.

    ``parameters``: its identity, names and seed; ``tags``: id, status, fingerprint, commit and what else finds it;
    ``metrics``: every metric that the record defines, by id. ``rows``: after 0..T tasks the scores of every probe, the
    costs and the counts; ``evaluations``: the in-training probes. What is missing in the record is missing here.
    """

    id: str
    name: str
    scenario: str
    ok: bool
    parameters: dict[str, str | int | float | bool]
    tags: dict[str, str]
    metrics: Point = field(default_factory=dict)
    rows: list[Point] = field(default_factory=list)
    evaluations: list[Point] = field(default_factory=list)


def trace(record: Record) -> Trace:
    """What a tracker gets of a record; of a run that failed only parameters and tags, with the reason."""
    names = record.names
    parameters = dict(_flat("", record.identity)) | {f"names.{k}": v for k, v in names.items()} | {"seed": record.seed}
    named = {
        "id": record.id,
        "entry": record.entry,
        "status": record.status,
        "reason": record.reason,
        "command": record.command,
        "reference": str(record.reference).lower(),
        "protocol": record.card.get("protocol"),
        "fingerprint": record.result.get("fingerprint"),
        **{key: record.environment.get(key) for key in ("commit", "clbench", "torch", "platform", "accelerator")},
    }
    done = record.status == "ok"
    return Trace(
        id=record.id,
        name=f"{names['strategy']} {names['model']} {names['trainer']} seed {record.seed}",
        scenario=names["scenario"],
        ok=done,
        parameters=parameters,
        tags={f"clbench.{key}": str(text) for key, text in named.items() if text is not None},
        metrics=_metrics(record) if done else {},
        rows=_rows(record) if done else [],
        evaluations=_evaluations(record),
    )


def _flat(prefix: str, data: Any) -> Iterator[tuple[str, str | int | float | bool]]:
    """Nested settings as ``strategy.parameters.lr``; lists as JSON."""
    if isinstance(data, dict):
        for key, inner in data.items():
            yield from _flat(f"{prefix}.{key}" if prefix else str(key), inner)
    elif isinstance(data, str | int | float):
        yield prefix, data
    else:
        yield prefix, json.dumps(data)


def _metrics(record: Record) -> Point:
    """Without the variants of libraries, which are for comparison only."""
    known = [m for m in METRICS.values() if not m.id.startswith("lib.")]
    return {m.id: x for m in known if not math.isnan(x := value(m, record))}


def _rows(record: Record) -> list[Point]:
    matrices = {name: record.matrix(name).values for name in record.result["matrices"]}
    rows: list[Point] = []
    for i in range(record.matrix().n_tasks + 1):
        cells = {f"{n}/task {j}": float(x) for n, m in matrices.items() for j, x in enumerate(m[i], start=1)}
        measured: dict[str, Any] = {}
        for kind, of_tasks in (("costs", record.costs), ("counts", record.result.get("counts", []))):
            now = of_tasks[i - 1] if 0 < i <= len(of_tasks) else {}
            measured |= {f"{kind}/{name}": x for name, x in now.items() if isinstance(x, int | float)}
        rows.append({n: float(x) for n, x in {**cells, **measured}.items() if not math.isnan(x)})
    return rows


def _evaluations(record: Record) -> list[Point]:
    if not record.curves:
        return []
    columns = {"task": record.curves["task"], "step": record.curves["step"]}
    columns |= {f"accuracy, task {k}": x for k, x in enumerate(record.curves["accuracy"], start=1)}
    names = [f"in_training/{name}" for name in columns]
    return [dict(zip(names, map(float, point), strict=True)) for point in zip(*columns.values(), strict=True)]
