"""L2M metrics: what the evaluation blocks and learning blocks of a lifetime say about transfer, retention and speed.

Rows 0..E of ``r`` are evaluation blocks (row 0 before any training), its columns tasks; ``train_order[e - 1]`` is the
task (from 1) that was trained just before row e: 1..T where each is trained once. ``blocks`` holds the training curve
of each learning block, ``expert_blocks`` for each task the curves of models trained on it alone. Terms before averaging
are maps from the tasks, or pairs (trained, affected), that have a value; one that reads a missing score is NaN.

Source: New et al. 2022 (arXiv 2201.08278) and Baker et al. 2023 (arXiv 2301.07799), as l2metrics 3.1.0 computes them.
Differs: a missing score or curve gives NaN, where l2metrics leaves it out; scores closer than 1e-12 count as equal, so
where a curve is level its first maximum is not left to rounding; one task per learning block.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, pairwise
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from clbench.metrics.metric import Array, mean

Curves = Sequence[ArrayLike]
Order = Sequence[int] | None
ByTask = dict[int, float]
ByPair = dict[tuple[int, int], list[float]]
Compare = Callable[[float, float], float | None]

SAME = 1e-12  # scores of a level stretch differ by rounding only
SHORTEST_WINDOW = 3  # samples; a shorter moving mean changes nothing


def smooth(curve: ArrayLike, window: int | None = None) -> Array:
    """A curve's flat moving mean, reflected at both ends; it lags one sample where the window is odd.

    ``window`` counts samples; without one, or with one longer than the curve, it is a fifth of the curve and at most
    100. A window under 3 changes nothing.

    >>> smooth([1, 2, 3, 4, 5], window=3).round(3).tolist()
    [2.0, 1.667, 2.0, 3.0, 4.0]
    """
    x = np.array(curve, dtype=np.float64)
    if window is None or window > x.size:
        window = min(int(0.2 * x.size), 100)
    if window < SHORTEST_WINDOW:
        return x
    padded = np.concatenate([x[window - 1 : 0 : -1], x, x[-2 : -window - 1 : -1]])
    first = window // 2 - 1
    means: Array = np.lib.stride_tricks.sliding_window_view(padded, window).mean(axis=1)
    return means[first : first + x.size]


def data_range(scores: Mapping[str, ArrayLike]) -> dict[str, dict[str, float]]:
    """Least and greatest score of each task, and under ``run`` of all; missing scores are not looked at."""
    found = {name: {"min": float(np.nanmin(x)), "max": float(np.nanmax(x))} for name, x in scores.items()}
    run = {"min": min(f["min"] for f in found.values()), "max": max(f["max"] for f in found.values())}
    return found | {"run": run}


def normalise(scores: ArrayLike, low: float, high: float) -> Array:
    """Scores mapped from [low, high] to [1, 101]; all 1 where the range is empty.

    >>> normalise([-100, 0, 100], -100, 100).tolist()
    [1.0, 51.0, 101.0]
    """
    x = np.array(scores, dtype=np.float64)
    return (x - low) / (high - low) * 100 + 1 if high > low else x * 0 + 1


def normalised(
    r: Array,
    blocks: Curves,
    expert_blocks: Sequence[Curves] = (),
    train_order: Order = None,
    how: Literal["task", "run"] | tuple[float, float] = "task",
) -> tuple[Array, list[Array], list[list[Array]]]:
    """Matrix, learning blocks and experts as l2metrics scales them: by the range of the task, of the run, or one given.

    Ratios depend strongly on the choice, so the metrics below are of scores as they are.
    """
    trained = _trained(blocks, train_order)
    experts = [list(runs) for runs in expert_blocks] or [[] for _ in r.T]

    def everything(task: int) -> Array:
        own = [np.asarray(b, float) for b, t in zip(blocks, trained, strict=True) if t == task]
        return np.concatenate([r[:, task - 1], *own, *(np.asarray(x, float) for x in experts[task - 1])])

    found = data_range({str(task): everything(task) for task in range(1, r.shape[1] + 1)})

    def mapped(scores: ArrayLike, task: int) -> Array:
        if isinstance(how, tuple):
            return normalise(scores, *how)
        wide = found["run" if how == "run" else str(task)]
        return normalise(scores, wide["min"], wide["max"])

    matrix = np.column_stack([mapped(column, task) for task, column in enumerate(r.T, start=1)])
    curves = [mapped(block, task) for block, task in zip(blocks, trained, strict=True)]
    return matrix, curves, [[mapped(x, task) for x in runs] for task, runs in enumerate(experts, start=1)]


def terminal_performance(curve: ArrayLike) -> float:
    """Mean of the last tenth of a training curve."""
    x = np.asarray(curve, dtype=np.float64)
    return float(np.mean(x[int(0.9 * x.size) :])) if x.size else float("nan")


def saturation(curve: ArrayLike) -> tuple[float, float]:
    """Greatest value of the smoothed curve, and the number of experiences before it is first reached."""
    x = smooth(curve)
    if not x.size or np.isnan(x).any():
        return float("nan"), float("nan")
    top = float(x.max())
    return top, float(np.argmax(np.isclose(x, top, rtol=SAME, atol=SAME)))


def recovery_times(blocks: Curves) -> list[float]:
    """For each learning block of one task after its first: experiences until it is as good as at the end of the last.

    One more than the length of the block where it never is.
    """
    curves = [np.asarray(b, dtype=np.float64) for b in blocks]
    times = []
    for before, now in pairwise(curves):
        level = terminal_performance(before)
        reached = now >= level - SAME
        missing = np.isnan(now).any() or np.isnan(level)
        times.append(float("nan") if missing else float(np.argmax(reached)) if reached.any() else now.size + 1.0)
    return times


def performance_recovery(blocks: Curves, train_order: Order = None) -> ByTask:
    """Minus the Theil-Sen slope of a task's recovery times, for tasks with at least three learning blocks."""
    values = {}
    for task, own in _blocks_by_task(blocks, train_order).items():
        times = recovery_times(own)
        if len(times) > 1:
            slopes = [(times[j] - times[i]) / (j - i) for i, j in combinations(range(len(times)), 2)]
            values[task] = -float(np.median(slopes))
    return values


