"""The leaderboard as plain data: everything the pages show, at full precision."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from clbench.columns import SORT_KEY, Column
from clbench.entries import INFERENCE, Entry, Table
from clbench.leaderboard import Leaderboard
from clbench.overall import READING, Method, Overall
from clbench.report import cells
from clbench.report.runs import path
from clbench.statistics import INTERVALS, LEVEL, MIN_SEEDS, Estimate, Ranking, estimate

SCHEMA = 2


def to_json(board: Leaderboard) -> dict[str, Any]:
    """Plain data for ``leaderboard.json``; scores are fractions, NaN becomes null."""
    return {
        "schema": SCHEMA,
        "sort_key": SORT_KEY,
        "interval": {"level": LEVEL, "minimum_seeds": MIN_SEEDS, "method": INTERVALS},
        "columns": {column.id: _column(column) for column in cells.definitions(board)},
        "overall": [_overall(some) for some in board.overall],
        "scenarios": [_table(table) for table in board.tables],
        "environments": [{"environment": text, "records": n} for text, n in cells.environments(board)],
        "warnings": list(board.warnings),
        "left_out": list(board.left_out),
    }


def _column(column: Column) -> dict[str, Any]:
    names = ("title", "unit", "higher_is_better", "formula", "source", "differs", "main", "machine")
    found = {name: getattr(column, name) for name in names}
    return found | {"bounds": None if column.bounds is None else [_plain(end) for end in column.bounds]}


def _overall(overall: Overall) -> dict[str, Any]:
    return {
        "protocol": overall.protocol,
        "track": overall.track,
        "scenarios": list(overall.scenarios),
        "data_sets": list(overall.data),
        "methods": [_method(method) for method in overall.methods],
        "not_on_all": list(overall.apart),
        "ranking": None if overall.ranking is None else _ranking(overall.ranking),
        "because": overall.because,
        "reading": READING,
    }


def _method(method: Method) -> dict[str, Any]:
    ends = {name: [_plain(end) for end in getattr(method, name)] for name in ("mean_ends", "iqm_ends")}
    figures = {name: _plain(getattr(method, name)) for name in ("mean", "iqm", "better")}
    return {"label": method.label, "track": method.track, "n_seeds": method.scores.shape[0], **figures, **ends}


def _ranking(ranking: Ranking) -> dict[str, Any]:
    return {
        "methods": [{"label": n, "mean_rank": r} for n, r in zip(ranking.names, ranking.ranks, strict=True)],
        "streams": ranking.n_streams,
        "friedman_p": _plain(ranking.friedman_p),
        "p_values": [[_plain(p) for p in row] for row in ranking.p_values.tolist()],
        "not_separated": [[ranking.names[k] for k in group] for group in ranking.groups],
    }


def _table(table: Table) -> dict[str, Any]:
    return {
        "scenario": table.scenario,
        "variant": table.is_variant,
        **{key: table.card.get(key) for key in ("protocol", "n_tasks", "summary", "licence", "citation", "notes")},
        "seeds": list(table.seeds),
        "standing": table.standing,
        "columns": [column.id for column in table.columns],
        "entries": [_entry(entry, table) for entry in table.entries],
        "skipped": [{"label": f.label, "reason": f.reason} for f in table.skipped],
        "reported": list(table.card.get("reported") or ()),
    }


def _entry(entry: Entry, table: Table) -> dict[str, Any]:
    inferred = [_values(estimate(share), share) for share in entry.task_inference()]  # task 1, 2, ... after the last
    return {
        "rank": entry.rank,
        "best": entry.best,
        "label": entry.label,
        "track": entry.track,
        **{key: entry.names[key] for key in ("strategy", "model", "trainer")},
        "entry": entry.id,
        "reference": entry.reference,
        "unranked_because": entry.unranked_because,
        "seeds": list(entry.seeds),
        "failed": [{"seed": f.seed, "reason": f.reason} for f in entry.failures],
        "missing": list(entry.missing),
        "values": {c.id: _values(entry.estimate(c.id), entry.values[c.id]) for c in table.columns},
        **({INFERENCE: inferred} if inferred else {}),
        "records": [
            {"seed": r.seed, "id": r.id, "record": path(r), "result_sha256": r.result_sha256, "command": r.command}
            for r in entry.records
        ],
    }


def _values(value: Estimate, per_seed: Sequence[float]) -> dict[str, Any]:
    return {
        "mean": _plain(value.mean),
        "low": _plain(value.low),
        "high": _plain(value.high),
        "n": value.n,
        "method": value.method,
        "per_seed": [_plain(score) for score in per_seed],
    }


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None
