"""Figures with tasks on the horizontal axis: how well earlier tasks are still done, as more are learned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clbench.entries import Entry, Table
from clbench.matrix import numbered
from clbench.report.cells import spread
from clbench.report.drawing import GREY, Drawing, Style, drawing, legend, make_room, others, svg
from clbench.statistics import estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Shown(NamedTuple):
    """How a matrix is drawn: what the axis says, the factor to what is shown, and whether it starts at 0."""

    axis: str
    factor: float
    from_zero: bool = False


AXES = {
    "accuracy": Shown("accuracy over tasks so far (%)", 100.0),
    "task_inference_accuracy": Shown("task inferred, tasks so far (%)", 100.0),
    "expected_calibration_error": Shown("calibration error, tasks so far (%)", 100.0, from_zero=True),
    "negative_log_likelihood": Shown("negative log-likelihood, tasks so far (nats)", 1.0, from_zero=True),
}
SPAN = 10.0  # what an axis of percents spans at least, and how far beyond 0 and 100 it may reach
BEYOND = 1.5


def over_time(table: Table, style: dict[str, Style], matrix: str = "accuracy") -> Drawing | None:
    """After each task the mean of a matrix over the tasks seen so far; None where no run has it."""
    entries = having(table, matrix)
    if not entries:
        return None
    shown = AXES[matrix]
    chosen = [entry for entry in entries if entry.id in style]
    rest = [entry for entry in entries if entry.id not in style]
    names = [style[entry.id]["label"] for entry in chosen] + ([others(len(rest))] if rest else [])
    with drawing(names) as (figure, axes):
        for entry in chosen:
            _draw(axes, entry, matrix, style[entry.id])
        for entry in rest:
            mean = shown.factor * so_far(entry, matrix).mean(axis=0)
            label = others(len(rest)) if entry is rest[0] else None
            (line,) = axes.plot(range(1, len(mean) + 1), mean, label=label, **GREY)
            line.set_gid(f"name:{entry.label}")
        axes.set(xlabel="tasks trained", ylabel=shown.axis)
        axes.set_ylim(*((0, None) if shown.from_zero else percents(axes.dataLim.intervaly)))
        axes.set_xticks(numbered(entries[0].matrices()[0].n_tasks))
        make_room(figure, axes)
        legend(figure, axes)
        last = "; ".join(f"{entry.label} {_final(entry, matrix)}" for entry in entries)
        title = f"{table.scenario}: {shown.axis}, after each task"
        return Drawing(svg(figure, f"{table.scenario}/{matrix}", title, f"At the end: {last}."), bool(rest))


def having(table: Table, matrix: str) -> list[Entry]:
    """The entries of which every finished run has this matrix."""
    return [e for e in table.entries if e.records and all(matrix in record.result["matrices"] for record in e.records)]


def so_far(entry: Entry, matrix: str) -> NDArray[np.float64]:
    """Shape (seeds, T): for i = 1..T mean_{j<=i} R[i, j]; NaN where a cell is missing."""
    return np.array([[row[: i + 1].mean() for i, row in enumerate(m.trained)] for m in entry.matrices(matrix)])


def percents(drawn: Sequence[float]) -> tuple[float, float]:
    """The ends of an axis of percents: around what is drawn, hardly beyond 0 and 100.

    >>> percents((65.0, 75.0)), percents((99.0, 100.0))
    ((64.5, 75.5), (89.5, 100.5))
    """
    low, high = max(drawn[0], 0.0), min(drawn[1], 100.0)
    if high - low < SPAN:
        low = min(max((low + high - SPAN) / 2, 0.0), 100.0 - SPAN)
        high = low + SPAN
    margin = 0.05 * (high - low)
    return max(low - margin, -BEYOND), min(high + margin, 100.0 + BEYOND)


def _final(entry: Entry, matrix: str) -> str:
    unit = "fraction" if AXES[matrix].factor == 100 else "ratio"
    return spread(estimate(so_far(entry, matrix)[:, -1].tolist()), unit)


def _draw(axes: Axes, entry: Entry, matrix: str, style: Style) -> None:
    factor = AXES[matrix].factor
    points = [estimate(values) for values in so_far(entry, matrix).T.tolist()]
    x = np.arange(1, len(points) + 1)
    mean, low, high = (factor * np.array([getattr(p, name) for p in points]) for name in ("mean", "low", "high"))
    marked = np.array(numbered(len(points))) - 1  # a hundred markers would hide their line
    axes.plot(x, mean, markersize=4.5, linewidth=1.5, markevery=marked, **style)
    if not entry.reference and not np.isnan(low).all():
        low, high = np.maximum(low, 0), np.minimum(high, 100 if factor == 100 else np.inf)
        axes.fill_between(x, low, high, color=style["color"], alpha=0.12, linewidth=0)