def performance_maintenance(r: Array, train_order: Order = None, blocks: Curves | None = None) -> ByTask:
    """How a task's scores change while others are trained, against those right after its own latest training.

    Against the next evaluation block (MRLEP), or with ``blocks`` against the end of the learning block (MRTLP).
    """
    latest: dict[int, float] = {}
    changes: dict[int, list[float]] = defaultdict(list)
    for row, trained in enumerate(_order(r, train_order), start=1):
        latest[trained] = r[row, trained - 1] if blocks is None else terminal_performance(blocks[row - 1])
        for task, reference in latest.items():
            if task != trained:
                changes[task].append(r[row, task - 1] - reference)
    return {task: mean(values) for task, values in sorted(changes.items())}


def ratio(before: float, after: float) -> float | None:
    """``after / before``; no value from a score of zero."""
    return None if before == 0 else after / before


def contrast(before: float, after: float) -> float | None:
    """``(after - before) / (after + before)``; no value where the two add up to zero."""
    return None if before + after == 0 else (after - before) / (after + before)


def forward_transfer(r: Array, train_order: Order = None, compare: Compare = ratio) -> ByPair:
    """For each pair: what training the one did to the other, each time before the other's first training."""
    return _transfers(r, train_order, compare)[0]


def backward_transfer(r: Array, train_order: Order = None, compare: Compare = ratio) -> ByPair:
    """For each pair: what training the one did to the other, each time after the other's first training."""
    return _transfers(r, train_order, compare)[1]


