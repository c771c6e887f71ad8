"""The leaderboard as one long table: a row for every entry and column, at full precision."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator

from clbench.leaderboard import Leaderboard

HEADS = (
    *("scenario", "variant", "protocol", "track", "rank", "label", "strategy", "model", "trainer", "entry"),
    *("reference", "unranked_because", "metric", "title", "unit", "higher_is_better"),
    *("mean", "low", "high", "n", "interval", "seeds"),
)


def to_csv(board: Leaderboard) -> str:
    """The whole table; what is not defined is empty, never 0."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADS)
    writer.writerows(_rows(board))
    return text.getvalue()


def _rows(board: Leaderboard) -> Iterator[list[object]]:
    for table in board.tables:
        for entry in table.entries:
            names = [entry.names[key] for key in ("strategy", "model", "trainer")]
            who = [table.scenario, _word(table.is_variant), table.card.get("protocol"), entry.track, entry.rank or ""]
            who += [entry.label, *names, entry.id, _word(entry.reference), entry.unranked_because or ""]
            seeds = " ".join(map(str, entry.seeds))
            for column in table.columns:
                what = [column.id, column.title, column.unit, _word(column.higher_is_better)]
                value = entry.estimate(column.id)
                numbers = [_number(value.mean), _number(value.low), _number(value.high)]
                yield [*who, *what, *numbers, value.n, value.method, seeds]


def _word(value: bool) -> str:
    return "yes" if value else "no"


def _number(value: float) -> str:
    return repr(value) if math.isfinite(value) else ""
