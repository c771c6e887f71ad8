"""Labels beside the points of a scatter plot, without covering each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clbench.report.drawing import REST

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RADII = (9, 16, 25, 36, 50, 66)  # typographic points from the point to the label
DIRECTIONS = (0, 180, 90, 270, 30, 150, 330, 210, 60, 120, 300, 240)  # degrees, beside before above
BESIDE = 10  # typographic points up to which a label needs no line to its point
ALONG = np.linspace(0, 1, 16)[:, None]  # where such a line is looked at
Floats = NDArray[np.float64]
Place = tuple[float, float]


def place_labels(
    axes: Axes,
    points: Sequence[tuple[float, float, str]],
    needed: int,
    size: float = 8,
    dots: Sequence[Place] = (),
    steps: Sequence[Place] = (),
) -> None:
    """Label each point (x, y, text) at the nearest free spot of the axes, with a thin line where it is not beside it.

    A spot is free where it covers no point, no label, no line to one, none of the ``dots`` and nothing of the line
    through the corners ``steps``. Where none is free the first ``needed`` points have their label where it covers
    least, the others have none. Call it when limits and size of the axes are final.
    """
    figure = axes.figure
    assert figure is not None
    scale = figure.dpi / 72
    at, others, corners = (_points(axes, places) / scale for places in ([p[:2] for p in points], dots, steps))
    marks = np.concatenate([at, others])
    covered = np.concatenate([_boxes(at, at, 5), _boxes(others, others, 2), _boxes(corners[:-1], corners[1:], 1)])
    extent, labels = np.array(axes.get_window_extent().extents) / scale, np.empty((0, 4))
    for k, (x, y, text) in enumerate(points):
        spots = _spots(at[k], (0.62 * size * len(text), 1.25 * size), extent)
        ends = np.clip(at[k], spots[:, :2], spots[:, 2:])
        leads = at[k] + (ends - at[k])[:, None] * ALONG  # (spots, places, 2)
        hidden = _hidden(spots, leads, covered, labels)
        astray = _gaps(spots, np.delete(marks, k, axis=0)).min(axis=1, initial=np.inf) < _gaps(spots, at[[k]])[:, 0]
        best = int(np.lexsort((astray, hidden))[0])  # the first of the best: the nearest
        if hidden[best] and k >= needed:
            continue
        labels = np.concatenate([labels, spots[[best]]])
        back = axes.transData.inverted()
        if math.dist(ends[best], at[k]) > BESIDE:
            u, v = back.transform(ends[best] * scale)
            axes.plot([x, u], [y, v], color=REST, linewidth=0.6, zorder=1.2)
            covered = np.concatenate([covered, _boxes(leads[best], leads[best], 1)])
        u, v = back.transform((spots[best, :2] + spots[best, 2:]) / 2 * scale)
        axes.text(u, v, text, ha="center", va="center", fontsize=size, gid="halo")


def _points(axes: Axes, places: Sequence[Place]) -> Floats:
    """Places in pixels."""
    axes.get_xlim(), axes.get_ylim()  # settles the limits
    return np.asarray(axes.transData.transform(np.array(places, dtype=float).reshape(-1, 2)))


def _boxes(starts: Floats, ends: Floats, half: float) -> Floats:
    """Boxes (x0, y0, x1, y1) around lines along an axis, which may be as short as a point."""
    return np.concatenate([np.minimum(starts, ends) - half, np.maximum(starts, ends) + half], axis=1)


def _spots(point: Floats, size: Place, extent: Floats) -> Floats:
    """Boxes around a point, nearest first, moved to where they are inside the extent."""
    (width, height), found = size, []
    for radius in RADII:
        for degrees in DIRECTIONS:
            cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
            x = point[0] + radius * cos + (cos - 1) / 2 * width
            y = point[1] + radius * sin + (sin - 1) / 2 * height
            x = max(min(x, extent[2] - width), extent[0])
            y = max(min(y, extent[3] - height), extent[1])
            found.append((x, y, x + width, y + height))
    return np.array(found)


def _hidden(spots: Floats, leads: Floats, covered: Floats, labels: Floats) -> NDArray[np.int64]:
    """For each spot how much it would cover, and how many labels the line to it would cross."""
    places = leads.reshape(-1, 2)
    crossed = _overlap(_boxes(places, places, 1), labels).reshape(*leads.shape[:2], -1).any(axis=1)
    return np.asarray(_overlap(spots, np.concatenate([covered, labels])).sum(axis=1) + crossed.sum(axis=1))


def _overlap(boxes: Floats, others: Floats) -> NDArray[np.bool_]:
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    return np.asarray((low < high).all(axis=2))


def _gaps(boxes: Floats, places: Floats) -> Floats:
    """Distance of each box from each place."""
    nearest = np.clip(places[None], boxes[:, None, :2], boxes[:, None, 2:])
    return np.asarray(np.linalg.norm(nearest - places[None], axis=2))
