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
Classes = tuple[tuple[int, ...], ...]
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


def scores(data: Data) -> Iterator[str]:
    """Every matrix has shape (T+1, T), says what it is, lies within its bounds, lacks only what was not measured, and
    agrees with the others."""
    own, tasks = data["result"]["matrices"], data["result"]["tasks"]
    if missing := [name for name in (ACCURACY, MASKED) if name not in own]:
        yield f"its result lacks the matrices: {', '.join(missing)}"
    for name, matrix in own.items():
        yield from _shape(name, matrix["values"], len(tasks))
    values = np.array([matrix["values"] for matrix in own.values()], dtype=np.float64)
    yield from _bounds(own, values)
    found = dict(zip(own, values, strict=True))
    yield from _gaps(found)
    yield from _shares(found, data["card"]["protocol"], tasks)
    yield from _losses(found, _asked(data["card"]["protocol"], _classes(tasks)))


def _shape(name: str, rows: list[list[Any]], n_tasks: int) -> Iterator[str]:
    if len(rows) != n_tasks + 1:
        yield f"matrix '{name}' has {len(rows)} rows; {n_tasks} tasks make {n_tasks + 1}"
    for i, row in enumerate(rows):
        if len(row) != n_tasks:
            yield f"matrix '{name}': row {i} has {len(row)} cells; {n_tasks} tasks make {n_tasks}"
        if not CELLS.issuperset(map(type, row)):
            yield f"matrix '{name}': row {i} holds more than numbers and null: {row!r:.60}"


def _bounds(own: Mapping[str, Data], values: Floats) -> Iterator[str]:
    limits = []
    for name, matrix in own.items():
        unit, higher, greatest = KNOWN.get(name, (matrix["unit"], matrix["higher_is_better"], math.inf))
        low, high = matrix["bounds"]
        says = (matrix["name"], matrix["unit"], matrix["higher_is_better"]) == (name, unit, higher)
        if not says or (name in KNOWN and (low != 0 or not math.isclose(high, greatest))):
            yield f"matrix '{name}' does not say that it is in {unit}, from 0 to {greatest:g}, and which way is better"
        limits.append((-math.inf if low is None else low, math.inf if high is None else high))
    lows, highs = np.array(limits).T[:, :, None, None]
    for k, i, j in _where((values < lows) | (values > highs) | np.isinf(values)):
        low, high = limits[k]
        yield f"matrix '{[*own][k]}': R[{i}, {j + 1}] is {values[k, i, j]}; it must lie in [{low:g}, {high:g}]"


def _gaps(found: Mapping[str, Floats]) -> Iterator[str]:
    """Rows before the last may be unmeasured, all of them but row 0; a strategy may infer no task for some samples."""
    measured: NDArray[np.bool_] = np.any(~np.isnan(found[ACCURACY]), axis=1)
    between = measured[1:-1]
    if not (measured[0] and measured[-1]) or (between.any() and not between.all()):
        yield f"matrix '{ACCURACY}' lacks the rows {np.flatnonzero(~measured).tolist()}"
    for name, values in found.items():
        there = ~np.isnan(values)
        wrong = there > measured[:, None] if name == INFERENCE else there != measured[:, None]
        for i, j in _where(wrong):
            yield f"matrix '{name}': R[{i}, {j + 1}] is {'there, its row is not' if there[i, j] else 'missing'}"


