"""What the score matrices of a record must satisfy, alone, side by side, and beside its kept predictions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clbench.invariants.outline import Data

Floats = NDArray[np.float64]
ACCURACY, MASKED, INFERENCE = "accuracy", "task_masked_accuracy", "task_inference_accuracy"
LOSS, BRIER = "negative_log_likelihood", "brier_score"
IMPOSSIBLE = 1e-12  # a probability below counts as this; see clbench.evaluate
SHARE = ("fraction", True, 1.0)
KNOWN: Mapping[str, tuple[str, bool, float]] = {  # unit, whether higher is better, greatest value; the least is 0
    ACCURACY: SHARE,
    MASKED: SHARE,
    INFERENCE: SHARE,
    LOSS: ("nats", False, -math.log(IMPOSSIBLE)),
    BRIER: ("squared probability", False, 2.0),
    "expected_calibration_error": ("fraction", False, 1.0),
}
CELLS = frozenset({float, int, type(None)})
FINE = 1e8  # of more steps between 0 and 1 any number is one
MANY = 20  # candidates, whose ties divide a sample into more than that
HALF = 0.5 + 1e-6  # a probability above is that of the only best, in 32 bits too


def matrices(data: Data) -> Iterator[str]:
    """Each has shape (T+1, T), says what it is, and lies within its bounds; only what was not measured is missing."""
    own, n_tasks = data["result"]["matrices"], len(data["result"]["tasks"])
    if missing := [name for name in (ACCURACY, MASKED) if name not in own]:
        yield f"its result lacks the matrices: {', '.join(missing)}"
    for name, matrix in own.items():
        rows = matrix["values"]
        if len(rows) != n_tasks + 1:
            yield f"matrix '{name}' has {len(rows)} rows; {n_tasks} tasks make {n_tasks + 1}"
        for i, row in enumerate(rows):
            if len(row) != n_tasks:
                yield f"matrix '{name}': row {i} has {len(row)} cells; {n_tasks} tasks make {n_tasks}"
            if not CELLS.issuperset(map(type, row)):
                yield f"matrix '{name}': row {i} holds more than numbers and null: {row!r:.60}"
        yield from _bounds(name, matrix)
    yield from _gaps(own)


def _bounds(name: str, matrix: Data) -> Iterator[str]:
    unit, higher, greatest = KNOWN.get(name, (matrix["unit"], matrix["higher_is_better"], math.inf))
    low, high = matrix["bounds"]
    low, high = -math.inf if low is None else low, math.inf if high is None else high
    says = (matrix["name"], matrix["unit"], matrix["higher_is_better"]) == (name, unit, higher)
    if not says or (name in KNOWN and (low != 0 or not math.isclose(high, greatest))):
        yield f"matrix '{name}' does not say that it is in {unit}, from 0 to {greatest:g}, and which way is better"
    values = array(matrix)
    for i, j in _where((values < low) | (values > high) | np.isinf(values)):
        yield f"matrix '{name}': R[{i}, {j}] is {values[i, j - 1]}; it must lie in [{low:g}, {high:g}]"


def _gaps(own: Mapping[str, Data]) -> Iterator[str]:
    """Rows before the last may be unmeasured, all of them but row 0; a strategy may infer no task for some samples."""
    measured: NDArray[np.bool_] = np.any(~np.isnan(array(own[ACCURACY])), axis=1)
    if not (measured[0] and measured[-1]) or len(set(measured[1:-1])) > 1:
        yield f"matrix '{ACCURACY}' lacks the rows {np.flatnonzero(~measured).tolist()}"
    for name in own:
        there = ~np.isnan(array(own[name]))
        wrong = there > measured[:, None] if name == INFERENCE else there != measured[:, None]
        for i, j in _where(wrong):
            yield f"matrix '{name}': R[{i}, {j}] is {'there, its row is not' if there[i, j - 1] else 'missing'}"


def accuracies(data: Data) -> Iterator[str]:
    """What holds for the score of every sample, and therefore for means.

    A sample scores 1, or 1/k where k candidates tie: accuracy is a multiple of 1 / (n_test lcm(1..candidates)). A truth
    that is best of all candidates is best of its task's own, in a tie of no more: ``MASKED`` is never below
    ``ACCURACY``, and equal where the candidates are the task's own classes.
    """
    result = data["result"]
    sizes = np.array([task["n_test"] for task in result["tasks"]])
    alone, parts, own_parts = _candidates(
        data["card"]["protocol"], tuple(tuple(task["classes"]) for task in result["tasks"])
    )
    values = {n: array(result["matrices"][n]) for n in (ACCURACY, MASKED, INFERENCE) if n in result["matrices"]}
    ways = {ACCURACY: parts, MASKED: own_parts, INFERENCE: np.ones_like(parts)}
    for name, scores in values.items():
        steps = ways[name] * sizes
        counted = scores * np.where(steps < FINE, steps, 0)
        for i, j in _where(np.abs(counted - np.round(counted)) > 1e-4):
            yield f"matrix '{name}': R[{i}, {j}] is {scores[i, j - 1]}, which is no share of {sizes[j - 1]} samples"
    told, untold = values[MASKED], values[ACCURACY]
    for i, j in _where((told < untold) | (alone & (told > untold))):
        why = "which are all that are asked for" if alone[i, j - 1] else "which cannot be less"
        yield f"R[{i}, {j}] is {untold[i, j - 1]}, but {told[i, j - 1]} among the classes of the task, {why}"


@lru_cache(maxsize=1024)
def _candidates(protocol: str, classes: tuple[tuple[int, ...], ...]) -> tuple[NDArray[np.bool_], Floats, Floats]:
    """Per cell (T+1, T): whether only the task's own classes are candidates; into how many parts ties of the
    candidates, and of the task's own classes, may divide a sample (infinite for many)."""
    n_tasks = len(classes)
    seen = np.array([len(set().union(*classes[: k + 1])) for k in range(n_tasks)])
    own = np.array([[len(c) for c in classes]] * (n_tasks + 1))
    rows, columns = np.indices(own.shape)
    asked = {"task-incremental": own, "class-incremental": seen[np.maximum(rows - 1, columns)]}
    candidates = asked.get(protocol, np.full_like(own, seen[-1]))

    def ways(counts: NDArray[np.int64]) -> Floats:
        parts = {int(k): math.lcm(*range(1, int(k) + 1)) if k <= MANY else math.inf for k in set(counts.flat)}
        return np.array([[parts[int(k)] for k in row] for row in counts], dtype=np.float64)

    return candidates == own, ways(candidates), ways(own)


