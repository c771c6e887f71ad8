"""Broken metrics, each with the clause that is meant to catch it; and a correct one that passes them all."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clbench.metrics import Metric, metric

Array = NDArray[np.float64]
CORRECT = metric("forgetting.rwalk2018")
ACCURACY = metric("average_accuracy.gem2017")
TRANSFER = metric("backward_transfer.gem2017")
WINDOWED = metric("windowed_forgetting.delange2023[w=10]")


def _divides_by_t(r: Array) -> float:
    """The released code of GEM: the sum over T - 1 tasks divided by T."""
    return float((r[-1] - np.diagonal(r[1:])).mean()) if r.shape[1] > 1 else float("nan")


def _pads_in_place(r: Array) -> float:
    """Fills the upper triangle of the caller's matrix with zeros, as a well-known library does."""
    r[1:][np.triu_indices(r.shape[1], 1)] = 0.0
    return float(r[-1].mean())


def _skips_missing(r: Array) -> float:
    return float(np.nanmean(r[-1])) if not np.isnan(r[-1]).all() else float("nan")


def _zero_for_one_task(r: Array) -> float:
    return float((r[-1] - np.diagonal(r[1:]))[:-1].mean()) if r.shape[1] > 1 else 0.0


def _raises_for_one_task(r: Array) -> float:
    return float(max(r[-1, j] - r[j + 1, j] for j in range(r.shape[1] - 1)))


def _in_percent(r: Array) -> float:
    return 100 * float(r[-1].mean())


def _draws(r: Array) -> float:
    return float(r[-1].mean() + 1e-6 * np.random.default_rng().random())


def _sorts_in_place(curves: Array, w: int) -> float:
    curves.sort(axis=1)
    return float((curves[:, -1] - curves[:, 0]).mean())


def _takes_what_is_there(curves: Array, w: int) -> float:
    return float(np.nanmax(curves) - np.nanmin(curves))


OTHER: dict[str, Any] = {"id": "mine.mine2025", "title": "mine", "formula": "mine", "source": "mine"}
SUBMITTED: dict[str, tuple[Metric, str]] = {  # name: the metric, and the clause that is meant to catch it
    "NamesNoSource": (replace(CORRECT, source=""), "metric_is_described"),
    "ReadsWhatNoRunGives": (replace(ACCURACY, reads=("gradients",), **OTHER), "metric_is_described"),
    "HasABareName": (replace(CORRECT, id="forgetting"), "metric_is_described"),
    "DividesByT": (replace(TRANSFER, function=_divides_by_t), "metric_agrees_with_the_vectors"),
    "PadsInPlace": (replace(ACCURACY, function=_pads_in_place), "metric_leaves_its_input_alone"),
    "DrawsAtRandom": (replace(ACCURACY, function=_draws), "metric_leaves_its_input_alone"),
    "SortsCurvesInPlace": (replace(WINDOWED, function=_sorts_in_place), "metric_leaves_its_input_alone"),
    "SkipsMissingEvaluations": (replace(WINDOWED, function=_takes_what_is_there), "missing_cells_give_nan"),
    "SkipsMissingCells": (replace(ACCURACY, function=_skips_missing), "missing_cells_give_nan"),
    "ZeroForOneTask": (replace(TRANSFER, function=_zero_for_one_task), "one_task_gives_nan_or_a_score"),
    "RaisesForOneTask": (replace(TRANSFER, function=_raises_for_one_task, **OTHER), "one_task_gives_nan_or_a_score"),
    "CountsInPercent": (replace(ACCURACY, function=_in_percent, **OTHER), "metric_stays_within_bounds"),
    "PointsTheWrongWay": (replace(CORRECT, higher_is_better=True), "metric_points_the_right_way"),
}
