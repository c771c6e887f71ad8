"""Clauses on metrics: described, right, pure, honest about what is missing, within bounds, pointing the right way."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from clbench.checks.clause import NotApplicable, expect
from clbench.checks.metric_examples import INDICES, LOWER, Example, example, examples
from clbench.matrix import ScoreMatrix
from clbench.metrics import METRICS, READS, Metric

Vector = Mapping[str, Any]
"""What a metric must give: ``matrix`` (or none), ``expected`` {metric id: value or None for NaN}, and at need ``id``,
``reference`` (a matrix), ``inputs`` by the names of READS, ``tolerance``, ``higher_is_better``."""
VECTORS: tuple[Vector, ...] = (  # worked by hand; every difference is a multiple of 1/8
    {
        "id": "three tasks",
        "matrix": [[0.125, 0.125, 0.125], [0.875, 0.25, 0.25], [0.625, 0.75, 0.25], [0.5, 0.5, 1.0]],
        "reference": [[0.125, 0.125, 0.125], [1.0, 0.25, 0.25], [1.0, 1.0, 0.25], [1.0, 1.0, 1.0]],
        "expected": {
            "average_accuracy.gem2017": 2 / 3,
            "average_incremental_accuracy.icarl2017_macro": (0.875 + 0.6875 + 2 / 3) / 3,
            "learning_accuracy.mer2019": 0.875,
            "backward_transfer.gem2017": -0.3125,
            "forward_transfer.gem2017": 0.125,
            "forgetting.rwalk2018": 0.3125,
            "forgetting.since_learned": 0.3125,
            "forgetting.first_last": 0.3125,
            "intransigence.rwalk2018": 0.125,
        },
    },
    {
        "id": "a zero-shot peak",
        "matrix": [[0.0, 0.0, 0.0], [0.5, 0.875, 0.125], [0.75, 0.75, 0.25], [1.0, 0.5, 0.75]],
        "expected": {
            "backward_transfer.gem2017": 0.125,
            "forward_transfer.gem2017": 0.5625,
            "forgetting.rwalk2018": 0.0625,
            "forgetting.since_learned": 0.0,
            "forgetting.first_last": -0.125,
        },
    },
    {
        "id": "two tasks help and one costs",  # against each task learned alone: +1/8, +3/8, -1/4
        "matrix": [[0.125, 0.125, 0.125], [0.875, 0.25, 0.25], [0.625, 0.875, 0.25], [0.5, 0.75, 0.5]],
        "reference": [[0.125, 0.125, 0.125], [0.75, 0.125, 0.0], [0.25, 0.5, 1.0], [0.125, 1.0, 0.75]],
        "expected": {"forward_transfer.cuber2022": 0.25 / 3, "intransigence.rwalk2018": -0.25 / 3},
    },
    {
        "id": "tasks inferred",  # nothing is inferred before the first task is learned
        "matrix": [[None, None, None], [1.0, 0.0, 0.0], [0.75, 0.5, 0.0], [0.625, 0.25, 0.875]],
        "expected": {"task_inference_accuracy.last": 1.75 / 3},
    },
)


@dataclass(frozen=True)
class MetricCase:
    """A metric and the vectors it is held against."""

    metric: Metric
    vectors: Sequence[Vector] = VECTORS


def metric_is_described(case: MetricCase) -> None:
    """A metric has an id 'quantity.definition', a title, a formula, a source, a unit, a direction and bounds."""
    m = case.metric
    named = re.fullmatch(r"(lib\.)?[a-z0-9_]+(\.[A-Za-z0-9_]+)?(\[[^\[\]]+\])?", m.id) is not None
    alone = "." in m.id or not any(id.startswith(f"{m.id}.") for id in METRICS)
    advice = "name the quantity and whose definition it is"
    expect(named and alone, "an id like forgetting.rwalk2018", repr(m.id), advice)
    for field in ("title", "formula", "source", "unit"):
        text = str(getattr(m, field) or "").strip()
        expect(bool(text), f"a {field}", "none", "say what the number is and where it comes from")
    expect(isinstance(m.higher_is_better, bool), "a direction", repr(m.higher_is_better), "set higher_is_better")
    low, high = m.bounds
    expect(low < high, "bounds (low, high)", m.bounds, "give the range for scores in [0, 1]")
    foreign = sorted({*m.reads, *m.optional} - READS.keys())
    expect(not foreign, "inputs from the table clbench.metrics.READS", ", ".join(foreign), "give them a row there")


def metric_agrees_with_the_vectors(case: MetricCase) -> None:
    """The metric gives the numbers known for published and hand-worked inputs."""
    known = [v for v in case.vectors if case.metric.id in v["expected"]]
    if not known:
        raise NotApplicable(f"no vectors hold '{case.metric.id}'; give check(metric, vectors=[...]) some of your own")
    for vector in known:
        wanted = vector["expected"][case.metric.id]
        got = value_of(case.metric, vector)
        near = math.isnan(got) if wanted is None else abs(got - wanted) <= float(vector.get("tolerance", 1e-9))
        expect(near, f"{wanted} for vector '{vector['id']}'", got, "follow the formula of the id, or take a new id")


def metric_leaves_its_input_alone(case: MetricCase) -> None:
    """Computing a metric does not change its inputs, and the same inputs give the same number."""
    for given in examples(case.metric):
        inputs = dict(given.inputs) | {"R": _writable(given.matrix), "A": _writable(given.other)}
        before = copy.deepcopy(inputs)
        case.metric.of(**inputs)
        expect(_equal(inputs, before), "the inputs as they were", "changed ones", "work on a copy")
        once, again = given.of(case.metric), given.of(case.metric)
        expect(_same(once, again), f"{once} again", again, "let a metric be a pure function of what it reads")


def missing_cells_give_nan(case: MetricCase) -> None:
    """What is missing makes the metric NaN or, where it is not read, changes nothing; never another number."""
    for given in examples(case.metric, draws=3):
        whole = given.of(case.metric)
        for cell, lacking in given.without():
            got = lacking.of(case.metric)
            fine = math.isnan(got) or _same(got, whole)
            expect(fine, f"NaN or {whole} without {cell}", got, "no nan-mean and no other cell instead")
    got = Example(None, None, {}).of(case.metric)
    expect(math.isnan(got), "NaN without anything", got, "a missing input is not zero")
    if case.metric.reference:
        got = replace(given, other=None).of(case.metric)
        expect(math.isnan(got), "NaN without the reference's matrix", got, "a missing reference is not zero")


def one_task_gives_nan_or_a_score(case: MetricCase) -> None:
    """With a single task a difference over pairs of tasks is NaN, and nothing raises."""
    got = example(case.metric, 1, np.random.default_rng(0), extreme=False).of(case.metric)
    if case.metric.is_difference and case.metric.reads == ("R",):
        expect(math.isnan(got), "NaN for one task", got, "there are no pairs of tasks to compare")
    expect(
        _within(case.metric, got), f"NaN or a value in {case.metric.bounds} for one task", got, "correct the formula"
    )


def metric_stays_within_bounds(case: MetricCase) -> None:
    """For scores in [0, 1] the metric stays within its bounds."""
    for extreme in (False, True):
        for given in examples(case.metric, extreme=extreme):
            got = given.of(case.metric)
            expect(_within(case.metric, got), f"a value in {case.metric.bounds}", got, "correct the bounds or formula")


def metric_points_the_right_way(case: MetricCase) -> None:
    """Better scores after the last task never make the metric worse, whether high or low scores are the better ones."""
    m = case.metric
    if "R" not in m.reads:
        raise NotApplicable("it reads no score matrix, so nothing is known of what is better")
    for given in examples(m):
        for higher in (True, False):
            plain = given.oriented(higher)
            before = plain.of(m)
            upward = (
                m.higher_is_better if m.is_difference or higher == (m.matrix not in LOWER) else not m.higher_is_better
            )
            for column in range(given.matrix.n_tasks):
                after = _improved(plain, column).of(m)
                worse = after < before - 1e-12 if upward else after > before + 1e-12
                way = f"{before} to {'rise' if upward else 'fall'} or stay with a better last row"
                expect(not worse, way, after, "correct higher_is_better or the formula")


def value_of(metric: Metric, vector: Vector) -> float:
    """What the metric gives for a vector; a matrix may have other rows than one a task, where tasks are revisited."""
    inputs = {name: v if name in INDICES else _plain(v) for name, v in vector.get("inputs", {}).items()}
    values, reference = (_plain(vector.get(name)) for name in ("matrix", "reference"))
    if values is not None and len(values) != len(values[0]) + 1:
        return metric.of(R=values, **inputs)
    other = {} if metric.reference is None or reference is None else {metric.reference: _matrix(reference, vector)}
    return metric(None if values is None else _matrix(values, vector), other, **inputs)


def _plain(value: Any) -> Any:
    """A list of numbers as an array; lists of lists of different lengths and mappings as they are."""
    try:
        return np.array(value, dtype=np.float64) if isinstance(value, list) else value
    except ValueError:
        return [_plain(part) for part in value]


def _matrix(values: Any, vector: Vector) -> ScoreMatrix:
    bounds = (-math.inf, math.inf)  # vectors hold perplexities and percent too
    return ScoreMatrix(values, higher_is_better=bool(vector.get("higher_is_better", True)), bounds=bounds)


def _improved(given: Example, column: int) -> Example:
    assert given.matrix is not None
    values, gain = given.matrix.values.copy(), 0.125 if given.matrix.higher_is_better else -0.125
    values[-1, column] = np.clip(values[-1, column] + gain, *given.matrix.bounds)
    return replace(given, matrix=replace(given.matrix, values=values))


def _within(metric: Metric, value: float) -> bool:
    low, high = metric.bounds
    return math.isnan(value) or low - 1e-12 <= value <= high + 1e-12


def _writable(matrix: ScoreMatrix | None) -> Any:
    return None if matrix is None else matrix.values.copy()


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return all(_equal(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return all(_equal(x, y) for x, y in zip(a, b, strict=True))
    return a is b or bool(np.array_equal(a, b))


def _same(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))
