"""How figures look, and how they become SVG inside a page: vector, deterministic, readable without colour."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from clbench.entries import Entry

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# After Okabe and Ito, moved until each has 3:1 on the light and the dark page and none meet for the colour-blind.
PALETTE = ("#0072B2", "#B04E00", "#009E73", "#C575B1", "#B38F0D", "#2D8AE8", "#A239A4")
MARKERS = "osD^vP*"
INK, SOFT, GRID, REST, PAGE = "#1c2127", "#56616b", "#e4e8ec", "#8a949d", "#fefefe"
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
CHARACTER = 0.08  # inches that a character at a tick takes
ROOM = 0.33  # inches beside it: tick, gaps and the axis's title
LINE = 66  # characters that fit on a line under a figure
Style = dict[str, Any]
Margins = tuple[float, float, float, float]
PLAIN: list[Style] = [
    {"color": color, "marker": marker, "linestyle": ("-", "--")[k % 2], "mfc": color}
    for k, (color, marker) in enumerate(zip(PALETTE, MARKERS, strict=True))
]
HOLLOW: list[Style] = [{"color": INK, "marker": m, "linestyle": (0, (1, 1.5)), "mfc": PAGE} for m in MARKERS]
GREY: Style = {"color": REST, "linewidth": 0.7, "zorder": 1}
HALO = "paint-order: stroke; stroke: var(--page); stroke-width: 2.5px"  # a path effect would make shapes of the text


class Drawing(NamedTuple):
    """A figure as SVG, and whether some of its entries are grey, without a name."""

    svg: str
    grey: bool


def highlighted(entries: Sequence[Entry], known: Mapping[str, Style] = MappingProxyType({})) -> dict[str, Style]:
    """The entries that stand out in a figure, by id: name, colour, marker, line; the others are grey.

    The best of each strategy, best first, as many as there are colours, the baseline ``naive`` always among them;
    and the best of each reference, in ink and hollow. One that has a ``known`` look from another figure keeps it.
    """
    done = sorted((e for e in entries if e.records), key=lambda e: (-np.nan_to_num(e.estimate().mean), e.label))
    plain = _chosen([entry for entry in done if not entry.reference])
    oracles = _best_of_each([entry for entry in done if entry.reference])[: len(MARKERS)]
    names = _names([*plain, *oracles])
    looks = _looks(plain, PLAIN, known) | _looks(oracles, HOLLOW, known)
    return {id: look | {"label": names[id]} for id, look in looks.items()}


def _looks(entries: list[Entry], looks: Sequence[Style], known: Mapping[str, Style]) -> dict[str, Style]:
    """A look for each entry, the known one where there is one, else the first that nobody else has."""
    kept = {e.id: {key: known[e.id][key] for key in looks[0]} for e in entries if e.id in known}
    free = iter([look for look in looks if look not in kept.values()])
    return {e.id: kept.get(e.id) or next(free) for e in entries}


def also_named(style: Mapping[str, Style], entries: Sequence[Entry]) -> dict[str, Style]:
    """The style with a name for these entries too, in grey ink; the strategy alone where the others' names are that."""
    new = [entry for entry in entries if entry.id not in style]
    known = [look["label"] for look in style.values()]
    short = [*map(_first, known), *(_first(entry.label) for entry in new)]
    whole = any(label != _first(label) for label in known)
    found = dict(style)
    for k, entry in enumerate(new):
        name = wrapped(entry.label) if whole or short.count(_first(entry.label)) > 1 else _first(entry.label)
        found[entry.id] = {"color": SOFT, "marker": MARKERS[k % len(MARKERS)], "mfc": SOFT, "label": name}
    return found


def others(n: int) -> str:
    """The legend of what is not told apart."""
    return f"{n} other entries" if n > 1 else "1 other entry"


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
    short = [_first(entry.label) for entry in entries]
    unique = len(set(short)) == len(short)
    return {e.id: s if unique else wrapped(e.label) for e, s in zip(entries, short, strict=True)}


def _first(label: str) -> str:
    """The strategy of a label, which may be wrapped."""
    return label.partition("\n")[0].partition(" · ")[0]


@contextmanager
def drawing(
    names: Sequence[str] = (), height: float = 3.2, width: float = WIDTH, margins: Margins = (0.6, 0.12, 0.1, 0.5)
) -> Iterator[tuple[Figure, Axes]]:
    """A figure with room for a legend of these names under it; sizes in inches, of the axes with their labels.

    It is untouched by the user's matplotlib settings and leaves none behind. A layout engine would take as long as all
    the rest: margins (left, right, top, bottom) are given, and ``make_room`` widens the left one.
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


def make_room(figure: Figure, axes: Axes) -> None:
    """Widen the left margin where the labels of the vertical axis are too long for it; limits must be final."""
    longest = max((len(label.get_text()) for label in axes.get_yticklabels()), default=0)
    left = (ROOM + CHARACTER * longest) / figure.get_size_inches()[0]
    box = axes.get_position()
    if left > box.x0:
        axes.set_position((left, box.y0, box.x1 - left, box.height))


def legend(figure: Figure, axes: Axes) -> None:
    """The names under the axes, in as many columns as their length allows."""
    handles, labels = axes.get_legend_handles_labels()
    place: dict[str, Any] = {"loc": "lower center", "borderaxespad": 0.2, "ncols": columns(labels), "fontsize": 8}
    figure.legend(handles, labels, **place)


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
    if tag == '<g id="halo">':
        return f'<g style="{HALO}">'
    named = re.fullmatch(r'<g id="name:(.*)">', tag, re.DOTALL)
    if named:  # an artist that was given a name: a tooltip
        return f"<g><title>{named[1]}</title>"
    tag = re.sub(r' id="([^"]*)"', lambda m: m[0] if m[1] in used else "", tag)
    tag = re.sub(r' transform="rotate\(-0 [^"]*"', "", tag)
    digits = 4 if tag.startswith("<image") else 2  # an image's scale is multiplied by its pixels
    tag = re.sub(r"-?\d+\.\d{3,}", lambda m: f"{float(m[0]):.{digits}f}", tag)
    tag = re.sub("|".join(FOLLOWING), lambda m: f"var({FOLLOWING[m[0]]})", tag)
    return tag.replace("'DejaVu Sans'", "sans-serif")
