"""Figures with tasks on the horizontal axis: how well earlier tasks are still done, as more are learned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from clbench.entries import Entry, Table
from clbench.matrix import numbered
from clbench.report.cells import spread
from clbench.report.drawing import GREY, Style, drawing, legend, svg
from clbench.statistics import Estimate, estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

AXES = {  # of each matrix: what the axis says, and the factor to what is shown
    "accuracy": ("accuracy over tasks so far (%)", 100.0),
    "task_inference_accuracy": ("task inferred, tasks so far (%)", 100.0),
    "expected_calibration_error": ("calibration error, tasks so far (points)", 100.0),
    "negative_log_likelihood": ("negative log-likelihood, tasks so far (nats)", 1.0),
    "brier_score": ("Brier score, tasks so far", 1.0),
}


def over_time(table: Table, style: dict[str, Style], matrix: str = "accuracy") -> str | None:
    """After each task the mean of a matrix over the tasks seen so far; None where no run has it."""
    entries = [entry for entry in table.entries if has(entry, matrix)]
    if not entries:
        return None
    axis, factor = AXES[matrix]
    chosen = [entry for entry in entries if entry.id in style]
    rest = [entry for entry in entries if entry.id not in style]
    names = [style[entry.id]["label"] for entry in chosen] + ([others(len(rest))] if rest else [])
    with drawing(names) as (figure, axes):
        for entry in rest:
            (line,) = axes.plot(
                *_points(entry, matrix, factor), label=others(len(rest)) if entry is rest[0] else None, **GREY
            )
            line.set_gid(f"name:{entry.label}")
        for entry in chosen:
            _draw(axes, entry, matrix, factor, style[entry.id])
        axes.set(xlabel="tasks trained", ylabel=axis)
        axes.set_ylim(*limits(matrix))
        axes.set_xticks(numbered(entries[0].matrices()[0].n_tasks))
        legend(figure, axes)
        last = "; ".join(f"{e.label} {_final(e, matrix, factor)}" for e in entries)
        title = f"{table.scenario}: {axis}, after each task"
        return svg(figure, f"{table.scenario}/{matrix}", title, f"At the end: {last}.")


def others(n: int) -> str:
    """The legend of the lines that are not told apart."""
    return f"{n} other entries" if n > 1 else "1 other entry"


def limits(matrix: str) -> tuple[float | None, float | None]:
    """Fixed ends of the axis: nothing is above 100 %, no error below 0."""
    return (None, 101.5) if AXES[matrix][1] == 100 and "error" not in matrix else (0, None)


def has(entry: Entry, matrix: str) -> bool:
    """Whether every finished run of the entry has this matrix."""
    return bool(entry.records) and all(matrix in record.result["matrices"] for record in entry.records)


def seen_so_far(entry: Entry, matrix: str) -> list[Estimate]:
    """Per i = 1..T the estimate over seeds of mean_{j<=i} R[i, j]; NaN where a cell is missing."""
    per_seed = [[float(row[: i + 1].mean()) for i, row in enumerate(m.trained)] for m in entry.matrices(matrix)]
    return [estimate(values) for values in zip(*per_seed, strict=True)]


def _points(entry: Entry, matrix: str, factor: float) -> tuple[Sequence[int], list[float]]:
    rows = np.mean([m.trained for m in entry.matrices(matrix)], axis=0)
    mean = [factor * float(row[: i + 1].mean()) for i, row in enumerate(rows)]
    return range(1, len(mean) + 1), mean


def _final(entry: Entry, matrix: str, factor: float) -> str:
    return spread(seen_so_far(entry, matrix)[-1], "fraction" if factor == 100 else "ratio")


def _draw(axes: Axes, entry: Entry, matrix: str, factor: float, style: Style) -> None:
    points = seen_so_far(entry, matrix)
    x = np.arange(1, len(points) + 1)
    mean, low, high = (factor * np.array([getattr(p, name) for p in points]) for name in ("mean", "low", "high"))
    marked = np.array(numbered(len(points))) - 1  # a hundred markers would hide their line
    axes.plot(x, mean, markersize=4.5, linewidth=1.5, markevery=marked, **style)
    if not entry.reference and not np.isnan(low).all():
        low, high = np.maximum(low, 0), np.minimum(high, 100 if limits(matrix)[1] else np.inf)
        axes.fill_between(x, low, high, color=style["color"], alpha=0.12, linewidth=0)
