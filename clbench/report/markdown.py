"""The leaderboard as Markdown: complete without pictures, made to be read in a repository."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from clbench.leaderboard import Entry, Leaderboard, Table
from clbench.report.cells import (
    INFERENCE,
    MISSING,
    READING,
    cell,
    definitions,
    environments,
    gaps,
    head,
    overview,
    seeds,
    task_inference,
)


def to_markdown(board: Leaderboard) -> str:
    """The whole page."""
    return "\n".join(_page(board)) + "\n"


def _page(board: Leaderboard) -> Iterator[str]:
    yield from ("# Leaderboard", "")
    yield from _bullets(READING, escape=False)
    if board.left_out:
        yield from ("## Records left out", "", "These could not be used and are in no figure below.", "")
        yield from _bullets(board.left_out)
    if board.official:
        yield from _overview(board)
    for table in board.official:
        yield from _scenario(table)
    if board.variants:
        yield from ("# Variants", "", "Scenarios with overrides; not comparable with the official cards.", "")
    for table in board.variants:
        yield from _scenario(table)
    yield from ("## Definitions", "")
    yield from _bullets(
        (
            f"`{c.id}`: {escaped(c.title)}, {'higher' if c.higher_is_better else 'lower'} is better. "
            f"`{c.formula}`. {escaped(c.source)}."
            for c in definitions(board)
        ),
        escape=False,
    )
    yield from ("## What the runs ran on", "")
    yield from _bullets(f"{text} (finished runs: {n})" for text, n in environments(board))


def _overview(board: Leaderboard) -> Iterator[str]:
    yield from ("## Overview", "", "Mean `average_accuracy.gem2017` in percent.", "")
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
    heads = [f"{head(column)}<br>`{column.id}`" for column in table.columns]
    if table.entries:
        yield from _grid(["rank", "strategy", "seeds", *heads], [_row(entry, table) for entry in table.entries])
    if missing := gaps(table):
        yield from ("Not in these means:", "")
        yield from _bullets(missing)
    told, inferred = task_inference(table)
    if inferred:
        yield from (INFERENCE, "")
        yield from _grid(["strategy", *told], [[escaped(label), *shown] for label, shown in inferred])


def _row(entry: Entry, table: Table) -> list[str]:
    why = entry.unranked_because
    name = escaped(entry.label) + (f" ({why})" if why else "")
    rank = str(entry.rank) if entry.rank else MISSING
    return [rank, name, seeds(entry, table), *(cell(entry, column) for column in table.columns)]


def _grid(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    yield "|" + "|".join("---" if k < heads.index("strategy") + 1 else "---:" for k in range(len(heads))) + "|"
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
