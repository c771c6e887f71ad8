"""From a folder of records to a leaderboard: one self-contained HTML page, Markdown, CSV, JSON and LaTeX tables."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from clbench.entries import Table
from clbench.errors import BadInput, RecordError
from clbench.leaderboard import Leaderboard, make_leaderboard
from clbench.report.export import to_json
from clbench.report.html import to_html
from clbench.report.latex import to_latex
from clbench.report.markdown import to_markdown
from clbench.report.tidy import to_csv
from clbench.store import Reading, Store

__all__ = ["write_report"]


def write_report(records_root: Path, out: Path, costs: bool = True) -> Reading:
    """Write ``leaderboard.html``, ``.md``, ``.csv``, ``.json`` and ``.tex``; the same records, the same bytes.

    Without ``costs`` nothing is shown that depends on the machine, so that the boards of two machines can be compared.
    Returns what was read, with the records left out and why. Raises ``RecordError`` when there is no record at
    all, ``BadInput`` when ``out`` cannot be written.
    """
    reading = Store(records_root).read()
    if not reading.records and not reading.left_out:
        raise RecordError(f"no record under '{records_root}'; make some with: clbench run scenario=...")
    records = reading.records if costs else [replace(r, costs=[], environment={}) for r in reading.records]
    board = make_leaderboard(records, reading.left_out, [text] if (text := repeated(reading)) else [])
    pages = _pages(board if costs else _without_machine(board))
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, text in pages.items():
            (out / name).write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise BadInput(f"cannot write the report to '{out}': {error.strerror or error}") from error
    return reading


def repeated(reading: Reading) -> str:
    """How many records are of runs that are there already, in words; empty where none is."""
    n = len(reading.repeated)
    if n == 0:
        return ""
    runs, are = ("record is of a run", "it counts") if n == 1 else ("records are of runs", "they count")
    return f"{n} {runs} that another record holds too, as studies share runs; {are} once, by the one that holds most"


def _pages(board: Leaderboard) -> dict[str, str]:
    return {
        "leaderboard.html": to_html(board),
        "leaderboard.md": to_markdown(board),
        "leaderboard.csv": to_csv(board),
        "leaderboard.json": json.dumps(to_json(board), indent=1, ensure_ascii=False, allow_nan=False) + "\n",
        "leaderboard.tex": to_latex(board),
    }


def _without_machine(board: Leaderboard) -> Leaderboard:
    def plain(table: Table) -> Table:
        return replace(table, columns=tuple(column for column in table.columns if not column.machine))

    return replace(board, official=tuple(map(plain, board.official)), variants=tuple(map(plain, board.variants)))
