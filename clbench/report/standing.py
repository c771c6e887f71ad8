"""Figures over many streams: average ranks with what separates them, and performance profiles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clbench.report.drawing import GREY, INK, MARKERS, PALETTE, SOFT, Drawing, Style, drawing, legend, others, svg
from clbench.statistics import Ranking, performance_profile

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TAUS = np.linspace(0, 1, 101)
CHARACTER = 0.075  # inches that a character of a name takes


def critical_difference(ranking: Ranking, name: str) -> str:
    """Average ranks on a line, best left; a bar joins methods of which no two are separated."""
    k = len(ranking.names)
    n_left = (k + 1) // 2
    bars, rows = len(ranking.groups), max(n_left, k - n_left)
    margin = CHARACTER * max(map(len, ranking.names)) + 0.5
    with drawing((), 0.5 + 0.14 * bars + 0.21 * rows, 3 + 2 * margin, (margin, margin, 0.25, 0.05)) as (figure, axes):
        ends = (1.0, max(2.0, float(np.ceil(max(ranking.ranks)))))
        top = bars * 0.65 + 0.6  # in lines of names, below the axis
        for place, (label, rank) in enumerate(zip(ranking.names, ranking.ranks, strict=True)):
            left = place < n_left
            depth = top + 1 + (place if left else k - 1 - place)
            end = ends[0] - 0.03 * (ends[1] - ends[0]) if left else ends[1] + 0.03 * (ends[1] - ends[0])
            axes.plot([rank, rank, end], [0, depth, depth], color=INK, linewidth=0.8, clip_on=False)
            words = f"{label}  {rank:.2f}" if left else f"{rank:.2f}  {label}"
            look: Any = {"ha": "right" if left else "left", "va": "center", "fontsize": 8.5, "annotation_clip": False}
            axes.annotate(words, (end, depth), (-4 if left else 4, 0), textcoords="offset points", **look)
        for row, group in enumerate(ranking.groups):
            at = 0.6 + 0.65 * row
            pad = 0.012 * (ends[1] - ends[0])
            across = [ranking.ranks[group[0]] - pad, ranking.ranks[group[-1]] + pad]
            axes.plot(across, [at, at], color=PALETTE[0], linewidth=3.5, solid_capstyle="butt")
        _rank_axis(axes, ends, top + 1 + rows)
        groups = "; ".join(", ".join(ranking.names[k] for k in group) for group in ranking.groups) or "none"
        ranks = "; ".join(f"{n} {r:.2f}" for n, r in zip(ranking.names, ranking.ranks, strict=True))
        title = f"Average ranks over {ranking.n_streams} independent streams, 1 is best"
        return svg(figure, f"{name}/ranks", title, f"{ranks}. Not separated: {groups}.")


def _rank_axis(axes: Axes, ends: tuple[float, float], depth: float) -> None:
    axes.set_xlim(*ends)
    axes.set_ylim(depth, 0)
    axes.xaxis.tick_top()
    axes.grid(visible=False)
    axes.spines[["bottom", "left", "right"]].set_visible(False)
    axes.spines["top"].set_visible(True)
    axes.set_yticks([])
    steps = np.arange(1, int(ends[1]) + 1)
    axes.set_xticks(steps[:: 1 + len(steps) // 16])


def profile(scores: Mapping[str, NDArray[np.float64]], name: str) -> Drawing | None:
    """For each threshold the share of runs and streams with an accuracy above it; the best by mean stand out.

    ``scores``: (runs, streams) by method. None with fewer than two methods.
    """
    if len(scores) < 2:
        return None
    best = sorted(scores, key=lambda label: (-float(scores[label].mean()), label))
    chosen, rest = best[: len(PALETTE)], best[len(PALETTE) :]
    labels = chosen + ([others(len(rest))] if rest else [])
    with drawing(labels) as (figure, axes):
        for k, label in enumerate(chosen):
            shares = 100 * performance_profile(scores[label], TAUS)
            look: Style = {"color": PALETTE[k], "marker": MARKERS[k], "linestyle": ("-", "--")[k % 2]}
            axes.plot(100 * TAUS, shares, label=label, markersize=4, linewidth=1.4, markevery=(2 * k, 20), **look)
        for label in rest:
            shares = 100 * performance_profile(scores[label], TAUS)
            (line,) = axes.plot(100 * TAUS, shares, label=others(len(rest)) if label is rest[0] else None, **GREY)
            line.set_gid(f"name:{label}")
        axes.axhline(50, color=SOFT, linewidth=0.6, linestyle=":")
        axes.set(xlabel="accuracy τ (%)", ylabel="runs with accuracy above τ (%)", ylim=(-1, 101))
        legend(figure, axes)
        means = "; ".join(f"{label} {100 * scores[label].mean():.1f} %" for label in best)
        n_runs, n_streams = scores[best[0]].shape
        title = f"Performance profile over {n_streams} streams and {n_runs} seeds"
        return Drawing(svg(figure, f"{name}/profile", title, f"Means: {means}."), bool(rest))
