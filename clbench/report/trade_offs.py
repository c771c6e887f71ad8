"""Figures that set one quantity against another: what is learned against what is lost, accuracy against its cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from clbench.columns import SORT_KEY, Column
from clbench.entries import Entry, Table
from clbench.metrics import metric
from clbench.report.cells import SHOWN, number
from clbench.report.drawing import REST, SOFT, Drawing, Style, also_named, drawing, legend, make_room, others, svg
from clbench.report.placing import place_labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORGETTING = "forgetting.rwalk2018"
PLASTICITY = "learning_accuracy.mer2019"
SHORT, DENSE = 5, 1000  # an axis whose ends are nearer is numbered evenly, up to three decades at 1, 2 and 5


class Point(NamedTuple):
    """An entry in a plane, in the units shown."""

    entry: Entry
    x: float
    y: float


def stability(table: Table, style: dict[str, Style]) -> Drawing | None:
    """Forgetting against plasticity; None where fewer than two entries have both."""
    points = [Point(e, 100 * e.estimate(PLASTICITY).mean, 100 * e.estimate(FORGETTING).mean) for e in _done(table)]
    points = [p for p in points if not math.isnan(p.x + p.y)]
    if len(points) < 2:
        return None
    title = f"{table.scenario}: forgetting against accuracy on each task right after learning it, means over seeds"
    parts = "; ".join(f"{p.entry.label} learns {p.x:.1f} %, forgets {p.y:.1f} points" for p in points)
    words = (f"{metric(PLASTICITY).title} (%)", f"{metric(FORGETTING).title} (points)")
    return _scatter(f"{table.scenario}/stability", points, style, words, title, parts)


def against_cost(table: Table, style: dict[str, Style], cost: Column) -> Drawing | None:
    """Average accuracy against a cost, with the entries that no other beats; None where nothing costs.

    A reference beats nobody: it sees data that the others must not see.
    """
    scale, unit, _ = SHOWN[cost.unit]
    points = [Point(e, scale * e.estimate(cost.id).mean, 100 * e.estimate(SORT_KEY).mean) for e in _done(table)]
    points = [p for p in points if p.x > 0 and not math.isnan(p.y)]
    if len(points) < 2:
        return None
    front = pareto([p for p in points if not p.entry.reference])
    title = f"{table.scenario}: average accuracy against {cost.title}, means over seeds"
    on = ", ".join(f"{p.entry.label} ({number(p.y / 100)} %, {p.x:.3g} {unit})" for p in front)
    words = (f"{cost.title} ({unit}, logarithmic)" if unit else f"{cost.title} (logarithmic)", "average accuracy (%)")
    text = f"References aside, no other entry is as good on both and better on one than: {on}"
    named = also_named(style, [p.entry for p in front])
    return _scatter(f"{table.scenario}/{cost.id}", points, named, words, title, text, front)


def pareto(points: Sequence[Point]) -> list[Point]:
    """The points that no other beats (as good on both, better on one), cheapest first; equal ones are kept.

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


def _scatter(
    name: str,
    points: Sequence[Point],
    style: dict[str, Style],
    axis: tuple[str, str],
    title: str,
    text: str,
    front: Sequence[Point] = (),
) -> Drawing:
    """The chosen entries with look and name, those on the front first, the others as small grey dots."""
    chosen = sorted((p for p in points if p.entry.id in style), key=lambda p: (p not in front, p.entry.reference))
    rest = [p for p in points if p.entry.id not in style]
    names = [style[p.entry.id]["label"] for p in chosen]
    beside = max(map(len, names), default=0) <= 24  # longer ones would lie over each other
    labels = ([] if beside else names) + ([others(len(rest))] if rest and not beside else [])
    with drawing(labels, 3.3) as (figure, axes):
        for p in chosen:
            own = {key: value for key, value in style[p.entry.id].items() if key != "linestyle"}
            _mark(axes, p, markersize=7, mew=1.3, zorder=3, **own)
        for p in rest:
            label = others(len(rest)) if p is rest[0] else None
            _mark(axes, p, marker=".", markersize=6, color=REST, zorder=2, label=label)
        axes.set(xlabel=axis[0], ylabel=axis[1])
        axes.margins(0.14, 0.12)
        steps = _draw_front(axes, front) if front else []
        make_room(figure, axes)
        if beside:
            words = [(p.x, p.y, label) for p, label in zip(chosen, names, strict=True)]
            place_labels(axes, words, len(front), dots=[(p.x, p.y) for p in rest], steps=steps)
        else:
            legend(figure, axes)
        return Drawing(svg(figure, name, title, f"{text}."), bool(rest))


def _mark(axes: Axes, point: Point, **look: Any) -> None:
    """Draw a point, whose name is a tooltip."""
    (mark,) = axes.plot(point.x, point.y, linestyle="none", **look)
    mark.set_gid(f"name:{point.entry.label}")


def _draw_front(axes: Axes, front: Sequence[Point]) -> list[tuple[float, float]]:
    """Ring the front's points and join them by steps, on an axis of costs; returns the corners of the steps."""
    _logarithmic(axes)
    corners = [(p.x, p.y) for p in front[:1]]
    for before, after in pairwise(front):
        corners += [(after.x, before.y), (after.x, after.y)]
    axes.plot(*zip(*corners, strict=True), color=SOFT, linewidth=1, zorder=1.5)
    x, y = [p.x for p in front], [p.y for p in front]
    axes.plot(x, y, linestyle="none", marker="o", markersize=12, mfc="none", mec=SOFT, mew=0.9, zorder=1.6)
    return corners


def _logarithmic(axes: Axes) -> None:
    """A logarithmic axis of costs, numbered as densely as its span has room for."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    axes.set_xscale("log")
    low, high = axes.get_xlim()
    subs = (1.0, 2.0, 5.0) if high / low < DENSE else (1.0,)
    axes.xaxis.set_major_locator(MaxNLocator(6) if high / low < SHORT else LogLocator(subs=subs, numticks=8))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
