"""What a record holds of what metrics read, under the names of ``clbench.metrics.READS``; and a metric of a record."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from clbench.metrics import Metric, References
from clbench.metrics.during_training import over_seen
from clbench.record import Record

_OF_TASKS = {"test_sizes": "n_test", "train_samples": "n_train"}
_OF_COUNTS = {
    "samples_seen": "samples",
    "optimiser_steps": "steps",
    **{name: name for name in ("parameters", "stored_samples", "state_bytes")},
}
_OF_COSTS = {
    name: name for name in ("train_flops", "train_seconds", "evaluate_seconds", "energy_joules", "peak_memory_bytes")
}
OF_CURVES = ("curves", "steps", "ends", "blocks", "curve", "curve_ends")
OF_RECORDS = frozenset({"R", "A", *_OF_TASKS, *_OF_COUNTS, *_OF_COSTS, *OF_CURVES, "early_curve", "expert_blocks"})
"""What a record, its references and its expert can hold; other names of ``READS`` come from Python only."""


def value(metric: Metric, record: Record, references: References | None = None, expert: Record | None = None) -> float:
    """A metric of a record; NaN where it reads what the record, its references or its expert lack.

    ``expert``: the record of the reference strategy ``independent`` on the same card and seed, for its curves; they
    must have been measured as the record's own (``other_probes``).
    """
    if record.status != "ok" or metric.matrix not in record.result["matrices"]:
        return math.nan
    return metric(record.matrix(metric.matrix), references, **inputs(record, expert))


def inputs(record: Record, expert: Record | None = None) -> dict[str, Any]:
    """Arrays by the names of ``READS``, besides matrices; what was not measured in every task is missing."""
    found: dict[str, Any] = {}
    tasks, counts = (record.result.get(name, []) for name in ("tasks", "counts"))
    places = ((tasks, _OF_TASKS), (counts, _OF_COUNTS), (record.costs, _OF_COSTS))
    for rows, names in places:
        for name, key in names.items():
            values = [row.get(key) for row in rows]
            if len(values) == record.matrix().n_tasks and None not in values:
                found[name] = np.array(values, dtype=np.float64)
    return found | _during_training(record) | (_alone(expert) if expert and not other_probes(record, expert) else {})


def other_probes(record: Record, expert: Record) -> str:
    """How the probes of an expert differ from those of a run, and what to do; empty where they agree.

    Curves are compared evaluation by evaluation, which means nothing where they lie at other steps.
    """
    ours, theirs = record.curves, expert.curves
    if not ours:
        return ""
    if not theirs:
        return f"without in-training curves: run it again with probe_every={ours['every']}"
    differing = {key: (theirs[key], ours[key]) for key in ("every", "samples") if theirs[key] != ours[key]}
    words = {"every": "every {} steps, the run every {}", "samples": "on {} samples of a task, the run on {}"}
    said = "; ".join(words[key].format(*values) for key, values in differing.items())
    wanted = " ".join(f"probe_{key}={value}" for key, (_, value) in differing.items())
    return f"probed {said}: run it again with {wanted}" if differing else ""


def learning_blocks(record: Record) -> list[list[float]]:
    """For each task its accuracy at each evaluation while it was trained; empty without in-training curves."""
    curves = record.curves
    if not curves:
        return []
    when = [[n for n, t in enumerate(curves["task"]) if t == task] for task in range(1, len(curves["accuracy"]) + 1)]
    return [[curves["accuracy"][k][n] for n in own] for k, own in enumerate(when)]


def _during_training(record: Record) -> dict[str, Any]:
    curves, blocks = record.curves, learning_blocks(record)
    if not curves or not all(blocks):
        return {}
    steps, ends = np.array(curves["step"]), np.cumsum([len(block) for block in blocks]) - 1
    once = steps > 0  # before the first step of a task the model is that of the evaluation before
    once[[0, *ends]] = True
    found: dict[str, Any] = {
        "curves": np.array(curves["accuracy"], dtype=np.float64)[:, once],
        "steps": steps[once],
        "ends": np.cumsum(once)[ends] - 1,
        "blocks": [np.array(block) for block in blocks],
    }
    first = int(ends[0] > 0)  # without the untrained model
    found["curve"] = over_seen(found["curves"], found["ends"])[first:]
    found["curve_ends"] = found["ends"] - first
    if curves["every"] == 1:  # the first evaluations are then those after 0, 1, 2... mini-batches
        length = min(map(len, blocks))
        found["early_curve"] = np.mean([block[:length] for block in blocks], axis=0)
    return found


def _alone(expert: Record) -> dict[str, Any]:
    blocks = learning_blocks(expert)
    return {"expert_blocks": [[np.array(block)] for block in blocks]} if blocks else {}
