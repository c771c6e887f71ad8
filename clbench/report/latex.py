"""A table for each official scenario, ready for a paper: the caption says what each number is."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from operator import attrgetter

from clbench.columns import Column
from clbench.entries import Entry, Table
from clbench.leaderboard import Leaderboard
from clbench.report.cells import is_best, number

SPECIAL = {
    **{c: f"\\{c}" for c in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "·": r"\textperiodcentered{}",
    "—": "---",
    "−": "$-$",
    "±": r"$\pm$",
    "²": r"\textsuperscript{2}",
    "³": r"\textsuperscript{3}",
    "⁶": r"\textsuperscript{6}",
}


def to_latex(board: Leaderboard) -> str:
    """All tables; each can be copied into a paper by itself."""
    lines = [r"% Made by clbench report. Needs \usepackage{booktabs,graphicx}.", ""]
    for table in board.official:
        lines += [*_table(table), ""]
    return "\n".join(lines)


def escaped(text: str) -> str:
    r"""Text that LaTeX takes literally.

    >>> escaped("er_ace[memory=50] & 3 %")
    'er\\_ace[memory=50] \\& 3 \\%'
    """
    return re.sub("|".join(map(re.escape, SPECIAL)), lambda m: SPECIAL[m[0]], " ".join(text.split()))


def _table(table: Table) -> Iterator[str]:
    shown = [column for column in table.columns if column.main and column.unit == "fraction"]
    names = _names(table.entries)
    plain = [entry for entry in table.entries if not entry.reference]
    references = [entry for entry in table.entries if entry.reference]
    yield from (
        r"\begin{table}",
        r"\centering\small\setlength{\tabcolsep}{4pt}",
        rf"\caption{{{_caption(table, shown)}}}",
    )
    yield rf"\label{{tab:{re.sub(r'[^A-Za-z0-9.-]+', '-', table.scenario)}}}"
    fits = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}"  # smaller only where it is too wide
    yield from (rf"{fits}{{\begin{{tabular}}{{rl{'r' * len(shown)}}}", r"\toprule")
    yield " & ".join(["rank", "strategy", *(_head(column) for column in shown)]) + r" \\"
    for place, some in groupby(plain, attrgetter("track")):
        yield r"\midrule"
        if len(table.tracks) > 1:
            yield rf"\multicolumn{{{2 + len(shown)}}}{{l}}{{\emph{{{escaped(place)}}}}} \\"
        yield from (_row(entry, names, shown) for entry in some)
    if references:
        yield from (r"\midrule", *(_row(entry, names, shown) for entry in references))
    yield from (r"\bottomrule", r"\end{tabular}}", r"\end{table}")


def _head(column: Column) -> str:
    arrow = r"$\uparrow$" if column.higher_is_better else r"$\downarrow$"
    lines = escaped(column.title).replace(" ", r"\\")
    return rf"\shortstack[r]{{{lines} {arrow}}}"


def _names(entries: Sequence[Entry]) -> dict[str, str]:
    """By entry the strategy, with its model and trainer only where these tell two entries apart."""
    short = {entry.id: entry.label.partition(" · ")[0] for entry in entries}
    count = Counter(short.values())
    return {entry.id: short[entry.id] if count[short[entry.id]] == 1 else entry.label for entry in entries}


def _row(entry: Entry, names: Mapping[str, str], shown: list[Column]) -> str:
    mark = r"\textsuperscript{*}" if _apart(entry) else ""
    cells = [_cell(entry, column) for column in shown]
    return " & ".join([str(entry.rank or "---"), escaped(names[entry.id]) + mark, *cells]) + r" \\"


def _apart(entry: Entry) -> str | None:
    """Why an entry does not stand among the others, beside being a reference."""
    return None if entry.unranked_because == "reference" else entry.unranked_because


def _cell(entry: Entry, column: Column) -> str:
    """A mean with its interval; bold in the ranked column for the first of a track and what is level with it."""
    value = entry.estimate(column.id)
    if math.isnan(value.mean):
        return "---"
    mean = _number(value.mean, column)
    shown = rf"\mathbf{{{mean}}}" if is_best(entry, column) else mean
    if value.method == "none":
        return f"${shown}$"
    if value.method == "bootstrap":
        return f"${shown}$ [${_number(value.low, column)}$, ${_number(value.high, column)}$]"
    return rf"${shown} \pm {_number(value.half_width, column)}$"


def _number(value: float, column: Column) -> str:
    return number(value, column.unit).replace("−", "-")


def _caption(table: Table, shown: list[Column]) -> str:
    """What was measured, on how many seeds, under which ids, with which interval."""
    counts = sorted({len(entry.seeds) for entry in table.entries if entry.records})
    n = str(counts[0]) if len(counts) == 1 else f"{counts[0]}$ to ${counts[-1]}" if counts else "no"
    methods = sorted({entry.estimate().method for entry in table.entries} - {"none"})
    interval = f"{' or '.join(methods)} intervals (95 %)" if methods else "no interval"
    ids = "; ".join(f"{escaped(c.title)}: \\texttt{{{escaped(c.id)}}}" for c in shown)
    references = any(entry.reference for entry in table.entries)
    of_track = " of each track" if len(table.tracks) > 1 else ""
    protocol = escaped(str(table.card.get("protocol")).capitalize())
    apart = "; ".join(sorted({why for entry in table.entries if (why := _apart(entry))}))
    bold = f" Bold: the first{of_track}, and what its seeds do not separate from it (paired t test, Holm)."
    return (
        rf"\texttt{{{escaped(table.scenario)}}}: {escaped(str(table.card.get('summary', '')))} "
        f"{protocol}, {table.card.get('n_tasks')} tasks; in \\%, "
        f"means over $n = {n}$ seeds, {escaped(interval)}. {ids}."
        + (bold if table.tracks else "")
        + (" Below the last rule: references, which see data that a continual learner must not see." * references)
        + (f" *: {escaped(apart)}." if apart else "")
    )
