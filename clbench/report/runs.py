"""The runs behind a table as compact data, from which the page draws the one that is opened."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clbench.columns import Column
from clbench.entries import Entry, Table
from clbench.matrix import ScoreMatrix
from clbench.record import Record
from clbench.report.cells import MISSING, head, number
from clbench.store import Store

EXACT = 20  # more tasks are given as a byte a cell, in steps of 0.4 %: two thousand runs must fit on a page
STEP = 250
NOTE = "Percent correct. Row i: after i tasks, row 0 untrained; column j: test half of task j. Hatched: not measured."
COARSE = (
    "Percent correct, in steps of 0.4 %; records have it exactly. Row i: after i tasks, row 0 untrained; column j: "
    "test half of task j. Pale is 0, deep blue 100, grey not measured."
)
REPEAT = (
    "The first command makes the run again; on the same machine, build and threads its result has the same SHA-256. "
    "The second one does so and compares; its folder is relative to the place of these records."
)
TASK_MATRICES = {  # matrix: head and factor of a column of what each task is after the last one
    "accuracy": ("at the end (%)", 100.0),
    "task_masked_accuracy": ("task-masked (%)", 100.0),
    "task_inference_accuracy": ("task inferred (%)", 100.0),
    "expected_calibration_error": ("calibration error (%)", 100.0),
    "negative_log_likelihood": ("NLL (nats)", 1.0),
    "brier_score": ("Brier score", 1.0),
}
COUNTS = {  # what a task cost: head and unit of a column
    "steps": ("steps", "steps"),
    "samples": ("samples seen", "samples"),
    "stored_samples": ("samples stored", "samples"),
    "state_bytes": ("state (MB)", "bytes"),
}
COSTS = {
    "train_seconds": ("training (s)", "seconds"),
    "evaluate_seconds": ("evaluation (s)", "seconds"),
    "peak_memory_bytes": ("peak memory (MB)", "bytes"),
    "train_flops": ("training (GFLOP)", "operations"),
    "energy_joules": ("energy (J)", "joules"),
}


class Environments:
    """The machines of all runs, each given once."""

    def __init__(self) -> None:
        self.known: dict[str, int] = {}

    def index(self, environment: Mapping[str, Any]) -> int:
        """Where this environment stands in the list."""
        return self.known.setdefault(json.dumps(_flat(environment), sort_keys=True), len(self.known))

    def listed(self) -> list[dict[str, Any]]:
        """All of them, in the order of their numbers."""
        return [dict(json.loads(text)) for text in self.known]


def scenario_data(table: Table, columns: Sequence[Column], machines: Environments) -> dict[str, Any]:
    """What the page knows of the runs of a scenario, unrounded only where a person would see it."""
    return {
        "scenario": table.scenario,
        "repeat": REPEAT,
        "matrix_note": matrix_note(table),
        "columns": [head(column) for column in columns],
        "entries": [_entry(entry, columns, machines) for entry in table.entries],
    }


def matrix_note(table: Table) -> str:
    """How to read the accuracy matrices of a scenario; those of many tasks are pictures without numbers."""
    return COARSE if int(table.card.get("n_tasks") or 0) > EXACT else NOTE


def _entry(entry: Entry, columns: Sequence[Column], machines: Environments) -> dict[str, Any]:
    runs = [_run(r, machines) for r in (*entry.records, *entry.failed)]
    for k, run in enumerate(runs[: len(entry.records)]):
        run["values"] = [number(entry.values[column.id][k], column.unit) for column in columns]
    identity = next(iter((*entry.records, *entry.failed))).identity
    config = _flat({key: value for key, value in identity.items() if key != "seeds"})
    runs.sort(key=lambda run: (run["seed"], run["id"]))
    return {"label": entry.label, "id": entry.id, "config": list(config.items()), "runs": runs}


def _run(record: Record, machines: Environments) -> dict[str, Any]:
    found: dict[str, Any] = {
        "id": record.id,
        "seed": record.seed,
        "status": record.status,
        "command": record.command,
        "path": path(record),
        "seeds": list(_flat({"seeds": record.identity["seeds"]}).items()),
        "environment": machines.index(record.environment),
    }
    if record.status != "ok":
        return found | {"reason": record.reason}
    return found | {
        "sha": record.result_sha256,
        "fingerprint": record.result.get("fingerprint"),
        "matrix": _matrix(record.matrix()),
        "tasks": _tasks(record),
    }


def path(record: Record) -> str:
    """Where the record lies in a folder of records."""
    return Store(Path("records")).folder(record).as_posix()


def _matrix(matrix: ScoreMatrix) -> list[list[int | None]] | dict[str, Any]:
    """Rows of hundredths of a percent; long streams as a byte a cell."""
    values = matrix.values
    if matrix.n_tasks <= EXACT:
        return [[None if math.isnan(v) else round(1e4 * v) for v in row] for row in values.tolist()]
    cells = np.where(np.isnan(values), 255, np.rint(STEP * np.nan_to_num(values))).astype(np.uint8)
    return {"n_tasks": matrix.n_tasks, "bytes": base64.b64encode(cells.tobytes()).decode()}


def _tasks(record: Record) -> dict[str, Any]:
    """One row a task: what it is, how well it was learned and is done at the end, what it cost."""
    n_tasks = record.matrix().n_tasks
    named: dict[str, Sequence[Any]] = {"task": [_task_name(record, k) for k in range(n_tasks)]}
    named["when learned (%)"] = _rounded(100 * np.diagonal(record.matrix().trained))
    for name, (title, factor) in TASK_MATRICES.items():
        if name in record.result["matrices"]:
            named[title] = _rounded(factor * record.matrix(name).values[-1])
    for rows, titles in ((record.result.get("counts", []), COUNTS), (record.costs, COSTS)):
        for key, (title, unit) in titles.items():
            column = [row.get(key) for row in rows]
            if any(value is not None for value in column):
                shown = [MISSING if value is None else number(value, unit) for value in column]
                named[title] = [*shown, *[MISSING] * (n_tasks - len(column))]
    return {"columns": list(named), "rows": [list(row) for row in zip(*named.values(), strict=True)]}


def _task_name(record: Record, k: int) -> str:
    tasks = record.result.get("tasks", [])
    names = tasks[k].get("class_names") or [] if k < len(tasks) else []
    text = ", ".join(map(str, names))
    return f"{k + 1}: {text}" if 0 < len(text) <= 24 else f"{k + 1}: {len(names)} classes" if names else str(k + 1)


def _rounded(values: NDArray[np.float64]) -> list[str]:
    return [MISSING if math.isnan(v) else f"{v + 0.0:.2f}".replace("-", "−") for v in values.tolist()]


def _flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    return dict(_leaves(data, prefix))


def _leaves(data: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Nested settings under dotted names; lists as text, nothing for what is not set."""
    for key, value in data.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{name}.")
        elif value is not None:
            yield name, json.dumps(value) if isinstance(value, list | bool) else value
