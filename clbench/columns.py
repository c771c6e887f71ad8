"""The columns of a leaderboard's table: one number per run each, with its definition."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clbench.metrics import HEADLINE, Metric, References, metric
from clbench.record import Record

SORT_KEY = "average_accuracy.gem2017"
FROM_SCRATCH = "forward_transfer.cuber2022"
MASKED = f"task_masked.{SORT_KEY}"
MANY_TASKS = 20
SECONDARY = ("average_incremental_accuracy.icarl2017_macro", FROM_SCRATCH, "intransigence.rwalk2018")
WHERE_MEASURED = (  # of the runs that have them, on demand
    "joint_gap",
    "expected_calibration_error.last",
    "negative_log_likelihood.last",
    "brier_score.last",
    "min_accuracy.delange2023",
    "worst_case_accuracy.delange2023",
    "windowed_forgetting.delange2023[w=10]",
    "windowed_plasticity.delange2023[w=10]",
    "area_under_accuracy.iblurry2022",
)
MEMORY = ("stored_samples", "state_bytes", "peak_parameters.nevis2022")
COMPUTE = ("cumulative_train_flops.nevis2022",)  # the same on every machine
MACHINE = ("train_seconds", "evaluate_seconds", "peak_memory_bytes", "energy_joules")
Inputs = Mapping[str, Any]
Value = Callable[[Record, References, Inputs], float]


@dataclass(frozen=True)
class Column:
    """One number per run, with its definition; ``value`` reads a record, its references and ``measured.inputs`` of it.

    ``unit``: that of the metric. ``main``: shown at first; ``machine``: depends on the machine.
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
    """The columns that a scenario's table may have: what was learned first, then memory, and time last.

    Only under class-incremental does masking to the task's own classes change the accuracy. The gain over learning
    from scratch has a column where a finished reference is among the records. Growth from task to task is shown for
    ``MANY_TASKS`` or more: it is what decides whether a method lasts for many tasks, and over few it is noise and
    first allocations. A column in ``optional`` that no run fills is to be dropped.
    """
    card, done = records[0].card, [r for r in records if r.status == "ok"]
    known = [metric(id) for id in HEADLINE]
    found = [_metric_column(m) for m in known if m.id != FROM_SCRATCH or _has_reference(done, m)]
    if card.get("protocol") == "class-incremental":  # beside the plain figure
        found.insert(1, _masked_column(metric(SORT_KEY)))
    found += [_metric_column(metric(id)) for id in ("task_inference_accuracy.last", *WHERE_MEASURED)]
    grows = bool(done) and done[0].matrix().n_tasks >= MANY_TASKS
    memory, compute, machine = (tuple(_metric_column(metric(id)) for id in ids) for ids in (MEMORY, COMPUTE, MACHINE))
    return (*found, *memory, *((_GROWTH,) if grows else ()), *compute, *machine, *((_SLOWDOWN,) if grows else ()))


def optional(column: Column) -> bool:
    """Whether a column without any value is left out, instead of showing that nothing is defined."""
    always = {*HEADLINE, MASKED, "stored_samples", "state_bytes", "train_seconds"}
    return column.id not in always


def _has_reference(done: Sequence[Record], m: Metric) -> bool:
    return any(r.reference and r.names["strategy"] == m.reference for r in done)


def _metric_column(m: Metric) -> Column:
    needed = {*m.reads} - {"R", "A"}

    def value(record: Record, references: References, given: Inputs) -> float:
        there = m.matrix in record.result["matrices"] and needed <= given.keys()
        return m(record.matrix(m.matrix), references, **given) if there else math.nan

    shown = {*HEADLINE, "task_inference_accuracy.last", "state_bytes", "train_seconds"} - {*SECONDARY}
    return Column(
        m.id,
        m.title,
        m.unit,
        m.higher_is_better,
        m.formula,
        m.source,
        value,
        main=m.id in shown,
        machine=m.id in MACHINE,
        bounds=m.bounds,
        differs=m.differs,
    )


def _masked_column(m: Metric) -> Column:
    def value(record: Record, _: References, __: Inputs) -> float:
        return m(record.matrix("task_masked_accuracy"))

    source = f"{m.source}; of the matrix scored among each task's own classes, as if its label were given"
    return Column(MASKED, f"task-masked {m.title}", "fraction", True, m.formula, source, value, bounds=m.bounds)


def _per_task(rows: Sequence[Mapping[str, Any]], name: str, record: Record) -> list[float | None]:
    """One number per task; a task without one gives None, so that sums do not pretend to be complete."""
    found: list[float | None] = [row.get(name) for row in rows]
    return found + [None] * (record.matrix().n_tasks - len(found))


def _state_growth(record: Record, _: References, __: Inputs) -> float:
    second, *_rest, last = _per_task(record.result.get("counts", []), "state_bytes", record)[1:]
    return math.nan if second is None or last is None else (last - second) / (record.matrix().n_tasks - 2)


def _train_slowdown(record: Record, _: References, __: Inputs) -> float:
    second, *_rest, last = _per_task(record.costs, "train_seconds", record)[1:]
    return last / second if second and last is not None else math.nan


_GROWTH = Column(
    "state_bytes_growth",
    "state growth per task",
    "bytes per task",
    False,
    "(s_T - s_2) / (T - 2), s_k = size of all that is carried on after task k; the first tasks make what is made once",
    f"counted by clbench; 1 kB is 10³ bytes; shown from {MANY_TASKS} tasks on",
    _state_growth,
    bounds=(0.0, math.inf),
)
_SLOWDOWN = Column(
    "train_seconds_ratio",
    "training time, last task / second task",
    "ratio",
    False,
    "t_T / t_2, t_k = wall-clock time in train_task of task k; the first task pays what is paid once",
    f"measured on the machine of the run; shown from {MANY_TASKS} tasks on",
    _train_slowdown,
    machine=True,
    bounds=(0.0, math.inf),
)
