"""Numbers that metrics must give: those of the reference page as they came, in the words of ``READS``, and our own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

Vector = dict[str, Any]
DATA = Path(__file__).parent / "data"
PAGE: list[Vector] = json.loads((DATA / "test_vectors.json").read_text())
CALLED = {
    "last_evaluation_of_task": "ends",
    "Z": "early_curve",
    "task_end_evaluations": "curve_ends",
    "class_accuracy_at_task_ends": "class_rows",
    "class_accuracies": "class_rows",
    "final_accuracy": "order_scores",
    "count": "counts",
}
LOSSES = ("edge.lower_is_better",)  # as its note says


def worded(vector: Vector) -> Vector:
    """A vector of the page with its inputs under the names that metrics read."""
    given = vector.get("inputs", {})
    inputs = {CALLED.get(name, name): value for name, value in given.items()}
    if "train_order" in vector:
        inputs["train_order"] = vector["train_order"]
    if "lb_curves_linspace" in given:
        inputs["blocks"] = [np.linspace(a, b, n) for a, b, n in given["lb_curves_linspace"]]
    if "ste_curves_linspace_then_constant" in given:
        lines = given["ste_curves_linspace_then_constant"]
        inputs["expert_blocks"] = [[np.r_[np.linspace(a, b, n), np.full(m, c)]] for a, b, n, c, m in lines]
    matrix = vector["matrix"]
    if "forward_transfer" in given and "forgetting" in given:  # avalanche.scalars: one task's values are two cells
        forgotten, transferred = given["forgetting"], given["forward_transfer"]
        matrix = [
            [None, transferred["initial"]],
            [forgotten["initial"], transferred["before_learning"]],
            [forgotten["last"], None],
        ]
    return vector | {"matrix": matrix, "inputs": inputs, "higher_is_better": vector["id"] not in LOSSES}


def own() -> list[Vector]:
    """Vectors worked by hand, for what the page has none of."""
    vectors: list[Vector] = json.loads((DATA / "metric_vectors.json").read_text())
    for vector in vectors:
        if shifts := vector.get("inputs", {}).get("near_future"):
            vector["inputs"]["near_future"] = {int(shift): np.array(values) for shift, values in shifts.items()}
    return vectors


WORDED = [worded(vector) for vector in PAGE]
EVERY: list[Vector] = [*(vector for vector in WORDED if vector["computed"]), *own()]
