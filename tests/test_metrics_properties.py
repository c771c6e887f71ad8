"""What holds of metrics whatever the scores are: bounds, identities between them, missing cells, untouched inputs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clbench.checks.metric_examples import MADE, example
from clbench.matrix import ScoreMatrix
from clbench.metrics import FAMILIES, METRICS, READS, Metric, metric
from tests.score_matrices import OF_R, PROPERTY, ROUNDING, Array, matrices, of


def read_only(value: Any) -> Any:
    """The same nest of arrays, which cannot be written to."""
    if isinstance(value, dict):
        return {key: read_only(part) for key, part in value.items()}
    if isinstance(value, list):
        return [read_only(part) for part in value]
    if isinstance(value, np.ndarray):
        value = value.copy()
        value.setflags(write=False)
    return value


def inside(m: Metric, value: float) -> bool:
    return math.isnan(value) or m.bounds[0] - ROUNDING <= value <= m.bounds[1] + ROUNDING


def test_every_input_that_a_metric_may_read_is_described_and_drawn() -> None:
    assert MADE.keys() == READS.keys()
    read = {name for m in METRICS.values() for name in (*m.reads, *m.optional)}
    assert read == READS.keys(), "nothing is described that no metric reads"
    assert sum(map(len, FAMILIES.values())) == len(METRICS), "every id once"


@pytest.mark.parametrize("family", FAMILIES)
@PROPERTY
@given(st.integers(1, 6), st.integers(0, 2**32 - 1), st.booleans())
def test_every_metric_stays_within_its_bounds_and_writes_to_nothing(
    family: str, n_tasks: int, seed: int, extreme: bool
) -> None:
    for m in FAMILIES[family]:
        drawn = example(m, n_tasks, np.random.default_rng(seed), extreme)
        inputs: dict[str, Any] = dict(drawn.inputs)
        inputs |= {"R": drawn.matrix and drawn.matrix.values, "A": drawn.other and drawn.other.values}
        got = m.of(**read_only(inputs))
        assert inside(m, got), (m.id, got)


@PROPERTY
@given(matrices(), st.data())
def test_a_missing_cell_gives_nan_or_was_not_read(r: Array, data: st.DataObject) -> None:
    row, column = data.draw(st.integers(0, len(r) - 1)), data.draw(st.integers(0, r.shape[1] - 1))
    holed = r.copy()
    holed[row, column] = np.nan
    inputs = {"A": np.ones_like(r), "test_sizes": np.arange(1.0, len(r))}
    for m in OF_R:
        before, after = m.of(R=r, **inputs), m.of(R=holed, **inputs)
        assert math.isnan(after) or after == before, m.id
    assert math.isnan(of("average.mtil2023", holed)) == (row > 0)
    assert math.isnan(of("average_accuracy.gem2017", holed)) == (row == len(r) - 1)


@PROPERTY
@given(matrices(1, 1))
def test_with_one_task_averages_are_its_score_and_what_compares_tasks_is_nan(r: Array) -> None:
    for id in ("average_accuracy.gem2017", "learning_accuracy.mer2019", "accuracy.diaz2018"):
        assert of(id, r) == r[1, 0]
    assert of("average_incremental_accuracy.icarl2017_macro", r) == r[1, 0]
    for m in OF_R:
        if m.is_difference and m.reads == ("R",):
            assert math.isnan(m.of(R=r)), m.id
    for id in ("transfer.mtil2023", "forward_transfer.diaz2018", "stability_ratio", "omega_new.kemker2018"):
        assert math.isnan(of(id, r)), id


@PROPERTY
@given(matrices())
def test_the_same_metric_of_the_first_tasks_is_that_of_the_smaller_matrix(r: Array) -> None:
    sizes = np.arange(1.0, len(r))
    for k in range(1, r.shape[1] + 1):
        for m in OF_R:
            if m.reference is None:
                whole = m.of(R=r[: k + 1, :k], test_sizes=sizes[:k])
                cut = metric(f"{m.id}@{k}").of(R=r, test_sizes=sizes)
                assert cut == whole or (math.isnan(cut) and math.isnan(whole)), m.id
    assert math.isnan(metric(f"average_accuracy.gem2017@{r.shape[1] + 1}").of(R=r))


@PROPERTY
@given(matrices())
def test_what_is_lost_by_losses_is_what_is_lost_by_scores(r: Array) -> None:
    """1 - R read as losses: differences are the same, averages the complement."""
    scores, losses = ScoreMatrix(r), ScoreMatrix(1 - r, higher_is_better=False)
    for m in OF_R:
        if (
            m.reads == ("R",)
            and m.unit == "fraction"
            and "rem" not in m.id
            and "l2m" not in m.id
            and "pycil" not in m.id
        ):
            if m.is_difference:
                assert m(losses) == pytest.approx(m(scores), abs=1e-9, nan_ok=True), m.id
            elif m.matrix == "accuracy":
                assert m(losses) == pytest.approx(1 - m(scores), abs=1e-9, nan_ok=True), m.id
