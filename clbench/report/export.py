"""The leaderboard as plain data: everything the pages show, at full precision."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from clbench.columns import SORT_KEY, Column
from clbench.leaderboard import INFERENCE, Entry, Leaderboard, Table
from clbench.report.cells import definitions, environments
from clbench.statistics import LEVEL, MIN_SEEDS, estimate

SCHEMA = 1


def to_json(board: Leaderboard) -> dict[str, Any]:
    """Plain data for ``leaderboard.json``; scores are fractions, NaN becomes null."""
    return {
        "schema": SCHEMA,
        "sort_key": SORT_KEY,
        "interval": {"method": "Student t", "level": LEVEL, "minimum_seeds": MIN_SEEDS},
        "columns": {column.id: _column(column) for column in definitions(board)},
        "scenarios": [_table(table) for table in board.tables],
        "environments": [{"environment": text, "records": n} for text, n in environments(board)],
        "left_out": list(board.left_out),
    }


def _column(column: Column) -> dict[str, Any]:
    names = ("title", "unit", "higher_is_better", "formula", "source")
    return {name: getattr(column, name) for name in names}


def _table(table: Table) -> dict[str, Any]:
    return {
        "scenario": table.scenario,
        "variant": table.is_variant,
        **{key: table.card.get(key) for key in ("protocol", "n_tasks", "summary", "licence", "citation", "notes")},
        "seeds": list(table.seeds),
        "columns": [column.id for column in table.columns],
        "entries": [_entry(entry) for entry in table.entries],
        "skipped": [{"label": f.label, "reason": f.reason} for f in table.skipped],
    }


def _entry(entry: Entry) -> dict[str, Any]:
    inferred = [_values(share) for share in entry.task_inference()]  # task 1, 2, ... after the last one
    return {
        "rank": entry.rank,
        "label": entry.label,
        **{key: entry.names[key] for key in ("strategy", "model", "trainer")},
        "entry": entry.id,
        "reference": entry.reference,
        "unranked_because": entry.unranked_because,
        "seeds": list(entry.seeds),
        "failed": [{"seed": f.seed, "reason": f.reason} for f in entry.failures],
        "missing": list(entry.missing),
        "values": {column: _values(values) for column, values in entry.values.items()},
        **({INFERENCE: inferred} if inferred else {}),
        "records": [
            {"seed": r.seed, "id": r.id, "result_sha256": r.result_sha256, "command": r.command} for r in entry.records
        ],
    }


def _values(per_seed: Sequence[float]) -> dict[str, Any]:
    mean = estimate(per_seed)
    return {
        "mean": _plain(mean.mean),
        "half_width": _plain(mean.half_width),
        "n": mean.n,
        "per_seed": [_plain(value) for value in per_seed],
    }


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None
