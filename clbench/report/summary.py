"""What the page says in plain words before any table: what was measured, and what is and is not separated."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from clbench.columns import SORT_KEY
from clbench.entries import Entry, Table
from clbench.leaderboard import Leaderboard
from clbench.overall import Overall
from clbench.report.cells import MISSING, number

LEAD = (
    "How well continual-learning strategies do on all tasks of a stream after learning them one after another. Each "
    "scenario is a stream of tasks with its own table; the figure that ranks is the mean accuracy over all tasks after "
    "the last one."
)


def facts(board: Leaderboard) -> str:
    """How much there is."""
    entries = [entry for table in board.tables for entry in table.entries]
    n_runs = sum(len(entry.records) for entry in entries)
    seeds = sorted({len(entry.records) for entry in entries})
    span = f"{seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else str(seeds[0]) if seeds else "no"
    apart = f" and {_several(len(board.variants), 'variant')}" if board.variants else ""
    what = f"{_several(len(board.official), 'scenario')}{apart} · {len(entries)} entries"
    return f"{what} · {n_runs:,} finished runs · {span} seeds an entry"


def _several(n: int, what: str) -> str:
    return f"{n} {what}{'s' * (n != 1)}"


def short_standing(table: Table) -> str:
    """The standing in a line or two: for each track who is first, with whom, and how many steps there are."""
    found = [[entry for entry in table.entries if entry.rank and entry.track == track] for track in table.tracks]
    if not found:
        return "No entry is ranked."
    told = [f"{f'{some[0].track}: ' if len(found) > 1 else ''}{_first(some)}" for some in found]
    text = "; ".join(told)
    return f"{text[0].upper()}{text[1:]}."


def _first(ranked: list[Entry]) -> str:
    """Who leads a track, and what its seeds separate."""
    groups = [list(group) for _, group in groupby(ranked, key=lambda entry: entry.rank)]
    name = ranked[0].label.partition(" · ")[0]  # its model and trainer are in the table
    best = f"{name} ({number(ranked[0].estimate(SORT_KEY).mean)} %)"
    if len(ranked) == 1:
        return f"only {best} is ranked"
    level = sum(entry.best for entry in ranked) - 1
    others = f"{_several(level, 'other')} not separated from it" if level else "separated from all others"
    return f"{len(ranked)} ranked, best {best}, {others}; {_several(len(groups), 'rank')} by separated neighbours"


def overall_title(overall: Overall) -> str:
    """Which scenarios are together, and which methods."""
    return f"{overall.protocol.capitalize()}, {overall.track}: {len(overall.scenarios)} scenarios together"


def overall_heads() -> list[str]:
    """The columns of an overall table."""
    return ["strategy and model", "mean (%)", "IQM (%)", "better than another (%)"]


def overall_rows(overall: Overall) -> list[list[str]]:
    """One row a method, best first, with intervals where there are enough seeds."""
    return [
        [m.label, _with_ends(m.mean, m.mean_ends), _with_ends(m.iqm, m.iqm_ends), number(m.better)]
        for m in overall.methods
    ]


def _with_ends(value: float, ends: tuple[float, float]) -> str:
    low, high = (number(end) for end in ends)
    return number(value) if low == MISSING else f"{number(value)} [{low}, {high}]"


def overall_words(overall: Overall) -> str:
    """What the scenarios of a protocol separate together, or why they cannot, and what is in the means."""
    where = f"Over {', '.join(overall.scenarios)} (data sets: {', '.join(overall.data)}"
    if not overall.methods:
        return f"{where}): there is no seed that all of these methods were run with, so there is nothing to compare."
    what = f"{where}; {overall.methods[0].scores.shape[0]} seeds each)"
    said = overall.ranking.in_words() if overall.ranking is not None else overall.because
    return f"{what}. {said[0].upper()}{said[1:]}."


def reported(table: Table) -> tuple[list[str], list[list[str]]]:
    """Figures that papers report for a card: heads and rows; scores in percent as on the card."""
    rows: list[dict[str, Any]] = list(table.card.get("reported") or ())
    if not rows:
        return [], []
    keys = list(dict.fromkeys(key for row in rows for key in row))
    return [key.replace("_", " ") for key in keys], [[str(row.get(key, MISSING)) for key in keys] for row in rows]
