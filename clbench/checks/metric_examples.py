"""Random inputs for metrics, of the shapes that the table ``READS`` gives."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from clbench.matrix import ScoreMatrix
from clbench.metrics import Metric

LOWER = {"perplexity", "negative_log_likelihood", "brier_score", "expected_calibration_error"}  # matrices, of losses
INDICES = {"ends", "curve_ends", "steps", "train_order"}  # they say where; none can be missing
PROBES = 5  # evaluations during the training of each task
Generator = np.random.Generator


@dataclass(frozen=True)
class Example:
    """Inputs of one metric: the matrix it reads, that of its reference, and the others by name."""

    matrix: ScoreMatrix | None
    other: ScoreMatrix | None
    inputs: Mapping[str, Any]

    def of(self, metric: Metric) -> float:
        """Compute the metric."""
        known = {metric.reference: self.other} if metric.reference and self.other is not None else {}
        return metric(self.matrix, known, **copy.deepcopy(dict(self.inputs)))

    def oriented(self, higher: bool) -> Example:
        """The same scores, better when high or when low."""
        matrix, other = (m and replace(m, higher_is_better=higher) for m in (self.matrix, self.other))
        return Example(matrix, other, self.inputs)

    def without(self) -> Iterator[tuple[str, Example]]:
        """Each of a few dozen cells of each input missing in turn, and each input as a whole."""
        if self.matrix is not None:
            for cell, values in _lacking(self.matrix.values):
                yield f"R{list(cell)}", replace(self, matrix=replace(self.matrix, values=values))
        for name in self.inputs.keys() - INDICES:
            for path, array in _arrays(self.inputs[name]):
                for cell, values in _lacking(array):
                    inputs = copy.deepcopy(dict(self.inputs))
                    inputs[name] = _put(inputs[name], path, values)
                    yield f"{name}{[*path, *cell]}", replace(self, inputs=inputs)


def examples(metric: Metric, sizes: tuple[int, ...] = (2, 3, 5), draws: int = 8, *, extreme: bool = False) -> Any:
    """Yield examples of streams of these lengths; ``extreme``: of scores 0 and 1 alone."""
    generator = np.random.default_rng(0)
    for n_tasks in sizes:
        for _ in range(draws):
            yield example(metric, n_tasks, generator, extreme)


def example(metric: Metric, n_tasks: int, generator: Generator, extreme: bool) -> Example:
    """Draw one example."""
    names = {*metric.reads, *metric.optional}
    drawn = {name: MADE[name](generator, n_tasks) for name in MADE if name in names}
    if extreme:
        drawn = {name: _rounded(value) if name in SCORES else value for name, value in drawn.items()}
    low, high = (1.0, 10.0) if metric.matrix == "perplexity" else (0.0, 1.0)
    R, A = (None if name not in drawn else low + (high - low) * drawn.pop(name) for name in ("R", "A"))
    higher = metric.matrix not in LOWER
    bounds = (low, high)
    matrix, other = (None if m is None else ScoreMatrix(m, higher_is_better=higher, bounds=bounds) for m in (R, A))
    return Example(matrix, other, drawn)


def _scores(*shape: Callable[[int], int]) -> Callable[[Generator, int], Any]:
    return lambda generator, n: generator.random([size(n) for size in shape])


def _whole(low: int, high: int) -> Callable[[Generator, int], Any]:
    return lambda generator, n: generator.integers(low, high, n).astype(float)


def _n(n: int) -> int:
    return n


def _rows(n: int) -> int:
    return n + 1


def _ends(_: Generator, n: int) -> Any:
    return PROBES * np.arange(1, n + 1) - 1


def _fixed(size: int) -> Callable[[int], int]:
    return lambda _: size


SCORES: Mapping[str, Callable[[Generator, int], Any]] = {
    "R": _scores(_rows, _n),
    "A": _scores(_rows, _n),
    "curves": _scores(_n, lambda n: PROBES * n),
    "blocks": lambda generator, n: list(generator.random((n, 20))),
    "expert_blocks": lambda generator, n: [[run] for run in generator.random((n, 25))],
    "curve": _scores(lambda n: PROBES * n),
    "early_curve": _scores(_fixed(11)),
    "success_curves": _scores(_n, _fixed(11)),
    "class_rows": _scores(_n, lambda n: 2 * n),
    "order_scores": _scores(_fixed(5), _n),
    "cumulative_rows": _scores(_n, _n),
    "near_future": lambda generator, _: {0: generator.random(20)},
    "invariant_scores": _scores(_n, _rows),
    "updated_scores": _scores(_rows),
    "new_scores": _scores(_rows),
    "criteria": _scores(_fixed(3), _fixed(4)),
}
MADE: Mapping[str, Callable[[Generator, int], Any]] = {
    **SCORES,
    "ends": _ends,
    "curve_ends": _ends,
    "steps": lambda _, n: np.tile(np.arange(PROBES), n),
    "train_order": lambda _, n: np.arange(1, n + 1),
    "wrong": _whole(0, 11),
    "counts": _whole(10, 100),
    "adapted": lambda generator, n: 1 + 9 * generator.random(n),
    "epochs": lambda generator, _: float(generator.integers(1, 5)),
    "weights": _scores(_fixed(4)),
    "test_sizes": _whole(1, 200),
    "train_samples": _whole(100, 200),
    "stored_samples": _whole(0, 100),
    **dict.fromkeys(
        ("samples_seen", "optimiser_steps", "parameters", "parameter_bytes", "state_bytes", "peak_memory_bytes"),
        _whole(1, 1000),
    ),
    **dict.fromkeys(
        ("train_flops", "pass_flops", "train_seconds", "evaluate_seconds", "energy_joules"),
        lambda generator, n: 100 * generator.random(n),
    ),
}


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    return [_rounded(part) for part in value] if isinstance(value, list) else np.round(value)


def _arrays(value: Any) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Each array of a nest of lists and dicts, and the way to it."""
    if isinstance(value, (dict, list)):
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        for key, part in parts:
            yield from (((key, *path), array) for path, array in _arrays(part))
    else:
        yield (), np.asarray(value)


def _put(value: Any, path: tuple[Any, ...], array: Any) -> Any:
    if not path:
        return array
    value[path[0]] = _put(value[path[0]], path[1:], array)
    return value


def _lacking(array: Any) -> Iterator[tuple[tuple[int, ...], Any]]:
    """Copies of the array without one cell each: without any in turn where there are up to 30."""
    cells = list(np.ndindex(*array.shape))
    for cell in cells[:: max(1, len(cells) // 30)]:
        values = np.array(array, dtype=np.float64)
        values[cell] = np.nan
        yield cell, values
