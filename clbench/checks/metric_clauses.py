"""Clauses on metrics: described, right, pure, honest about missing cells, within bounds, pointing the right way."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clbench.checks.clause import NotApplicable, expect
from clbench.matrix import ScoreMatrix
from clbench.metrics import Metric

Vector = Mapping[
    str, Any
]  # matrix, expected {metric id: value}, and at need id, reference, tolerance, higher_is_better
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
    """A metric has an id 'quantity.definition', a title, a formula, a source, a direction and bounds."""
    m = case.metric
    named = re.fullmatch(r"[a-z0-9_]+\.[A-Za-z0-9_]+", m.id) is not None
    expect(named, "an id like forgetting.rwalk2018", repr(m.id), "name the quantity and whose definition it is")
    for field in ("title", "formula", "source"):
        text = str(getattr(m, field) or "").strip()
        expect(bool(text), f"a {field}", "none", "say what the number is and where it comes from")
    expect(isinstance(m.higher_is_better, bool), "a direction", repr(m.higher_is_better), "set higher_is_better")
    low, high = m.bounds
    expect(low < high, "bounds (low, high)", m.bounds, "give the range for scores in [0, 1]")


def metric_agrees_with_the_vectors(case: MetricCase) -> None:
    """The metric gives the numbers known for published and hand-worked matrices."""
    known = [v for v in case.vectors if case.metric.id in v["expected"]]
    if not known:
        raise NotApplicable(f"no vectors hold '{case.metric.id}'; give check(metric, vectors=[...]) some of your own")
    for vector in known:
        wanted = vector["expected"][case.metric.id]
        got = case.metric(_matrix(vector["matrix"], vector), _references(case.metric, vector))
        near = math.isnan(got) if wanted is None else abs(got - wanted) <= float(vector.get("tolerance", 1e-9))
        expect(near, f"{wanted} for vector '{vector['id']}'", got, "follow the formula of the id, or take a new id")


def metric_leaves_its_input_alone(case: MetricCase) -> None:
    """Computing a metric does not change the scores, and the same scores give the same number."""
    for matrix, other in _examples(case.metric):
        values = matrix.values.copy()
        inputs = {"R": values, "A": other.values.copy() if other is not None else None}
        case.metric.of(**inputs)
        expect(np.array_equal(values, matrix.values), "the scores as they were", "changed ones", "work on a copy")
        once, again = (case.metric(matrix, _named(case.metric, other)) for _ in range(2))
        expect(_same(once, again), f"{once} again", again, "let a metric be a pure function of the matrix")


def missing_cells_give_nan(case: MetricCase) -> None:
    """A cell that is missing makes the metric NaN or, where it is not read, changes nothing; never another number."""
    for matrix, other in _examples(case.metric):
        whole = case.metric(matrix, _named(case.metric, other))
        for cell in np.ndindex(*matrix.values.shape):
            values = matrix.values.copy()
            values[cell] = np.nan
            got = case.metric(ScoreMatrix(values), _named(case.metric, other))
            fine = math.isnan(got) or _same(got, whole)
            expect(fine, f"NaN or {whole} without cell {cell}", got, "no nan-mean and no other cell instead")
    if case.metric.reference:
        got = case.metric(matrix, {})
        expect(math.isnan(got), "NaN without the reference's matrix", got, "a missing reference is not zero")


def one_task_gives_nan_or_a_score(case: MetricCase) -> None:
    """With a single task a difference over pairs of tasks is NaN, and nothing raises."""
    matrix = ScoreMatrix(np.array([[0.25], [0.75]]))
    got = case.metric(matrix, _named(case.metric, ScoreMatrix(np.array([[0.25], [1.0]]))))
    pairwise = case.metric.is_difference and case.metric.reference is None
    wanted = "NaN" if pairwise else "a number"
    expect(math.isnan(got) == pairwise, f"{wanted} for one task", got, "there are no pairs of tasks to compare")


def metric_stays_within_bounds(case: MetricCase) -> None:
    """For scores in [0, 1] the metric stays within its bounds."""
    low, high = case.metric.bounds
    for matrix, other in _examples(case.metric, extremes=True):
        got = case.metric(matrix, _named(case.metric, other))
        fine = math.isnan(got) or low - 1e-12 <= got <= high + 1e-12
        expect(fine, f"a value in [{low}, {high}]", got, "correct the bounds or the formula")


def metric_points_the_right_way(case: MetricCase) -> None:
    """Better scores after the last task never make the metric worse, whether high or low scores are the better ones."""
    for matrix, other in _examples(case.metric):
        for higher in (True, False):
            gain = 0.125 if higher else -0.125
            plain = case.metric(_oriented(matrix, higher), _named(case.metric, other, higher))
            upward = (
                case.metric.higher_is_better
                if higher or case.metric.is_difference
                else not case.metric.higher_is_better
            )
            for column in range(matrix.n_tasks):
                values = matrix.values.copy()
                values[-1, column] = np.clip(values[-1, column] + gain, 0, 1)
                better = case.metric(_oriented(ScoreMatrix(values), higher), _named(case.metric, other, higher))
                worse = better < plain - 1e-12 if upward else better > plain + 1e-12
                way = "rise or stay" if upward else "fall or stay"
                expect(
                    not worse,
                    f"{plain} to {way} with a better last row",
                    better,
                    "correct higher_is_better or the formula",
                )


def _examples(metric: Metric, extremes: bool = False) -> Iterator[tuple[ScoreMatrix, ScoreMatrix | None]]:
    generator = np.random.default_rng(0)
    for n_tasks in (2, 3, 5):
        for _ in range(20):
            values, other = generator.random((2, n_tasks + 1, n_tasks))
            if extremes:
                values, other = values.round(), other.round()
            yield ScoreMatrix(values), ScoreMatrix(other) if metric.reference else None


def _matrix(values: Any, vector: Vector) -> ScoreMatrix:
    cells = np.array([[np.nan if v is None else v for v in row] for row in values], dtype=np.float64)
    bounds = (-math.inf, math.inf)  # vectors hold perplexities and percent too
    return ScoreMatrix(cells, higher_is_better=bool(vector.get("higher_is_better", True)), bounds=bounds)


def _oriented(matrix: ScoreMatrix, higher: bool) -> ScoreMatrix:
    return ScoreMatrix(matrix.values, higher_is_better=higher)


def _references(metric: Metric, vector: Vector) -> dict[str, ScoreMatrix]:
    given = vector.get("reference")
    return {metric.reference: _matrix(given, vector)} if metric.reference and given is not None else {}


def _named(metric: Metric, other: ScoreMatrix | None, higher: bool = True) -> dict[str, ScoreMatrix]:
    return {metric.reference: _oriented(other, higher)} if metric.reference and other is not None else {}


def _same(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))
