"""The L2M metrics give the figures of the reference vectors, and say NaN where they cannot."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from numpy.typing import NDArray

from clbench.metrics import METRICS, metric
from clbench.metrics.l2m_terms import (
    ByPair,
    backward_transfer,
    contrast,
    data_range,
    forward_transfer,
    lifetime,
    mean_training_performance,
    normalise,
    relative_performance,
    sample_efficiency,
    saturation,
    smooth,
)
from tests.vectors import PAGE, Vector

Array = NDArray[np.float64]
VECTORS: dict[str, Vector] = {v["id"]: v for v in PAGE if v["id"].startswith("l2m.")}
STEADY = [np.linspace(0.1, 0.9, 30), np.linspace(0.2, 0.8, 30)]


def first(pairs: ByPair) -> dict[str, float]:
    return {f"{a}->{b}": values[0] for (a, b), values in pairs.items()}


def test_the_vectors_reach_every_metric_of_the_suite() -> None:
    named = {re.split(r"[\[/]", name)[0] for v in VECTORS.values() for name in v["expected"]}
    assert {m.id for m in METRICS.values() if ".l2m" in m.id} <= named


def test_smoothing_scaling_and_ranges_are_those_of_l2metrics() -> None:
    for id, got in {
        "l2m.smooth_flat_3": smooth(VECTORS["l2m.smooth_flat_3"]["inputs"]["x"], window=3),
        "l2m.normalise_task": normalise(VECTORS["l2m.normalise_task"]["inputs"]["x"], -100, 100),
    }.items():
        (wanted,) = VECTORS[id]["expected"].values()
        assert got.tolist() == pytest.approx(wanted, abs=1e-9)
    assert data_range(VECTORS["l2m.data_range"]["inputs"]) == VECTORS["l2m.data_range"]["expected"]["l2m.data_range"]
    assert normalise([0.5, 0.5], 0.5, 0.5).tolist() == [1.0, 1.0]


def test_a_short_curve_is_not_smoothed_and_a_long_window_falls_back_to_a_fifth() -> None:
    curve = np.arange(14.0)
    assert smooth(curve).tolist() == curve.tolist()
    assert smooth(np.arange(20.0), window=21).tolist() == smooth(np.arange(20.0)).tolist()
    assert smooth(np.arange(20.0)).size == 20


def test_a_level_stretch_is_reached_where_it_is_reached_whatever_the_rounding() -> None:
    """Windows of 8 in a curve of 40: output k is the mean of samples k-4..k+3, all on the level from 29 at k = 33."""
    for level in np.linspace(0.61, 0.97, 37):
        curve = np.concatenate([np.linspace(0.1, level, 30), np.full(10, level)])
        assert saturation(curve) == pytest.approx((level, 33))


def test_a_pair_that_starts_from_nothing_has_no_value_and_a_missing_score_gives_nan() -> None:
    r = np.array([[0.1, 0.0, 0.2], [0.9, 0.0, 0.3], [0.8, 0.9, 0.4], [0.7, 0.8, 0.9]])
    assert first(forward_transfer(r)) == pytest.approx({"1->3": 1.5, "2->3": 4 / 3})
    assert metric("forward_transfer.l2m_ratio").of(R=r) == pytest.approx((1.5 + 4 / 3) / 2)
    r[0, 2] = np.nan
    assert math.isnan(metric("forward_transfer.l2m_ratio").of(R=r))
    assert not math.isnan(metric("backward_transfer.l2m_ratio").of(R=r))


def test_without_curves_or_experts_the_figures_of_training_are_nan() -> None:
    r = np.array([[0.1, 0.1], [0.9, 0.2], [0.8, 0.9]])
    for quantity in ("relative_performance.l2m", "sample_efficiency.l2m", "mean_training_performance.l2m"):
        assert math.isnan(metric(quantity).of(R=r))
    assert math.isnan(metric("performance_maintenance.l2m_mrtlp").of(R=r))
    assert math.isnan(metric("performance_recovery.l2m").of(R=r, blocks=STEADY)), "each task is trained once"
    for figure in (relative_performance, sample_efficiency):
        assert math.isnan(lifetime(figure(STEADY, [[STEADY[0]], []]))), "an expert is missing"
    holed = [np.where(np.arange(30) == 5, np.nan, STEADY[0]), STEADY[1]]
    assert math.isnan(lifetime(mean_training_performance(holed)))
    assert math.isnan(lifetime(sample_efficiency(holed, [[x] for x in STEADY])))


def test_sample_efficiency_is_zero_for_a_falling_or_poor_curve_and_has_no_value_for_one_best_at_its_start() -> None:
    rising, falling = np.linspace(0.0, 0.9, 30), np.r_[0.1, 0.95, np.linspace(0.9, 0.1, 28)]
    experts = [[rising], [rising], [rising]]
    assert sample_efficiency([rising, falling, 0.1 * rising], experts) == pytest.approx({1: 1.0, 2: 0.0, 3: 0.0})
    assert sample_efficiency([np.linspace(0.9, 0.1, 30), rising, rising], experts).keys() == {2, 3}
    assert relative_performance([rising], [[rising, 2 * rising]]) == pytest.approx({1: 0.75}), "a mean over two experts"


def test_one_task_after_another_the_steps_of_transfer_multiply_to_the_whole_way() -> None:
    """Identity 7 of the reference: ratios telescope, and a contrast is the ratio's."""
    generator = np.random.default_rng(0)
    for n in (2, 3, 6):
        r = generator.uniform(0.05, 1.0, (n + 1, n))
        for of in (forward_transfer, backward_transfer):
            ratios, contrasts = of(r), of(r, compare=contrast)
            for pair, (quotient,) in ratios.items():
                assert contrasts[pair] == pytest.approx([(quotient - 1) / (quotient + 1)])
            for b in range(1, n + 1):
                steps = [values[0] for (_, affected), values in ratios.items() if affected == b]
                first, last = (0, b - 1) if of is forward_transfer else (b, n)
                assert math.prod(steps) == pytest.approx(r[last, b - 1] / r[first, b - 1])
