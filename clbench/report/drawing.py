"""How figures look, and how they become SVG inside a page: vector, deterministic, readable without colour."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from clbench.entries import Entry, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A5195")  # Okabe-Ito, no yellow on white
MARKERS = "osD^vP*"
INK, SOFT, GRID, REST, PAGE = "#1c2127", "#56616b", "#e4e8ec", "#a9b2ba", "#fefefe"
FOLLOWING = {INK: "--ink", SOFT: "--soft", GRID: "--grid", REST: "--rest", PAGE: "--page"}  # the page's light or dark
SETTINGS: Any = {  # for matplotlib.rcParams, whose keys are literal types
    "text.parse_math": False,  # a dollar in a label is a dollar
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same layout everywhere
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": SOFT,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "legend.frameon": False,
}
WIDTH = 5.2  # inches
OTHERS = r"\d+ other entr(y|ies)"
LINE = 66  # characters that fit on a line under a figure
Style = dict[str, Any]
Margins = tuple[float, float, float, float]


def highlighted(table: Table) -> dict[str, Style]:
    """The entries of a scenario that stand out in its figures, by id: name, colour, marker, line; the others are grey.

    The best of each strategy, best first, as many as there are colours, the baseline ``naive`` always among them;
    and the best of each reference, in ink and hollow. An entry keeps its look from figure to figure of a scenario.
    """
    done = sorted((e for e in table.entries if e.records), key=lambda e: (-np.nan_to_num(e.estimate().mean), e.label))
    plain = _chosen([entry for entry in done if not entry.reference])
    oracles = _best_of_each([entry for entry in done if entry.reference])[: len(MARKERS)]
    found: dict[str, Style] = {}
    for k, entry in enumerate(plain):
        found[entry.id] = {
            "color": PALETTE[k],
            "marker": MARKERS[k],
            "linestyle": ("-", "--")[k % 2],
            "mfc": PALETTE[k],
        }
    for k, entry in enumerate(oracles):
        found[entry.id] = {"color": INK, "marker": MARKERS[k], "linestyle": (0, (1, 1.5)), "mfc": PAGE}
    names = _names([*plain, *oracles])
    return {id: look | {"label": names[id]} for id, look in found.items()}


def _chosen(plain: list[Entry]) -> list[Entry]:
    best = _best_of_each(plain)
    if len(plain) <= len(PALETTE) or len(best) < 3:  # few entries, or variations of one or two strategies
        return plain[: len(PALETTE)]
    naive = [entry for entry in best[len(PALETTE) :] if _strategy(entry) == "naive"]
    return [*best[: len(PALETTE) - len(naive)], *naive]


def _best_of_each(entries: list[Entry]) -> list[Entry]:
    first = {_strategy(entry): entry for entry in reversed(entries)}  # they are sorted, best first
    return sorted(first.values(), key=entries.index)


def _strategy(entry: Entry) -> str:
    return entry.names["strategy"].partition("[")[0]


def _names(entries: list[Entry]) -> dict[str, str]:
    """Names for figures: the strategy alone where that tells the entries apart."""
    short = [entry.label.partition(" · ")[0] for entry in entries]
    unique = len(set(short)) == len(short)
    return {e.id: wrapped(s if unique else e.label) for e, s in zip(entries, short, strict=True)}


GREY: Style = {"color": REST, "linewidth": 0.7, "zorder": 1}


@contextmanager
def drawing(
    names: Sequence[str] = (), height: float = 3.2, width: float = WIDTH, margins: Margins = (0.6, 0.12, 0.1, 0.5)
) -> Iterator[tuple[Figure, Axes]]:
    """A figure with room for a legend of these names under it; sizes in inches, of the axes with their labels.

    It is untouched by the user's matplotlib settings and leaves none behind. Margins are fixed: a layout engine would
    take as long as all the rest. ``margins``: left, right, top, bottom.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    under = legend_height(names)
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(SETTINGS)
        figure = Figure(figsize=(width, height + under))
        left, right, top, bottom = margins
        inside = (height - top - bottom) / (height + under)
        yield (
            figure,
            figure.add_axes((left / width, (under + bottom) / (height + under), 1 - (left + right) / width, inside)),
        )


def legend(figure: Figure, axes: Axes) -> None:
    """The names under the axes, in as many columns as their length allows; those that are not told apart come last."""
    handles, labels = axes.get_legend_handles_labels()
    last = [k for k, label in enumerate(labels) if re.fullmatch(OTHERS, label)]
    order = [k for k in range(len(labels)) if k not in last] + last
    shown = [labels[k] for k in order]
    place: dict[str, Any] = {"loc": "lower center", "borderaxespad": 0.2, "ncols": columns(labels), "fontsize": 8}
    figure.legend([handles[k] for k in order], shown, **place)


def columns(labels: Sequence[str]) -> int:
    """How many names of this length stand side by side under a figure."""
    longest = max((len(line) for label in labels for line in label.split("\n")), default=0)
    return 3 if longest <= 20 else 2 if longest <= 34 else 1


def legend_height(labels: Sequence[str]) -> float:
    """Inches that a legend of these names takes."""
    if not labels:
        return 0.0
    n_columns = columns(labels)
    lines = [label.count("\n") + 1 for label in labels]
    return 0.1 + 0.17 * (sum(lines) if n_columns == 1 else -(-len(lines) // n_columns) * max(lines))


def wrapped(label: str) -> str:
    """The label, on several lines where it does not fit on one; it is broken between its parts."""
    lines = [""]
    for part in label.split(" · "):
        joined = f"{lines[-1]} · {part}" if lines[-1] else part
        lines[-1:] = [joined] if len(joined) <= LINE or not lines[-1] else [lines[-1], part]
    return "\n".join(lines)


def svg(figure: Figure, name: str, title: str, text: str) -> str:
    """Inline SVG with title and description; ids are hashed with the figure's name, as several share one page."""
    import matplotlib as mpl

    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    width, height = figure.get_size_inches() * 72
    unwanted = r"\A.*?<svg[^>]*>|<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->"
    body = re.sub(unwanted, "", buffer.getvalue(), flags=re.DOTALL)
    used = set(re.findall(r"#([\w-]+)", body))
    body = re.sub(r"\s*\n\s*", "\n", re.sub(r"<[^>]+>", lambda tag: _tidy(tag[0], used), body))
    size = f'viewBox="0 0 {width:g} {height:g}" width="{width:g}pt" height="{height:g}pt"'
    label = f'aria-label="{escape(title)}"'
    return f'<svg {size} role="img" {label}><desc>{escape(text)}</desc>{body}'


def _tidy(tag: str, used: set[str]) -> str:
    """A tag without ids that nothing refers to, to a hundredth of a point, in the reader's typeface and colours."""
    named = re.fullmatch(r'<g id="name:(.*)">', tag, re.DOTALL)
    if named:  # an artist that was given a name: a tooltip
        return f"<g><title>{named[1]}</title>"
    tag = re.sub(r' id="([^"]*)"', lambda m: m[0] if m[1] in used else "", tag)
    tag = re.sub(r' transform="rotate\(-0 [^"]*"', "", tag)
    digits = 4 if tag.startswith("<image") else 2  # an image's scale is multiplied by its pixels
    tag = re.sub(r"-?\d+\.\d{3,}", lambda m: f"{float(m[0]):.{digits}f}", tag)
    tag = re.sub("|".join(FOLLOWING), lambda m: f"var({FOLLOWING[m[0]]})", tag)
    return tag.replace("'DejaVu Sans'", "sans-serif")
