"""The columns of a leaderboard's table: one number per run each, with its definition."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clbench.metrics import HEADLINE, Metric, References, metric
from clbench.record import Record, total

SORT_KEY = "average_accuracy.gem2017"
FROM_SCRATCH = "forward_transfer.cuber2022"
MANY_TASKS = 20
SECONDARY = ("average_incremental_accuracy.icarl2017_macro", FROM_SCRATCH, "intransigence.rwalk2018")
Value = Callable[[Record, References], float]


@dataclass(frozen=True)
class Column:
    """One number per run, with its definition.

    ``unit``: ``fraction``, ``samples``, ``bytes``, ``bytes per task``, ``seconds`` or ``ratio``. ``main``: shown at
    first; ``machine``: depends on the machine.
    """

    id: str
    title: str
    unit: str
    higher_is_better: bool
    formula: str
    source: str
    value: Value
    main: bool = True
    machine: bool = False
    bounds: tuple[float, float] | None = None
    differs: str = ""


def columns(records: Sequence[Record]) -> tuple[Column, ...]:
    """The columns of one scenario's table: what was learned first, then memory, and time last.

    Time depends on the machine. Only under class-incremental does masking to the task's own classes change the
    accuracy. The gain over learning from scratch has a column where a finished reference is among the records, task
    inference where a run has inferred tasks. Growth from task to task is shown for ``MANY_TASKS`` or more:
    it is what decides whether a method lasts for many tasks, and over few it is noise and first allocations.
    """
    card, done = records[0].card, [r for r in records if r.status == "ok"]
    known = [metric(id) for id in HEADLINE]
    found = [_metric_column(m) for m in known if m.id != FROM_SCRATCH or _has_reference(done, m)]
    if card.get("protocol") == "class-incremental":
        found.append(_masked_column(metric(SORT_KEY)))
    inference = metric("task_inference_accuracy.last")
    if any(inference.matrix in r.result["matrices"] for r in done):
        found.append(_metric_column(inference))
    grows = bool(done) and done[0].matrix().n_tasks >= MANY_TASKS
    return (*found, *_MEMORY, *((_GROWTH,) if grows else ()), *_TIME, *((_SLOWDOWN,) if grows else ()))


def _has_reference(done: Sequence[Record], m: Metric) -> bool:
    return any(r.reference and r.names["strategy"] == m.reference for r in done)


def _metric_column(m: Metric) -> Column:
    def value(record: Record, references: References) -> float:
        return m(record.matrix(m.matrix), references) if m.matrix in record.result["matrices"] else math.nan

    what = (m.id, m.title, "fraction", m.higher_is_better, m.formula, m.source, value)
    return Column(*what, main=m.id not in SECONDARY, bounds=m.bounds, differs=m.differs)


def _masked_column(m: Metric) -> Column:
    def value(record: Record, _: References) -> float:
        return m(record.matrix("task_masked_accuracy"))

    source = f"{m.source}; of the matrix scored among each task's own classes, as if its label were given"
    return Column(
        f"task_masked.{m.id}", f"task-masked {m.title}", "fraction", True, m.formula, source, value, bounds=m.bounds
    )


def _per_task(rows: Sequence[Mapping[str, Any]], name: str, record: Record) -> list[float | None]:
    """One number per task; a task without one gives None, so that sums do not pretend to be complete."""
    found: list[float | None] = [row.get(name) for row in rows]
    return found + [None] * (record.matrix().n_tasks - len(found))


def _stored_samples(record: Record, _: References) -> float:
    stored = _per_task(record.result.get("counts", []), "stored_samples", record)
    return math.nan if None in stored else float(max(s for s in stored if s is not None))


def _state_bytes(record: Record, _: References) -> float:
    last = _per_task(record.result.get("counts", []), "state_bytes", record)[-1]
    return math.nan if last is None else float(last)


def _state_growth(record: Record, _: References) -> float:
    second, *_rest, last = _per_task(record.result.get("counts", []), "state_bytes", record)[1:]
    return math.nan if second is None or last is None else (last - second) / (record.matrix().n_tasks - 2)


def _train_seconds(record: Record, _: References) -> float:
    return total(_per_task(record.costs, "train_seconds", record))


def _train_slowdown(record: Record, _: References) -> float:
    second, *_rest, last = _per_task(record.costs, "train_seconds", record)[1:]
    return last / second if second and last is not None else math.nan


def _cost(id: str, title: str, unit: str, formula: str, source: str, value: Value) -> Column:
    ends = (0.0, math.inf)
    main = id != "stored_samples"
    return Column(id, title, unit, False, formula, source, value, main, id.startswith("train_seconds"), ends)


_COUNTED = "counted by clbench"
_KEPT = "max over tasks of the samples kept"
_CARRIED = "size of all that is carried on after the last task"
_MEMORY = (
    _cost("stored_samples", "stored samples", "samples", _KEPT, _COUNTED, _stored_samples),
    _cost("state_bytes", "state", "bytes", _CARRIED, _COUNTED, _state_bytes),
)
_GROWTH = _cost(
    "state_bytes_growth",
    "state growth per task",
    "bytes per task",
    "(s_T - s_2) / (T - 2), s_k = size of all that is carried on after task k; the first tasks make what is made once",
    f"{_COUNTED}; 1 kB is 10³ bytes; shown from {MANY_TASKS} tasks on",
    _state_growth,
)
_TIME = (
    _cost(
        "train_seconds",
        "training time",
        "seconds",
        "sum over tasks of the wall-clock time in train_task",
        "measured on the machine of the run; compare within one machine only",
        _train_seconds,
    ),
)
_SLOWDOWN = _cost(
    "train_seconds_ratio",
    "training time, last task / second task",
    "ratio",
    "t_T / t_2, t_k = wall-clock time in train_task of task k; the first task pays what is paid once",
    f"measured on the machine of the run; shown from {MANY_TASKS} tasks on",
    _train_slowdown,
)