def _transfers(r: Array, train_order: Order, compare: Compare) -> tuple[ByPair, ByPair]:
    forward: ByPair = defaultdict(list)
    backward: ByPair = defaultdict(list)
    known: set[int] = set()
    for row, trained in enumerate(_order(r, train_order), start=1):
        known.add(trained)
        for task in set(range(1, r.shape[1] + 1)) - {trained}:
            value = compare(float(r[row - 1, task - 1]), float(r[row, task - 1]))
            if value is not None:
                (backward if task in known else forward)[trained, task].append(value)
    return dict(forward), dict(backward)


def mean_evaluation_performance(r: Array) -> ByTask:
    """Mean score of each task over the evaluation blocks, that before any training included."""
    return {task: float(np.mean(column)) for task, column in enumerate(r.T, start=1)}


def mean_training_performance(blocks: Curves, train_order: Order = None) -> ByTask:
    """Mean over the learning blocks of each task of the mean of the block's curve."""
    return {t: mean([mean(b) for b in own]) for t, own in _blocks_by_task(blocks, train_order).items()}


def relative_performance(blocks: Curves, expert_blocks: Sequence[Curves], train_order: Order = None) -> ByTask:
    """Area under a task's training curve over that of a model trained on it alone, for as long as both go on.

    Mean of the quotients where there are several such models; NaN where there is none, or one that scores zero.
    """
    values = {}
    for task, own in _blocks_by_task(blocks, train_order).items():
        x = np.concatenate(own)
        sums = [(x[: len(y)].sum(), y[: x.size].sum()) for y in _experts(expert_blocks, task)]
        values[task] = mean([_over(a, b) for a, b in sums])
    return values


def sample_efficiency(blocks: Curves, expert_blocks: Sequence[Curves], train_order: Order = None) -> ByTask:
    """How high a task's curve gets, times how soon, against a model trained on it alone.

    No value where a curve is at its best from the start; zero where the curve falls by least squares, or gets to less
    than a fifth of the other's height. Mean over several such models; NaN where there is none.

    Differs: the slope is taken over the task's own experiences; l2metrics counts those of all tasks in between.
    """
    values = {}
    for task, own in _blocks_by_task(blocks, train_order).items():
        x = np.concatenate(own)
        top, steps = saturation(x)
        runs = [saturation(y) for y in _experts(expert_blocks, task)]
        reached = [(t, s) for t, s in runs if s != 0]
        if steps == 0 or (runs and not reached):
            continue
        falls = np.dot(np.arange(x.size) - (x.size - 1) / 2, x) < -SAME
        ratios = [0.0 if top < 0.2 * t else _over(top, t) * _over(s, steps) for t, s in reached]
        values[task] = mean([0.0 * t if falls else ratio for (t, _), ratio in zip(reached, ratios, strict=True)])
    return values


def lifetime(terms: Mapping[int, float] | ByPair) -> float:
    """Mean over the tasks or pairs that have a value, of a pair the first; NaN where none has one."""
    return mean([v[0] if isinstance(v, list) else v for v in terms.values()])


def _over(a: float, b: float) -> float:
    return a / b if b else float("nan")


def _order(r: Array, train_order: Order) -> Sequence[int]:
    """The task trained before each row from row 1 on."""
    return range(1, len(r)) if train_order is None else train_order[: len(r) - 1]


def _trained(blocks: Curves, train_order: Order) -> Sequence[int]:
    """The task trained in each learning block."""
    return range(1, len(blocks) + 1) if train_order is None else train_order


def _blocks_by_task(blocks: Curves, train_order: Order) -> dict[int, list[Array]]:
    found: dict[int, list[Array]] = defaultdict(list)
    for task, block in zip(_trained(blocks, train_order), blocks, strict=True):
        found[task].append(np.asarray(block, dtype=np.float64))
    return dict(sorted(found.items()))


def _experts(expert_blocks: Sequence[Curves], task: int) -> list[Array]:
    return [np.asarray(y, dtype=np.float64) for y in (expert_blocks[task - 1] if task <= len(expert_blocks) else ())]
