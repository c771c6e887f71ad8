"""The leaderboard as Markdown: complete without pictures, made to be read in a repository."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from clbench.columns import Column
from clbench.entries import Entry, Table
from clbench.leaderboard import Leaderboard
from clbench.overall import READING as OVERALL
from clbench.report import summary
from clbench.report.cells import (
    INFERENCE,
    MISSING,
    OVERVIEW,
    READING,
    bounds,
    cell,
    definitions,
    environments,
    gaps,
    head,
    is_best,
    overview,
    seeds,
    task_inference,
)


def to_markdown(board: Leaderboard) -> str:
    """The whole page."""
    return "\n".join(_page(board)) + "\n"


def _page(board: Leaderboard) -> Iterator[str]:
    yield from ("# Leaderboard", "", summary.LEAD, "", f"{summary.facts(board)}.", "")
    yield from (
        "Every column, with full precision: leaderboard.csv and leaderboard.json. Every run: leaderboard.html.",
        "",
    )
    for title, lines, why in (
        ("Records left out", board.left_out, "These could not be used and are in no figure below."),
        ("Warnings", board.warnings, "What may make figures doubtful."),
    ):
        if lines:
            yield from (f"## {title}", "", why, "")
            yield from _bullets(lines)
    if board.official:
        yield from _overview(board)
    for table in board.official:
        yield from _scenario(table)
    if board.variants:
        yield from ("# Variants", "", "Scenarios with overrides; not comparable with the official cards.", "")
    for table in board.variants:
        yield from _scenario(table)
    yield from ("## How to read the figures", "")
    yield from _bullets(READING, escape=False)
    yield from ("## Definitions", "")
    yield from _bullets(map(_definition, definitions(board)), escape=False)
    if machines := environments(board):
        yield from ("## What the runs ran on", "")
        yield from _bullets(f"{text} (finished runs: {n})" for text, n in machines)


def _definition(column: Column) -> str:
    better = "higher" if column.higher_is_better else "lower"
    ends = f", from {bounds(column)}" if bounds(column) else ""
    differs = f" Differs: {escaped(column.differs)}." if column.differs else ""
    what = f"`{column.id}`: {escaped(column.title)}, {better} is better, {column.unit}{ends}."
    return f"{what} `{column.formula}`. {escaped(column.source)}.{differs}"


def _overview(board: Leaderboard) -> Iterator[str]:
    yield from ("## Overview", "", "What the seeds separate, and what they do not:", "")
    yield from _bullets(f"{table.scenario}: {summary.short_standing(table)}" for table in board.official)
    if any(some.methods for some in board.overall):
        yield from (OVERALL, "")
    for some in board.overall:
        yield from (
            f"### {escaped(summary.overall_title(some))}",
            "",
            escaped(summary.overall_words(some)),
            "",
        )
        if some.methods:
            rows = [[escaped(text) for text in row] for row in summary.overall_rows(some)]
            yield from _grid(summary.overall_heads(), rows)
        if some.apart:
            yield from ("Not on all of these scenarios:", "")
            yield from _bullets(some.apart)
    yield from (OVERVIEW, "")
    rows = [
        [escaped(label) + (" (reference)" if reference else ""), *(shown.replace("*", r"\*") for shown in shown_cells)]
        for label, reference, shown_cells in overview(board)
    ]
    yield from _grid(["strategy", *(escaped(table.scenario) for table in board.official)], rows)
    if any(shown.endswith("*") for row in rows for shown in row):
        yield from (r"\* Not ranked: seeds are missing or fewer than three.", "")


def _scenario(table: Table) -> Iterator[str]:
    card = table.card
    yield from (f"## {escaped(table.scenario)}", "", f"{escaped(str(card.get('summary', '')))}", "")
    facts = [f"Protocol: {card.get('protocol')}; {card.get('n_tasks')} tasks; seeds: {_list(table.seeds)}."]
    facts += [f"{key.capitalize()}: {card[key]}" for key in ("licence", "citation", "notes") if card.get(key)]
    yield from _bullets(facts)
    if table.entries:
        shown = [column for column in table.columns if column.main]
        heads = [f"{head(column)}<br>`{column.id}`" for column in shown]
        yield from (escaped(table.standing), "")
        yield from _grid(["rank", "strategy", "seeds", *heads], [_row(e, table, shown) for e in table.entries])
    if missing := gaps(table):
        yield from ("Not in these means:", "")
        yield from _bullets(missing)
    told, inferred = task_inference(table)
    if inferred:
        yield from (INFERENCE, "")
        yield from _grid(["strategy", *told], [[escaped(label), *shares] for label, shares in inferred])
    names, reported = summary.reported(table)
    if reported:
        yield from ("Reported in papers, not measured here:", "")
        yield from _grid(names, [list(map(escaped, row)) for row in reported])


def _row(entry: Entry, table: Table, shown: Sequence[Column]) -> list[str]:
    why = entry.unranked_because
    name = escaped(entry.label) + (f" ({why})" if why else "")
    if entry.rank and len(table.tracks) > 1:
        name += f"<br>{entry.track}"
    rank = str(entry.rank) if entry.rank else MISSING
    cells = [f"**{cell(entry, c)}**" if is_best(entry, c) else cell(entry, c) for c in shown]
    return [rank, name, seeds(entry), *cells]


def _grid(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    n_words = heads.index("strategy") + 1 if "strategy" in heads else 1
    yield "|" + "|".join("---" if k < n_words else "---:" for k in range(len(heads))) + "|"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""


def _bullets(texts: Iterable[str], escape: bool = True) -> Iterator[str]:
    for text in texts:
        yield f"- {escaped(text) if escape else text}"
    yield ""


def _list(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers)) or MISSING


def escaped(text: str) -> str:
    r"""Text that Markdown and its tables take literally.

    >>> escaped("a|b *c*")
    'a\\|b \\*c\\*'
    """
    return re.sub(r"([\\`*|<>#])", r"\\\1", " ".join(text.split()))