def _shares(found: Mapping[str, Floats], protocol: str, tasks: list[Data]) -> Iterator[str]:
    """What holds for the score of every sample, and therefore for means.

    A sample scores 1, or 1/k where k candidates tie: accuracy is a multiple of 1 / (n_test lcm(1..candidates)). A truth
    that is best of all candidates is best of its task's own, in a tie of no more: ``MASKED`` is never below
    ``ACCURACY``, and equal where the candidates are the task's own classes.
    """
    sizes = tuple(task["n_test"] for task in tasks)
    alone, *steps = _steps(protocol, _classes(tasks), sizes)
    for name, step in zip((ACCURACY, MASKED, INFERENCE), steps, strict=True):
        if name in found:
            counted = found[name] * step
            for i, j in _where(abs(counted - counted.round()) > 1e-4):
                yield f"matrix '{name}': R[{i}, {j + 1}] is {found[name][i, j]}, no share of {sizes[j]} samples"
    told, untold = found[MASKED], found[ACCURACY]
    for i, j in _where((told < untold) | (alone & (told > untold))):
        why = "which are all that are asked for" if alone[i, j] else "which cannot be less"
        yield f"R[{i}, {j + 1}] is {untold[i, j]}, but {told[i, j]} among the classes of the task, {why}"


@lru_cache(maxsize=1024)
def _steps(protocol: str, classes: Classes, sizes: tuple[int, ...]) -> tuple[NDArray[np.bool_], Floats, Floats, Floats]:
    """Per cell (T+1, T): whether only the task's own classes are candidates, and of how many steps between 0 and 1 each
    of accuracy, that among the task's own classes, and that of inferred tasks is one (0: any number is)."""
    own, asked = np.array([[len(c) for c in classes]] * (len(classes) + 1)), _asked(protocol, classes)

    def steps(counts: NDArray[np.int64]) -> Floats:
        ties = {int(k): math.lcm(*range(1, int(k) + 1)) if k <= MANY else math.inf for k in set(counts.flat)}
        found = np.array([[ties[int(k)] for k in row] for row in counts], dtype=np.float64) * sizes
        return np.where(found < FINE, found, 0)

    return asked == own, steps(asked), steps(own), steps(np.ones_like(own))


@lru_cache(maxsize=1024)
def _asked(protocol: str, classes: Classes) -> NDArray[np.int64]:
    """Per cell (T+1, T) how many candidates a sample has."""
    seen = np.array([len(set().union(*classes[: k + 1])) for k in range(len(classes))])
    own = np.array([[len(c) for c in classes]] * (len(classes) + 1))
    rows, columns = np.indices(own.shape)
    asked = {"task-incremental": own, "class-incremental": seen[np.maximum(rows - 1, columns)]}
    return asked.get(protocol, np.full_like(own, seen[-1]))


def _classes(tasks: list[Data]) -> Classes:
    return tuple(tuple(task["classes"]) for task in tasks)


def _losses(found: Mapping[str, Floats], asked: NDArray[np.int64]) -> Iterator[str]:
    """A truth that is not the only best of k has a probability of at most 1/2, one that is best of at least 1/k.

    So an error costs ln 2, or a Brier score of 1/2, or more, and a tie of m, which scores 1/m, ln m and 1 - 1/m; what
    is right costs at most ln k and 1 - 1/k, and an error at most what an impossible truth does, or 2.
    """
    accuracy = found[ACCURACY]
    ends = ((LOSS, math.log(2), np.log(asked), -math.log(IMPOSSIBLE)), (BRIER, 0.5, 1 - 1 / asked, 2.0))
    for name, least, right, most in ends:
        if name in found:
            low, high = least * (1 - accuracy) - 1e-9, accuracy * right + (1 - accuracy) * most + 1e-6
            for wrong, how in ((found[name] < low, "low"), (found[name] > high, "high")):
                for i, j in _where(wrong):
                    value = f"{found[name][i, j]}, too {how} for an accuracy of {accuracy[i, j]}"
                    yield f"matrix '{name}': R[{i}, {j + 1}] is {value}"


def _where(wrong: NDArray[np.bool_]) -> Iterator[tuple[int, ...]]:
    """Indices of the marked cells."""
    return zip(*wrong.nonzero(), strict=True)


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
        if name in result["matrices"]:
            values = np.array(result["matrices"][name]["values"], dtype=np.float64)
            for i, j in _where((values < low - 1e-5) | (values > high + 1e-5)):
                return f"they give another {name} than R[{i}, {j + 1}] = {values[i, j]}"
    return None
