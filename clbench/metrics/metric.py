"""What a metric is: a number of a run with its definition, computed from what it names."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clbench.matrix import ScoreMatrix

Array = NDArray[np.float64]
References = Mapping[str, ScoreMatrix]

READS: Mapping[str, str] = MappingProxyType(
    {
        "R": "(T+1, T) score matrix, row 0 untrained; its sign is changed for differences of scores better when lower",
        "A": "(T+1, T) score matrix of the metric's reference strategy on the same card and seed, oriented as R",
        "test_sizes": "(T,) test samples of each task",
        "train_order": "(E,) task (1-based) trained before each row of R from row 1 on, where tasks are revisited",
        "curves": "(T, N) accuracy on each task at each of N evaluations during training",
        "ends": "(T,) index (0-based) into the evaluations of curves of the last one while each task was trained",
        "steps": "(N,) optimiser steps done in the task being trained at each evaluation of curves",
        "blocks": "training curves, one array of any length for each learning block",
        "expert_blocks": "the training curves of single-task experts, one list of arrays for each task",
        "curve": "(N,) accuracy over what was seen so far, at each evaluation during training",
        "curve_ends": "(T,) index (0-based) into curve of the evaluation at the end of each task",
        "early_curve": "(beta+1,) mean over tasks of the accuracy on a task after 0..beta mini-batches of it",
        "success_curves": "(K, E) success rate on task k at each evaluation while it was trained, step 0 included",
        "class_rows": "(T, C) accuracy on each class at the end of each task",
        "order_scores": "(orders, T) final accuracy of each task, the same task in every column, for each task order",
        "wrong": "(D,) mistakes in each domain",
        "counts": "(D,) samples of each domain",
        "cumulative_rows": "(T, T) accuracy after task i on the classes of tasks 1..k among those classes alone",
        "near_future": "by shift S, (N,) whether the model trained on t samples was right on sample t+1+S",
        "invariant_scores": "(n, n+1) score of models 0..n on a probe of what corpus i holds and must not be lost",
        "updated_scores": "(n+1,) score of models 0..n on a probe of what the last corpus changed",
        "new_scores": "(n+1,) score of models 0..n on a probe of what the last corpus added",
        "adapted": "(T,) perplexity on each domain of the initial model adapted on that domain alone",
        "train_samples": "(T,) training samples of each task",
        "samples_seen": "(T,) samples trained on in each task, repetitions counted",
        "optimiser_steps": "(T,) batches trained on in each task",
        "epochs": "passes over the training data of each task",
        "parameters": "(T,) parameters of the model after each task",
        "parameter_bytes": "(T,) bytes of the model's parameters after each task",
        "stored_samples": "(T,) training samples kept after each task",
        "state_bytes": "(T,) bytes carried on after each task",
        "train_flops": "(T,) floating-point operations spent training each task",
        "pass_flops": "(T,) floating-point operations of one forward and backward pass over each task's training data",
        "train_seconds": "(T,) seconds spent training each task",
        "evaluate_seconds": "(T,) seconds spent scoring all probes after each task",
        "energy_joules": "(T,) energy spent training each task",
        "peak_memory_bytes": "(T,) peak memory while each task was trained",
        "criteria": "(runs, C) scores in [0, 1] of each run, one for each criterion",
        "weights": "(C,) weights of the criteria",
    }
)


@dataclass(frozen=True)
class Metric:
    """A number derived from what a run measured, with its definition.

    ``function`` takes what ``reads`` names (the table ``READS``), in that order, and by keyword ``parameters``
    and of ``optional`` (names of the same table) what is given.
    ``bounds`` hold for scores in [0, 1]; ``unit`` is that of the number. ``matrix`` names the matrix of a record that
    is R, ``reference`` the reference strategy whose matrix on the same card and seed is A. ``is_difference``:
    with scores that are better when lower the sign changes and best means smallest, so that negative transfer and
    positive forgetting always mean damage; otherwise the number has the scores' own direction.
    ``differs``: where and why from its source. ``least``: how small a parameter may be, where that is not 1.
    """

    id: str
    title: str
    formula: str
    source: str
    higher_is_better: bool
    bounds: tuple[float, float]
    function: Callable[..., float]
    reads: tuple[str, ...] = ("R",)
    unit: str = "fraction"
    is_difference: bool = True
    reference: str | None = None
    matrix: str = "accuracy"
    differs: str = ""
    parameters: Mapping[str, int] = field(default_factory=dict)
    least: Mapping[str, int] = field(default_factory=dict)
    optional: tuple[str, ...] = ()

    def __call__(self, matrix: ScoreMatrix | None = None, references: References | None = None, **inputs: Any) -> float:
        """Compute the metric; NaN when a cell, a reference or an input it reads is missing."""
        if matrix is not None:
            sign = -1.0 if self.is_difference and not matrix.higher_is_better else 1.0
            inputs["R"] = sign * matrix.values
            other = (references or {}).get(self.reference) if self.reference else None
            if other is not None and other.n_tasks == matrix.n_tasks:
                inputs["A"] = sign * other.values
        return self.of(**inputs)

    def of(self, **inputs: Any) -> float:
        """Compute the metric from plain arrays under the names it reads; NaN when one is missing."""
        if any(inputs.get(name) is None for name in self.reads):
            return math.nan
        given = {name: inputs[name] for name in self.optional if inputs.get(name) is not None}
        return float(self.function(*(inputs[name] for name in self.reads), **given, **self.parameters))


def mean(values: Any) -> float:
    """The mean; NaN of nothing, and where a value is missing."""
    values = np.asarray(values, dtype=np.float64)
    return float(np.mean(values)) if values.size else math.nan
