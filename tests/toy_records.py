"""Records with hand-written matrices, for tests."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from clbench.compose import complete
from clbench.identity import decisive, shipped_target, stream_fingerprint
from clbench.leaderboard import Leaderboard
from clbench.matrix import ScoreMatrix
from clbench.record import Record, write_record
from clbench.store import Store

FILES = ("leaderboard.md", "leaderboard.json", "leaderboard.html")
SCENARIO = "split_toy-v1"


def toy_matrix(final: float, seed: int, n_tasks: int = 3) -> ScoreMatrix:
    """Learned at 0.9, forgotten down to ``final`` at the end, a little different from seed to seed."""
    values = np.full((n_tasks + 1, n_tasks), 0.1)
    for i in range(1, n_tasks + 1):
        values[i, :i] = final
        values[i, i - 1] = 0.9
    return ScoreMatrix(values + 0.01 * seed)


def toy_record(strategy: str = "replay", seed: int = 0, final: float = 0.5, **changes: Any) -> Record:
    """A record with everything that a run leaves; ``fingerprint``: any text that stands for the data."""
    scenario = changes.pop("scenario", SCENARIO)
    matrix = changes.pop("matrix", None) or toy_matrix(final, seed)
    names = {"scenario": scenario, "strategy": strategy, "model": "mlp", "trainer": "sgd"} | changes.pop("names", {})
    card = toy_card(scenario, matrix.n_tasks)
    content: dict[str, Any] = {
        "identity": toy_identity(card, names, seed, changes.pop("more", 0)),
        "names": names,
        "seed": seed,
        "status": "ok",
        "card": card,
        "result": toy_result(matrix, changes.pop("fingerprint", f"{scenario}-{seed}")),
        "costs": [{"train_seconds": 1.5}] * matrix.n_tasks,
        "environment": {"python": "3.11"},
        "command": shlex.join(["clbench", "run", f"strategy={strategy}", f"seed={seed}"]),
    } | changes
    if content["status"] != "ok":
        content |= {"result": {}, "costs": []}
    return Record(**content)


def toy_card(scenario: str, n_tasks: int) -> dict[str, Any]:
    plain = {"name": scenario, "rule": "classes", "protocol": "class-incremental", "n_tasks": n_tasks}
    return complete(plain | {"summary": "A toy.", "licence": "CC0", "citation": "Nobody, 2026", "notes": ""})


def toy_identity(card: dict[str, Any], names: dict[str, str], seed: int, more: Any) -> dict[str, Any]:
    targets = {
        group: shipped_target(group, names[group].partition("[")[0]) or "toy.Toy" for group in ("strategy", "model")
    }
    parts = {group: {"target": t, "parameters": {"label": names[group]}, "code": "toy"} for group, t in targets.items()}
    seeds = dict.fromkeys(("order", "split", "init", "shuffle", "augment", "strategy"), seed)
    execution = {"device": "cpu", "threads": 1, "names": names, "more": more}
    return {"scenario": decisive(card), **parts, "seeds": seeds, "execution": execution}


def toy_result(matrix: ScoreMatrix, data: str) -> dict[str, Any]:
    tasks = [
        {
            "name": f"classes {k + 1}",
            "classes": [2 * k, 2 * k + 1],
            "class_names": [f"class {2 * k}", f"class {2 * k + 1}"],
            "n_train": 10**6,
            "n_test": 10**6,  # so many that any score is a share of them
            "fingerprint": f"{data}-{k}",
        }
        for k in range(matrix.n_tasks)
    ]
    spec = {"protocol": "class-incremental", "n_classes": 2 * matrix.n_tasks, "label_space": "known"}
    spec |= {"modality": "image", "inputs": {"image": [1, 8, 8]}}
    return {
        "fingerprint": stream_fingerprint("class-incremental", (str(t["fingerprint"]) for t in tasks), None),
        "spec": spec,
        "tasks": tasks,
        "matrices": {name: replace(matrix, name=name).to_json() for name in ("accuracy", "task_masked_accuracy")},
        "counts": [{"state_bytes": 2_500_000, "stored_samples": 0}] * matrix.n_tasks,
    }


def watched(record: Record) -> Record:
    """The same run with all that a record may hold: calibration, operations, probes half-way and after each task."""
    n_tasks, right = record.matrix().n_tasks, record.matrix().values
    wrong = {
        "negative_log_likelihood": ScoreMatrix(
            1 - right, "negative_log_likelihood", "nats", False, (0, -np.log(1e-12))
        ),
        "brier_score": ScoreMatrix(1 - right, "brier_score", "squared probability", False, (0.0, 2.0)),
        "expected_calibration_error": ScoreMatrix(right / 4, "expected_calibration_error", higher_is_better=False),
    }
    matrices = record.result["matrices"] | {name: matrix.to_json() for name, matrix in wrong.items()}
    costs = {"train_seconds": 1.5, "evaluate_seconds": 0.5, "train_flops": 10**9, "peak_memory_bytes": 10**6}
    evaluations = [row for k in range(n_tasks) for row in ((right[k] + right[k + 1]) / 2, right[k + 1])]
    curves = {
        "every": 5,
        "samples": 100,
        "task": [k + 1 for k in range(n_tasks) for _ in range(2)],
        "step": [5, 10] * n_tasks,
        "accuracy": np.array(evaluations).T.tolist(),
    }
    counts = [count | {"parameters": 25_450} for count in record.result["counts"]]
    result = record.result | {"matrices": matrices, "counts": counts}
    return replace(record, result=result, costs=[costs] * n_tasks, curves=curves)


def store(root: Path, *records: Record) -> Path:
    for record in records:
        write_record(Store(root).folder(record), record)
    return root


def several(strategy: str, final: float, seeds: int = 3, **changes: Any) -> list[Record]:
    return [toy_record(strategy, seed, final, **changes) for seed in range(seeds)]


Pages = Callable[..., tuple[str, dict[str, Any], str]]


def entry(board: Leaderboard, label: str) -> Any:
    return next(e for table in board.tables for e in table.entries if e.label == label)
