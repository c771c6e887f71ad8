"""What happens between the ends of tasks: worst cases, windows of evaluations, the anytime average."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from clbench.metrics.metric import Array, Metric, mean

LANGE = "De Lange, van de Ven and Tuytelaars, Continual Evaluation for Lifelong Learning, ICLR 2023"
IBLURRY = "Koh et al., Online Continual Learning on Class Incremental Blurry Task Configuration, ICLR 2022"
LAST = 5  # evaluations that Continual World averages at the end of a task
AGEM = "Chaudhry et al., Efficient Lifelong Learning with A-GEM, ICLR 2019"


def minima(curves: Array, ends: Array) -> Array:
    """Of each task but the last its lowest accuracy after its own training: (T-1,); curves (T, N), ends (T,)."""
    last = int(ends[-1]) + 1
    return np.array([curves[i, int(ends[i]) + 1 : last].min() for i in range(len(ends) - 1)])


def _min_accuracy(curves: Array, ends: Array) -> float:
    return mean(minima(curves, ends))


def _worst_case(curves: Array, ends: Array) -> float:
    k = len(ends)
    return float(curves[-1, int(ends[-1])] / k + (1 - 1 / k) * _min_accuracy(curves, ends))


def largest_drops(curves: Array, w: int) -> Array:
    """Of each task the largest drop within w consecutive evaluations, at least 0: (T,); curves (T, N)."""
    largest: Array = 0.0 * curves.sum(axis=1)  # NaN where a value is missing
    for lag in range(1, min(w, curves.shape[1])):
        largest = np.maximum(largest, (curves[:, :-lag] - curves[:, lag:]).max(axis=1))
    return largest


def largest_rises(curves: Array, w: int) -> Array:
    """Of each task the largest rise within w consecutive evaluations, at least 0: (T,); curves (T, N)."""
    return largest_drops(-curves, w)


def _windowed_forgetting(curves: Array, w: int) -> float:
    return mean(largest_drops(curves, w))


def _windowed_plasticity(curves: Array, w: int) -> float:
    return mean(largest_rises(curves, w))


def _last_five(curves: Array, ends: Array) -> float:
    if np.diff(ends, prepend=-1).min() < LAST:
        return float("nan")
    learned = [curves[j, int(e) + 1 - LAST : int(e) + 1].mean() for j, e in enumerate(ends[:-1])]
    return mean(np.array(learned) - curves[: len(learned), -LAST:].mean(axis=1))


def over_seen(curves: Array, ends: ArrayLike) -> Array:
    """At each evaluation the mean over the tasks seen so far, the one in training included: (N,)."""
    seen = np.searchsorted(np.asarray(ends), np.arange(curves.shape[1])) + 1
    return np.array([mean(curves[:s, n]) for n, s in enumerate(np.minimum(seen, len(curves)))])


def _anytime(curves: Array, ends: Array, steps: Array, period: int) -> float:
    """Over the evaluations every ``period`` steps; NaN where one of them was not made."""
    steps = np.asarray(steps)
    chosen = (steps > 0) & (steps % period == 0)
    firsts = np.concatenate([[0], np.asarray(ends[:-1], dtype=int) + 1])
    wanted = sum(int(steps[int(e)]) // period for e in ends)
    made = sum(len(np.unique(steps[a : int(e) + 1][chosen[a : int(e) + 1]])) for a, e in zip(firsts, ends, strict=True))
    return mean(over_seen(curves, ends)[chosen]) if made == wanted else float("nan")


def _online_last(curve: Array) -> float:
    return float(curve[-1]) if len(curve) else float("nan")


def _at_task_ends(curve: Array, curve_ends: Array) -> float:
    return mean(np.asarray(curve)[np.asarray(curve_ends, dtype=int)])


def _class_forgetting(class_rows: Array) -> float:
    if len(class_rows) < 2:
        return float("nan")
    best = class_rows[:-1].max(axis=0)
    return mean((best - class_rows[-1])[best != 0])


def _early_mean(early_curve: Array, beta: int) -> float:
    return mean(early_curve[: beta + 1]) if len(early_curve) > beta else float("nan")


def _early_trapezoid(early_curve: Array, beta: int) -> float:
    return float(np.trapezoid(early_curve[: beta + 1]) / beta) if len(early_curve) > beta else float("nan")


def _near_future(near_future: Mapping[int, Array], S: int) -> float:
    return mean(near_future[S]) if S in near_future else float("nan")


_WINDOWS = tuple(
    Metric(
        f"windowed_{name}.delange2023[w={w}]",
        f"largest {what} within {w} evaluations",
        f"mean over tasks of the largest {what} from one evaluation to a later one among w = {w} consecutive ones",
        f"{LANGE} (WF, WP); w counts evaluations, so say how far apart they are",
        higher,
        (0.0, 1.0),
        function,
        reads=("curves",),
        differs=differs,
        parameters={"w": w},
    )
    for w in (10, 100)
    for name, what, higher, function, differs in (
        ("forgetting", "drop", False, _windowed_forgetting, ""),
        (
            "plasticity",
            "rise",
            True,
            _windowed_plasticity,
            "the definition: the released code misses rises that start below an earlier maximum",
        ),
    )
)
_EARLY = tuple(
    Metric(
        f"learning_curve_area.agem2019{code}[beta=10]",
        f"learning curve area over 10 mini-batches{', released code' if code else ''}",
        formula,
        source,
        True,
        (0.0, 1.0),
        function,
        reads=("early_curve",),
        is_difference=False,
        differs="from the paper: a trapezoid rule divided by beta" if code else "",
        parameters={"beta": 10},
        least={} if code else {"beta": 0},
    )
    for code, formula, source, function in (
        (
            "",
            "(1/(beta+1)) sum_{b=0..beta} Z_b, Z_b = mean over tasks of the accuracy on one after b mini-batches of it",
            f"{AGEM} (LCA)",
            _early_mean,
        ),
        (
            "_code",
            "(1/beta) sum_{b=1..beta} (Z_{b-1} + Z_b) / 2, Z_b as in learning_curve_area.agem2019",
            f"the plotting notebook released with {AGEM}",
            _early_trapezoid,
        ),
    )
)
DURING_TRAINING = (
    Metric(
        "min_accuracy.delange2023",
        "lowest accuracy after learning",
        "(1/(T-1)) sum_{i<T} min over the evaluations n after task i's training, to the end of task T's, of A[i,n]",
        f"{LANGE} (min-ACC)",
        True,
        (0.0, 1.0),
        _min_accuracy,
        reads=("curves", "ends"),
    ),
    Metric(
        "worst_case_accuracy.delange2023",
        "worst-case accuracy",
        "(1/T) A[T,n] + (1 - 1/T) min-ACC, n = the last evaluation of task T's training; undefined for one task",
        f"{LANGE} (WC-ACC)",
        True,
        (0.0, 1.0),
        _worst_case,
        reads=("curves", "ends"),
    ),
    *_WINDOWS,
    Metric(
        "forgetting.cw2021",
        "forgetting first to last (Continual World)",
        "(1/(T-1)) sum_{j<T} (p_j - q_j): means over the last 5 evaluations of task j's training, and of the stream; "
        "undefined where a task has fewer",
        "Wołczyk et al., Continual World, NeurIPS 2021, as in its code",
        False,
        (-1.0, 1.0),
        _last_five,
        reads=("curves", "ends"),
    ),
    Metric(
        "area_under_accuracy.iblurry2022",
        "area under the accuracy curve",
        "mean of the accuracies on the classes seen so far, one every eval_period samples",
        f"{IBLURRY} (A_AUC)",
        True,
        (0.0, 1.0),
        mean,
        reads=("curve",),
        is_difference=False,
        differs="in clbench's runs: of equally weighted tasks, every some optimiser steps and at the ends of tasks",
    ),
    Metric(
        "average_accuracy_at_task_ends.iblurry2022",
        "accuracy at the ends of tasks",
        "mean over tasks of the accuracy on the classes seen so far at the end of each",
        f"{IBLURRY}, as in its code (A_avg)",
        True,
        (0.0, 1.0),
        _at_task_ends,
        reads=("curve", "curve_ends"),
        is_difference=False,
    ),
    Metric(
        "last.iblurry2022",
        "accuracy at the end of the stream",
        "the last accuracy on the classes seen",
        f"{IBLURRY}, as in its code (A_last)",
        True,
        (0.0, 1.0),
        _online_last,
        reads=("curve",),
        is_difference=False,
    ),
    Metric(
        "forgetting.iblurry2022",
        "forgetting of classes",
        "mean over the classes whose best earlier accuracy at a task's end is not 0 of that best minus the final one",
        f"{IBLURRY}, as in its code",
        False,
        (-1.0, 1.0),
        _class_forgetting,
        reads=("class_rows",),
    ),
    Metric(
        "anytime_accuracy.caccia2022[period=1]",
        "anytime average accuracy",
        "mean over evaluations, one every period steps, of the mean accuracy over the tasks seen, the current included",
        "Caccia et al., New Insights on Reducing Abrupt Representation Change, ICLR 2022 (AAA)",
        True,
        (0.0, 1.0),
        _anytime,
        reads=("curves", "ends", "steps"),
        is_difference=False,
        differs="the period in optimiser steps is part of the id; on a fixed subset of each test set in clbench's runs",
        parameters={"period": 1},
    ),
    *_EARLY,
    Metric(
        "near_future_accuracy.hammoud2023[S=0]",
        "near-future accuracy",
        "mean over t of whether the model trained on t samples is right on sample t+1+S, "
        "S the shift, in the paper the smallest that removes the correlation of labels",
        "Hammoud et al., Rapid Adaptation in Online Continual Learning, ICCV 2023",
        True,
        (0.0, 1.0),
        _near_future,
        reads=("near_future",),
        is_difference=False,
        differs="from a second-hand account of the paper",
        parameters={"S": 0},
        least={"S": 0},
    ),
)
