"""Labels beside the points of a scatter plot, without covering each other."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from matplotlib.transforms import Bbox

from clbench.report.drawing import REST

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RADII = (9, 16, 25, 36, 50, 66)  # typographic points from the point to the label
DIRECTIONS = (0, 180, 90, 270, 30, 150, 330, 210, 60, 120, 300, 240)  # degrees, beside before above


def place_labels(
    axes: Axes,
    points: Sequence[tuple[float, float, str]],
    size: float = 8,
    taken: Sequence[tuple[float, float]] = (),
) -> None:
    """Label each point (x, y, text) at the nearest free spot, with a thin line where that is not beside it.

    ``taken``: other points that no label should cover. Call it when the limits of the axes are final. Where no spot is
    free the nearest is taken.
    """
    axes.get_xlim(), axes.get_ylim()  # settles the limits
    figure = axes.figure
    assert figure is not None
    at = [axes.transData.transform((x, y)) for x, y, _ in points]
    frame, scale = axes.get_window_extent(), figure.dpi / 72
    covered = [Bbox.from_bounds(u - 5 * scale, v - 5 * scale, 10 * scale, 10 * scale) for u, v in at]
    dots = [axes.transData.transform(point) for point in taken]
    covered += [Bbox.from_bounds(u - 2 * scale, v - 2 * scale, 4 * scale, 4 * scale) for u, v in dots]
    for (x, y, text), (u, v) in zip(points, at, strict=True):
        width, height = 0.62 * size * len(text) * scale, 1.25 * size * scale
        spots = list(_spots(u, v, width, height, scale))
        free = (s for s in spots if _inside(s[0], frame) and not any(s[0].overlaps(other) for other in covered))
        box, radius = next(free, spots[0])
        covered.append(box)
        centre = axes.transData.inverted().transform(((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2))
        line = {"arrowstyle": "-", "color": REST, "linewidth": 0.6, "shrinkB": 4} if radius > RADII[0] else None
        axes.annotate(text, (x, y), tuple(centre), ha="center", va="center", fontsize=size, arrowprops=line)


def _spots(u: float, v: float, width: float, height: float, scale: float) -> Iterator[tuple[Bbox, float]]:
    """Boxes around a point in pixels, nearest first, with their distance."""
    for radius in RADII:
        for degrees in DIRECTIONS:
            cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
            x = u + radius * scale * cos + (cos - 1) / 2 * width
            y = v + radius * scale * sin + (sin - 1) / 2 * height
            yield Bbox.from_bounds(x, y, width, height), radius


def _inside(box: Bbox, frame: Bbox) -> bool:
    return bool(frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1)
