"""The pictures of a leaderboard, as SVG to be put into a page: vector, deterministic, readable without colour."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clbench.columns import SORT_KEY
from clbench.leaderboard import Entry, Table
from clbench.matrix import numbered
from clbench.report.cells import number, spread
from clbench.report.placing import place_labels
from clbench.statistics import MIN_SEEDS, Estimate, estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORGETTING = "forgetting.rwalk2018"
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A5195")  # Okabe-Ito, no yellow on white
MARKERS = "osD^vP*X<>hp"
REFERENCE = "#444444"
TEXT_LIMIT = 6  # more tasks leave no room for numbers in the cells
DRAWN = 20  # more tasks make a picture of pixels
SETTINGS: Any = {  # for matplotlib.rcParams, whose keys are literal types
    "text.parse_math": False,  # a dollar in a label is a dollar
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same layout everywhere
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "hatch.color": "#8a8a8a",
    "hatch.linewidth": 0.6,
    "legend.frameon": False,
}
SHORT = 24  # characters of a name that fits three times under a figure
LINE = 66  # characters that fit once
Style = dict[str, Any]


def styles(tables: Sequence[Table]) -> dict[str, Style]:
    """A colour, marker and line per entry label, the same all over a page; references are grey and hollow."""
    every = {entry.label: entry.reference for table in tables for entry in table.entries}
    found: dict[str, Style] = {}
    for k, label in enumerate(sorted(label for label, reference in every.items() if not reference)):
        colour = PALETTE[k % len(PALETTE)]
        line = ("-", "--", "-.", ":")[k // len(PALETTE) % 4]
        found[label] = {"color": colour, "marker": MARKERS[k % len(MARKERS)], "linestyle": line, "mfc": colour}
    for k, label in enumerate(sorted(label for label, reference in every.items() if reference)):
        found[label] = {
            "color": REFERENCE,
            "marker": MARKERS[k % len(MARKERS)],
            "linestyle": (0, (1, 1.5)),
            "mfc": "white",
        }
    return found


def curves(table: Table, style: dict[str, Style]) -> str | None:
    """Accuracy over time: after each task the mean over the tasks seen so far; None without a finished run."""
    entries = [entry for entry in table.entries if entry.records]
    if not entries:
        return None
    n_columns = _columns(entries)
    n_lines = math.ceil(sum(_legend_name(entry).count("\n") + 1 for entry in entries) / n_columns)
    with _figure(5.2, 3.3 + 0.17 * n_lines) as (figure, axes):
        for entry in entries:
            points = _over_time(entry)
            _draw_curve(axes, points, _legend_name(entry), style[entry.label])
        n_tasks = entries[0].matrices()[0].n_tasks
        axes.set(xlabel="tasks trained", ylabel="accuracy over tasks so far (%)")
        axes.set_ylim(top=101.5)
        axes.set_xticks(numbered(n_tasks))
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=n_columns, fontsize=8)
        last = "; ".join(f"{e.label} {spread(_over_time(e)[-1])} %" for e in entries)
        text = f"{table.scenario}: mean accuracy over the tasks seen so far, after each task. At the end: {last}."
        return _svg(figure, f"{table.scenario}/curves", text)


def scatter(table: Table, style: dict[str, Style]) -> str | None:
    """Average accuracy against forgetting, one labelled point per entry; None where no entry has both."""
    found = [(e, e.estimate(FORGETTING).mean, e.estimate(SORT_KEY).mean) for e in table.entries]
    points = [(e, x, y) for e, x, y in found if not (math.isnan(x) or math.isnan(y))]
    if not points:
        return None
    named = _columns([e for e, _, _ in points]) > 1  # longer names lie over each other; they go into a legend
    n_lines = 0 if named else sum(_legend_name(e).count("\n") + 1 for e, _, _ in points)
    with _figure(5.2, 3.7 + 0.17 * n_lines) as (figure, axes):
        for entry, x, y in points:
            own = {k: v for k, v in style[entry.label].items() if k != "linestyle"}
            axes.plot(100 * x, 100 * y, linestyle="none", markersize=7, mew=1.3, label=_legend_name(entry), **own)
        axes.set(xlabel=f"forgetting (points, {FORGETTING})", ylabel="average accuracy (%)")
        axes.margins(0.16, 0.12)
        if named:
            place_labels(axes, [(100 * x, 100 * y, e.label) for e, x, y in points])
        else:
            figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=1, fontsize=8)
        parts = "; ".join(f"{e.label} {number(y)} % with forgetting {number(x)}" for e, x, y in points)
        text = f"{table.scenario}: average accuracy against forgetting, means over seeds. {parts}."
        return _svg(figure, f"{table.scenario}/scatter", text)


def heat_map(table: Table, entry: Entry) -> str | None:
    """The accuracy matrix, mean over seeds, row 0 untrained; a cell any seed lacks is hatched. None without a run."""
    if not entry.records:
        return None
    values = 100 * np.mean([m.values for m in entry.matrices()], axis=0)
    n_tasks = values.shape[1]
    with _figure(2.3, 2.5) as (figure, axes):
        axes.set_facecolor("#d9d9d9")
        axes.patch.set_hatch("////")
        _colour_cells(axes, np.ma.masked_invalid(values))
        shown = np.array(numbered(n_tasks))
        axes.set_yticks(np.append(0, shown) + 0.5, ["0", *map(str, shown)])
        axes.set_xticks(shown - 0.5, list(map(str, shown)))
        axes.set(xlabel="accuracy on task", ylabel="after task (0 = untrained)")
        axes.invert_yaxis()
        axes.grid(visible=False)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        if n_tasks <= TEXT_LIMIT:
            _write_cells(axes, values)
        last = ", ".join(f"task {j} {number(v / 100)} %" for j, v in enumerate(values[-1], start=1))
        text = f"{table.scenario}, {entry.label}: accuracy of every task after every task. After the last: {last}."
        return _svg(figure, f"{table.scenario}/{entry.label}/{entry.id}", text)


def _legend_name(entry: Entry) -> str:
    """The label, on several lines where it does not fit on one; it is broken between its parts."""
    lines = [""]
    for part in entry.label.split(" · "):
        joined = f"{lines[-1]} · {part}" if lines[-1] else part
        lines[-1:] = [joined] if len(joined) <= LINE or not lines[-1] else [lines[-1], part]
    return "\n".join(lines)


def _columns(entries: Sequence[Entry]) -> int:
    """How many names of this length stand side by side under a figure."""
    return 3 if max(len(entry.label) for entry in entries) <= SHORT else 1


def _over_time(entry: Entry) -> list[Estimate]:
    """Per i = 1..T the estimate over seeds of mean_{j<=i} R[i, j]; NaN where a cell is missing."""
    per_seed = [[float(row[: i + 1].mean()) for i, row in enumerate(m.trained)] for m in entry.matrices()]
    return [estimate(values) for values in zip(*per_seed, strict=True)]


def _draw_curve(axes: Axes, points: Sequence[Estimate], label: str, style: Style) -> None:
    x = np.arange(1, len(points) + 1)
    mean, half = (100 * np.array([getattr(p, name) for p in points]) for name in ("mean", "half_width"))
    marked = np.array(numbered(len(points))) - 1  # a hundred markers would hide their line
    axes.plot(x, mean, label=label, markersize=4.5, linewidth=1.4, markevery=marked, **style)
    if points[0].n >= MIN_SEEDS and not np.isnan(half).all():
        low, high = np.clip([mean - half, mean + half], 0, 100)
        axes.fill_between(x, low, high, color=style["color"], alpha=0.1, linewidth=0)


def _colour_cells(axes: Axes, values: np.ma.MaskedArray[Any, Any]) -> None:
    """One square a cell: drawn, or for many tasks, where that would be megabytes, one pixel of an embedded image."""
    colours: Any = {"cmap": "Blues", "vmin": 0, "vmax": 100}
    n_rows, n_tasks = values.shape
    if n_tasks <= DRAWN:
        edge = "white" if n_tasks <= TEXT_LIMIT else "none"
        axes.pcolormesh(values, edgecolors=edge, linewidth=0.8, clip_on=False, **colours)
    else:
        place: Any = {"origin": "lower", "extent": (0, n_tasks, 0, n_rows), "aspect": "auto"}
        axes.imshow(values, interpolation="none", **place, **colours)


def _write_cells(axes: Axes, values: NDArray[np.float64]) -> None:
    for (i, j), value in np.ndenumerate(values):
        if not math.isnan(value):
            colour = "white" if value > 55 else "#222222"
            axes.text(j + 0.5, i + 0.5, f"{value:.0f}", ha="center", va="center", fontsize=7.5, color=colour)


@contextmanager
def _figure(width: float, height: float) -> Iterator[tuple[Figure, Axes]]:
    """A figure of its own, in inches, untouched by the user's matplotlib settings and leaving none behind."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(SETTINGS)
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, figure.add_subplot()


def _svg(figure: Figure, name: str, text: str) -> str:
    """Inline SVG with a text alternative; ids are hashed with the figure's name, as several share one page."""
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
    return f'<svg {size} role="img" aria-label="{escape(text)}">{body}'


def _tidy(tag: str, used: set[str]) -> str:
    """A tag without ids that nothing refers to, to a hundredth of a point, in the reader's own typeface."""
    tag = re.sub(r' id="([^"]*)"', lambda m: m[0] if m[1] in used else "", tag)
    tag = re.sub(r' transform="rotate\(-0 [^"]*"', "", tag)
    digits = 4 if tag.startswith("<image") else 2  # an image's scale is multiplied by its pixels
    tag = re.sub(r"-?\d+\.\d{3,}", lambda m: f"{float(m[0]):.{digits}f}", tag)
    return tag.replace("'DejaVu Sans'", "sans-serif")
