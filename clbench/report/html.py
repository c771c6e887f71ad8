"""The leaderboard as one HTML file: works offline, on a phone and in print; nothing is loaded from elsewhere."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from clbench.columns import Column
from clbench.entries import Entry, Table
from clbench.leaderboard import Leaderboard
from clbench.overall import READING as OVERALL
from clbench.overall import Overall
from clbench.report import cells, coming_from, runs, summary
from clbench.report.pictures import of_protocol, of_table

if TYPE_CHECKING:
    from jinja2 import Environment


def to_html(board: Leaderboard) -> str:
    """The whole page."""
    environment = _environment()
    columns = cells.definitions(board)
    numbers = {column.id: k for k, column in enumerate(columns)}
    sections = [_section(table, k, numbers) for k, table in enumerate(board.tables)]
    return environment.get_template("page.html.j2").render(
        board=board,
        lead=summary.LEAD,
        facts=summary.facts(board),
        contents=_contents(board, sections),
        protocols=sorted({str(t.card.get("protocol")) for t in board.tables}),
        tracks=sorted({e.track for t in board.tables for e in t.entries}),
        warnings=list(board.warnings),
        overall=[_overall(some) for some in board.overall],
        overall_reading=OVERALL,
        reading=cells.READING,
        overview=cells.overview(board),
        overview_text=cells.OVERVIEW,
        columns=[_definition(column, k) for k, column in enumerate(columns)],
        hidden_columns=[k for k, column in enumerate(columns) if not column.main],
        environments=cells.environments(board),
        sections=sections,
        data=_data(board),
        coming_from=_coming_from(),
        inference_text=cells.INFERENCE,
        missing=cells.MISSING,
        source=lambda name: Markup(_text(environment, name)),
    )


def _overall(overall: Overall) -> dict[str, Any]:
    """What the template shows of a protocol's scenarios together."""
    return {
        "protocol": overall.protocol,
        "track": overall.track,
        "title": summary.overall_title(overall),
        "words": summary.overall_words(overall),
        "heads": summary.overall_heads(),
        "rows": summary.overall_rows(overall),
        "apart": overall.apart,
        "figures": [(Markup(svg), Markup(caption)) for svg, caption in of_protocol(overall)],
    }


def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("clbench", "report/templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"code": _code, "breakable": _breakable, "named": _named}
    return environment


def _text(environment: Environment, name: str) -> str:
    """A file beside the templates, as it is."""
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _contents(board: Leaderboard, sections: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    """Name and anchor of every part of the page."""
    found = [("Records left out", "left-out")] if board.left_out else []
    found += [("Overview", "overview")] if board.official else []
    found += [(s["table"].scenario, s["anchor"]) for s in sections]
    found += [("How to read the figures", "reading"), ("Definitions", "definitions")]
    return [*found, ("Coming from other libraries", "coming-from")]


def _section(table: Table, number: int, numbers: Mapping[str, int]) -> dict[str, Any]:
    """What the template shows of a scenario."""
    inferred = cells.task_inference(table)
    reported = summary.reported(table)
    return {
        "table": table,
        "number": number,
        "anchor": re.sub(r"[^\w.-]+", "-", table.scenario).rstrip("-"),
        "standing": table.standing,
        "short": summary.short_standing(table),
        "columns": [_head(column, numbers[column.id]) for column in table.columns],
        "tracks": len(table.tracks) > 1,
        "rows": [_row(entry, table, numbers) for entry in table.entries],
        "gaps": cells.gaps(table),
        "matrix_note": runs.matrix_note(table),
        "figures": [(Markup(svg), Markup(caption)) for svg, caption in of_table(table)],
        "inference": {"heads": inferred[0], "rows": inferred[1]},
        "reported": {"heads": reported[0], "rows": reported[1]},
    }


def _row(entry: Entry, table: Table, numbers: Mapping[str, int]) -> dict[str, Any]:
    classes = ["unranked"] if entry.unranked_because else []
    classes += ["last-of-group"] if cells.ends_group(entry, table) else []
    classes += ["track-start"] if cells.starts_track(entry, table) else []
    runs = (*entry.records, *entry.failed)
    return {
        "label": entry.label,
        "classes": " ".join(classes),
        "track": entry.track,
        "run": runs[0].id if runs else None,
        "rank": entry.rank,
        "why": entry.unranked_because,
        "seeds": cells.seeds(entry),
        "n_seeds": len(entry.seeds),
        "cells": [
            {
                "classes": _classes(column, numbers[column.id]) + " best" * cells.is_best(entry, column),
                "value": _sort_value(entry, column),
                "text": cells.cell(entry, column),
            }
            for column in table.columns
        ],
    }


def _classes(column: Column, number: int) -> str:
    return f"n c{number}" + " machine" * column.machine


def _head(column: Column, number: int) -> dict[str, Any]:
    tip = f"{column.formula}\n{column.source}"
    up = "" if column.higher_is_better else " up"
    classes = _classes(column, number) + up
    return {"head": cells.head(column), "id": column.id, "number": number, "tip": tip, "classes": classes}


def _definition(column: Column, number: int) -> dict[str, Any]:
    names = ("id", "title", "formula", "source", "higher_is_better", "main", "differs")
    plain = {name: getattr(column, name) for name in names}
    return plain | {"number": number, "head": cells.head(column), "unit": column.unit, "bounds": cells.bounds(column)}


def _data(board: Leaderboard) -> dict[str, Any]:
    """Every run as JSON inside the page, one piece for each scenario, read when one of its runs is opened."""
    machines = runs.Environments()
    scenarios = [runs.scenario_data(table, table.columns, machines) for table in board.tables]
    index = [[run["id"] for entry in data["entries"] for run in entry["runs"]] for data in scenarios]
    return {
        "index": _embedded(index),
        "scenarios": [_embedded(data) for data in scenarios],
        "environments": _embedded(machines.listed()),
    }


def _embedded(data: Any) -> Markup:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", r"\u003c"))


def _coming_from() -> dict[str, Any]:
    return {
        "title": coming_from.TITLE,
        "lead": coming_from.LEAD,
        "shown": coming_from.SHOWN,
        "figures": coming_from.FIGURES,
        "examples": [
            {"name": e.name, "text": e.text, "rows": coming_from.matrix_rows(e)} for e in coming_from.examples()
        ],
        "variants": coming_from.variants(),
    }


def _sort_value(entry: Entry, column: Column) -> str:
    """What a click on the column's head sorts by; empty sorts last."""
    mean = entry.estimate(column.id).mean
    return "" if math.isnan(mean) else f"{mean:.10g}"


def _code(text: str) -> Markup:
    """Put text between backticks into ``<code>``."""
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(text))))


def _breakable(text: str) -> Markup:
    """Let long ids and labels break after punctuation."""
    return Markup(re.sub(r"([_.,\[])", r"\1<wbr>", str(escape(text))))


def _named(label: str) -> Markup:
    """A label whose model and trainer stand back behind the strategy."""
    name, dot, rest = label.partition(" · ")
    return _breakable(name) + (Markup(' <span class="with">') + _breakable(rest) + Markup("</span>") if dot else "")