def losses(data: Data) -> Iterator[str]:
    """A truth that is not the only best has a probability of at most 1/k, so an error costs ln 2, or 1/2, or more.

    For a sample that scores c = 1/k the loss is at least ln k >= (1 - c) ln 2, and the Brier score, least where k
    candidates share all probability, at least 1 - c; for one that scores 0 they are at least ln 2 and 1/2.
    """
    own = data["result"]["matrices"]
    wrong = 1 - array(own[ACCURACY])
    for name, least in ((LOSS, math.log(2)), (BRIER, 0.5)):
        if name in own:
            values = array(own[name])
            for i, j in _where(values < least * wrong - 1e-9):
                accuracy = 1 - wrong[i, j - 1]
                yield f"matrix '{name}': R[{i}, {j}] is {values[i, j - 1]}, too low for an accuracy of {accuracy}"


def array(matrix: Data) -> Floats:
    """The values of a matrix as a record has it (T+1, T); missing ones are NaN."""
    values: Floats = np.array(matrix["values"], dtype=np.float64)
    return values


def _where(wrong: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Row and column of each marked cell, columns counted from 1."""
    return [(int(i), int(j) + 1) for i, j in zip(*wrong.nonzero(), strict=True)]


def predictions_fault(result: Data, kept: Mapping[str, NDArray[Any]]) -> str | None:
    """Where kept predictions contradict the matrices of their record; None where they do not.

    A sample predicted right with a probability above 1/2 scores 1; one whose truth is less likely than the prediction
    scores 0; the others may be ties. Losses and Brier scores are means of what is kept in 32 bits.
    """
    sizes = [task["n_test"] for task in result["tasks"]]
    probe = np.repeat(np.arange(1, len(sizes) + 1), sizes)
    needed = ("predicted", "confidence", "truth", "squares")
    if missing := [name for name in (*needed, "probe", "y") if name not in kept]:
        return f"they lack: {', '.join(missing)}"
    fits = all(kept[name].shape == (len(sizes) + 1, len(probe)) for name in needed) and kept["y"].shape == probe.shape
    if not fits or not np.array_equal(kept["probe"], probe):
        return f"they are not of {len(sizes) + 1} rows and {len(probe)} test samples"

    def means(values: NDArray[Any]) -> Floats:
        parts = np.split(values.astype(np.float64), np.cumsum(sizes)[:-1], axis=1)
        return np.stack([part.mean(axis=1) for part in parts], axis=1)

    truth, right = kept["truth"].astype(np.float64), kept["predicted"] == kept["y"]
    loss, brier = means(-np.log(np.maximum(truth, IMPOSSIBLE))), means(kept["squares"] - 2 * truth + 1)
    sure, maybe = means(right & (kept["confidence"] > HALF)), means(truth >= kept["confidence"])
    for name, low, high in ((ACCURACY, sure, maybe), (LOSS, loss, loss), (BRIER, brier, brier)):
        values = array(result["matrices"][name]) if name in result["matrices"] else np.full_like(low, np.nan)
        for i, j in _where((values < low - 1e-5) | (values > high + 1e-5)):
            return f"they give another {name} than R[{i}, {j}] = {values[i, j - 1]}"
    return None
