"""Figures that set one quantity against another: what is learned against what is lost, accuracy against its cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from clbench.columns import SORT_KEY, Column
from clbench.entries import Entry, Table
from clbench.report.cells import SHOWN, number
from clbench.report.drawing import REST, SOFT, Style, drawing, legend, svg
from clbench.report.over_time import others
from clbench.report.placing import place_labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORGETTING = "forgetting.rwalk2018"
PLASTICITY = "learning_accuracy.mer2019"


class Point(NamedTuple):
    """An entry in a plane, in the units shown."""

    entry: Entry
    x: float
    y: float


def stability(table: Table, style: dict[str, Style]) -> str | None:
    """Forgetting against plasticity; None where no entry has both."""
    points = [Point(e, 100 * e.estimate(PLASTICITY).mean, 100 * e.estimate(FORGETTING).mean) for e in _done(table)]
    points = [p for p in points if not math.isnan(p.x + p.y)]
    if not points:
        return None
    title = f"{table.scenario}: forgetting against accuracy on each task right after learning it, means over seeds"
    parts = "; ".join(f"{p.entry.label} learns {p.x:.1f} %, forgets {p.y:.1f} points" for p in points)
    words = (f"learned: {PLASTICITY} (%)", f"forgotten: {FORGETTING} (points)")
    return _scatter(f"{table.scenario}/stability", points, style, words, title, parts)


def against_cost(table: Table, style: dict[str, Style], cost: Column) -> str | None:
    """Average accuracy against a cost, with the entries that no other beats on both; None where nothing costs."""
    scale, unit, _ = SHOWN[cost.unit]
    points = [Point(e, scale * e.estimate(cost.id).mean, 100 * e.estimate(SORT_KEY).mean) for e in _done(table)]
    points = [p for p in points if p.x > 0 and not math.isnan(p.y)]
    if len(points) < 2:
        return None
    front = pareto([p for p in points if not p.entry.reference])
    title = f"{table.scenario}: average accuracy against {cost.title}, means over seeds"
    on = ", ".join(f"{p.entry.label} ({number(p.y / 100)} %, {p.x:.3g} {unit})" for p in front)
    words = (f"{cost.title} ({unit}, logarithmic)" if unit else f"{cost.title} (logarithmic)", "average accuracy (%)")
    return _scatter(
        f"{table.scenario}/{cost.id}",
        points,
        style,
        words,
        title,
        f"No other entry is better and cheaper than: {on}",
        front,
    )


def pareto(points: Sequence[Point]) -> list[Point]:
    """The points that no other beats on both, cheapest first; equal ones are kept.

    >>> [p.y for p in pareto([Point(None, 1, 50), Point(None, 2, 40), Point(None, 3, 90)])]
    [50, 90]
    """
    front: list[Point] = []
    for point in sorted(points, key=lambda p: (p.x, -p.y)):
        if not front or point.y > front[-1].y or (point.x, point.y) == (front[-1].x, front[-1].y):
            front.append(point)
    return front


def _done(table: Table) -> list[Entry]:
    return [entry for entry in table.entries if entry.records]


def _logarithmic(axes: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=8))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _scatter(
    name: str,
    points: Sequence[Point],
    style: dict[str, Style],
    axis: tuple[str, str],
    title: str,
    text: str,
    front: Sequence[Point] = (),
) -> str:
    """The chosen entries with colour and name, the others as small grey dots whose name is a tooltip."""
    chosen = [p for p in points if p.entry.id in style]
    rest = [p for p in points if p.entry.id not in style]
    names = [style[p.entry.id]["label"] for p in chosen]
    named = max(map(len, names), default=0) <= 24  # longer ones would lie over each other
    labels = ([] if named else names) + ([others(len(rest))] if rest and not named else [])
    with drawing(labels, 3.3) as (figure, axes):
        if front:
            _logarithmic(axes)
            x, y = [p.x for p in front], [p.y for p in front]
            axes.plot(x, y, drawstyle="steps-post", color=SOFT, linewidth=1, zorder=1.5)
            axes.plot(x, y, linestyle="none", marker="o", markersize=12, mfc="none", mec=SOFT, mew=0.9, zorder=1.6)
        for p in rest:
            (dot,) = axes.plot(p.x, p.y, linestyle="none", marker=".", markersize=6, color=REST, zorder=2,
                               label=others(len(rest)) if p is rest[0] else None)  # fmt: skip
            dot.set_gid(f"name:{p.entry.label}")
        for p in chosen:
            own = {k: v for k, v in style[p.entry.id].items() if k != "linestyle"}
            axes.plot(p.x, p.y, linestyle="none", markersize=7, mew=1.3, zorder=3, **own)
        axes.set(xlabel=axis[0], ylabel=axis[1])
        axes.margins(0.14, 0.12)
        if named:
            words = [(p.x, p.y, name) for p, name in zip(chosen, names, strict=True)]
            place_labels(axes, words, taken=[(p.x, p.y) for p in rest])
        else:
            legend(figure, axes)
        return svg(figure, name, title, f"{text}.")
