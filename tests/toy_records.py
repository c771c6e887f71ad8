"""Records with hand-written matrices, for tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

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
    scenario = changes.pop("scenario", SCENARIO)
    matrix = changes.pop("matrix", None) or toy_matrix(final, seed)
    names = {"scenario": scenario, "strategy": strategy, "model": "mlp", "trainer": "sgd"} | changes.pop("names", {})
    masked = ScoreMatrix(matrix.values, name="task_masked_accuracy")
    result = {
        "fingerprint": changes.pop("fingerprint", f"{scenario}-{seed}"),
        "matrices": {m.name: m.to_json() for m in (matrix, masked)},
        "counts": [{"state_bytes": 2_500_000, "stored_samples": 40}] * matrix.n_tasks,
        "tasks": [],
    }
    card = {"name": scenario, "summary": "A toy.", "protocol": "class-incremental", "n_tasks": matrix.n_tasks}
    content: dict[str, Any] = {
        "identity": {"names": names, "seeds": {"order": seed, "split": seed}, "more": changes.pop("more", 0)},
        "names": names,
        "seed": seed,
        "status": "ok",
        "card": card | {"licence": "CC0", "citation": "Nobody, 2026", "notes": ""},
        "result": result,
        "costs": [{"train_seconds": 1.5}] * matrix.n_tasks,
        "environment": {"python": "3.11"},
        "command": f"clbench run strategy={strategy} seed={seed}",
    } | changes
    if content["status"] != "ok":
        content |= {"result": {}, "costs": []}
    return Record(**content)


def store(root: Path, *records: Record) -> Path:
    for record in records:
        write_record(Store(root).folder(record), record)
    return root


def several(strategy: str, final: float, seeds: int = 3, **changes: Any) -> list[Record]:
    return [toy_record(strategy, seed, final, **changes) for seed in range(seeds)]


Pages = Callable[..., tuple[str, dict[str, Any], str]]


def entry(board: Leaderboard, label: str) -> Any:
    return next(e for table in board.tables for e in table.entries if e.label == label)
