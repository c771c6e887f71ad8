"""The leaderboard as one HTML file: works offline, on a phone and in print; nothing is loaded from elsewhere."""

from __future__ import annotations

import math
import re
from typing import Any

from markupsafe import Markup, escape

from clbench.columns import Column
from clbench.leaderboard import Entry, Leaderboard, Table
from clbench.report import cells, figures


def to_html(board: Leaderboard) -> str:
    """The whole page."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("clbench", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"code": _code, "breakable": _breakable}
    environment.tests["nan"] = math.isnan
    style = figures.styles(board.tables)
    return environment.get_template("page.html.j2").render(
        board=board,
        reading=cells.READING,
        overview=cells.overview(board),
        definitions=cells.definitions(board),
        environments=cells.environments(board),
        sections={table.scenario: _section(table, style) for table in board.tables},
        head_text=cells.head,
        cell=cells.cell,
        seeds=cells.seeds,
        gaps=cells.gaps,
        task_inference=cells.task_inference,
        inference_text=cells.INFERENCE,
        sort_value=_sort_value,
        missing=cells.MISSING,
    )


def _section(table: Table, style: dict[str, figures.Style]) -> dict[str, Any]:
    """The pictures of a scenario."""
    maps = [(entry.label, figures.heat_map(table, entry)) for entry in table.entries]
    return {
        "curves": _markup(figures.curves(table, style)),
        "scatter": _markup(figures.scatter(table, style)),
        "maps": [(label, Markup(svg)) for label, svg in maps if svg],
    }


def _markup(svg: str | None) -> Markup | None:
    return None if svg is None else Markup(svg)


def _sort_value(entry: Entry, column: Column) -> str:
    """What a click on the column's head sorts by; empty sorts last."""
    mean = entry.estimate(column.id).mean
    return "" if math.isnan(mean) else repr(mean)


def _code(text: str) -> Markup:
    """Put text between backticks into ``<code>``."""
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(text))))


def _breakable(text: str) -> Markup:
    """Let long ids and labels break after punctuation."""
    return Markup(re.sub(r"([_.,\[])", r"\1<wbr>", str(escape(text))))
