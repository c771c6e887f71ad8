"""The identities of the metrics reference, section 16, on random matrices."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from clbench.metrics import metric
from clbench.metrics.during_training import largest_drops, over_seen
from clbench.metrics.forgetting import drops_since_learned
from clbench.metrics.l2m_terms import backward_transfer, contrast, forward_transfer, ratio
from clbench.store import Store
from tests.score_matrices import OF_R, POSITIVE, PROPERTY, ROUNDING, SCORES, Array, matrices, near, of


@PROPERTY
@given(matrices())
def test_1_2_accuracy_is_what_was_learned_plus_what_changed_since(r: Array) -> None:
    share = (r.shape[1] - 1) / r.shape[1]
    back, forth = of("backward_transfer.gem2017", r), of("forward_transfer.gem2017", r)
    assert of("average_accuracy.gem2017", r) == near(of("learning_accuracy.mer2019", r) + share * back)
    assert of("backward_transfer.gem2017_code", r) == near(share * back)
    assert of("forward_transfer.gem2017_code", r) == near(share * forth)
    assert back == near(-of("forgetting.first_last", r))


@PROPERTY
@given(matrices())
def test_3_the_definitions_of_forgetting_are_ordered(r: Array) -> None:
    rwalk, since, first = (of(f"forgetting.{name}", r) for name in ("rwalk2018", "since_learned", "first_last"))
    nonneg = of("forgetting.since_learned_nonneg", r)
    assert rwalk >= since - ROUNDING and since >= first - ROUNDING
    assert nonneg >= max(0, since) - ROUNDING
    assert nonneg == near(float(np.maximum(0, drops_since_learned(r)).mean()))
    for forgetting in (rwalk, since, first, nonneg):
        assert forgetting >= -of("backward_transfer.gem2017", r) - ROUNDING


@PROPERTY
@given(matrices(2, 2))
def test_4_of_two_tasks_the_definitions_coincide(r: Array) -> None:
    back = of("backward_transfer.gem2017", r)
    for id in ("backward_transfer.diaz2018", "lib.pyclad.backward_transfer", "performance_maintenance.l2m_mrlep"):
        assert of(id, r) == near(back), id
    forth = of("forward_transfer.diaz2018", r)
    assert forth == r[1, 1] and forth == near(of("forward_transfer.gem2017", r) + r[0, 1])


@PROPERTY
@given(matrices())
def test_5_6_libraries_and_criteria_follow_from_the_definitions(r: Array) -> None:
    n = r.shape[1]
    assert of("lib.pyclad.backward_transfer", r) == near(2 / n * of("backward_transfer.gem2017", r))
    baseline = float(r[0, 1:].mean())
    assert of("lib.continuum.forward_transfer", r) == near(of("forward_transfer.gem2017", r) + baseline)
    rows = sum(i * float(r[i, :i].mean()) for i in range(1, n + 1))
    assert of("accuracy.diaz2018", r) * n * (n + 1) / 2 == pytest.approx(rows, abs=1e-11)
    b = of("backward_transfer.diaz2018", r)
    kept, gained = of("remembering.diaz2018", r), of("positive_backward_transfer.diaz2018", r)
    assert kept == near(1 + min(b, 0)) and gained == near(max(b, 0)) and b == near(gained - (1 - kept))


@PROPERTY
@given(matrices(scores=POSITIVE))
def test_7_contrast_follows_from_ratio_and_one_step_ratios_multiply_up(r: Array) -> None:
    n = r.shape[1]
    for transfers in (forward_transfer, backward_transfer):
        ratios, contrasts = transfers(r, compare=ratio), transfers(r, compare=contrast)
        for pair, values in ratios.items():
            assert contrasts[pair] == [near((v - 1) / (v + 1)) for v in values]
    forth, back = forward_transfer(r, compare=ratio), backward_transfer(r, compare=ratio)
    for b in range(1, n + 1):
        before = math.prod(forth[a, b][0] for a in range(1, b))
        after = math.prod(back[a, b][0] for a in range(b + 1, n + 1))
        assert before == pytest.approx(r[b - 1, b - 1] / r[0, b - 1])
        assert after == pytest.approx(r[n, b - 1] / r[b, b - 1])


@PROPERTY
@given(st.integers(2, 7), POSITIVE)
def test_8_of_a_constant_matrix_averages_are_the_constant_differences_0_ratios_1(n: int, c: float) -> None:
    r = np.full((n + 1, n), c)
    for m in OF_R:
        if m.id == "remembering.diaz2018" or "ratio" in (m.unit, m.id) or m.id.endswith("ratio"):
            wanted = 0.0 if m.id.endswith("contrast") else 1.0
        else:
            wanted = 0.0 if m.is_difference or m.id.endswith("contrast") else c
        got = m.of(R=r, A=r, test_sizes=np.arange(1.0, n + 1))
        assert got == pytest.approx(wanted, abs=1e-12), m.id


@PROPERTY
@given(matrices(), st.data())
def test_8_the_three_figures_of_mtil_read_what_they_say(r: Array, data: st.DataObject) -> None:
    n = r.shape[1]
    row = data.draw(st.integers(1, n))
    column = data.draw(st.integers(0, n - 1))
    changed = r.copy()
    changed[row, column] += 1.0
    moved = {name: of(f"{name}.mtil2023", changed) != of(f"{name}.mtil2023", r) for name in ("transfer", "last")}
    assert moved == {"transfer": column >= row, "last": row == n}
    assert of("average.mtil2023", r) * n * n == pytest.approx(r[1:].sum())


@st.composite
def streams(draw: st.DrawFn) -> tuple[Array, NDArray[np.int64], Array]:
    """Curves whose last evaluation of each task is the row of a matrix, where they are, and the matrix."""
    r = draw(matrices())
    n = r.shape[1]
    lengths = np.array([draw(st.integers(1, 4)) for _ in range(n)])
    ends = np.cumsum(lengths) - 1
    curves = draw(arrays.arrays(np.float64, (n, int(ends[-1]) + 1), elements=SCORES))
    curves[:, ends] = r[1:].T
    return curves, ends, r


@PROPERTY
@given(streams())
def test_9_the_worst_is_no_better_than_the_end_and_a_wider_window_sees_more(
    stream: tuple[Array, NDArray[np.int64], Array],
) -> None:
    curves, ends, r = stream
    n = r.shape[1]
    lowest = metric("min_accuracy.delange2023").of(curves=curves, ends=ends)
    assert lowest <= r[n, : n - 1].mean() + ROUNDING
    assert metric("worst_case_accuracy.delange2023").of(curves=curves, ends=ends) <= r[n].mean() + ROUNDING
    for name in ("forgetting", "plasticity"):
        widths = (1, 2, 3, curves.shape[1])
        values = [metric(f"windowed_{name}.delange2023[w={w}]").of(curves=curves) for w in widths]
        assert values == sorted(values) and values[0] == 0
    assert (largest_drops(curves, curves.shape[1]) >= np.diagonal(r[1:]) - r[n]).all()
    rises = [metric(f"{id}[w=10]").of(curves=curves) for id in ("windowed_plasticity.delange2023", RELEASED)]
    assert rises[0] >= rises[1]


RELEASED = "lib.continual_evaluation.windowed_plasticity"


@PROPERTY
@given(streams(), st.data())
def test_10_averages_over_time_lie_within_their_curve_and_end_with_the_row(
    stream: tuple[Array, NDArray[np.int64], Array], data: st.DataObject
) -> None:
    curves, ends, r = stream
    seen = over_seen(curves, ends)
    assert [float(seen[end]) for end in ends] == [near(float(r[k, :k].mean())) for k in range(1, len(r))]
    steps = np.concatenate([np.arange(1, length + 1) for length in np.diff(ends, prepend=-1)])
    anytime = metric("anytime_accuracy.caccia2022[period=1]").of(curves=curves, ends=ends, steps=steps)
    area = metric("area_under_accuracy.iblurry2022").of(curve=seen)
    assert anytime == near(area)
    assert seen.min() - ROUNDING <= area <= seen.max() + ROUNDING
    orders = data.draw(arrays.arrays(np.float64, (5, 4), elements=SCORES))
    mean, most = (metric(f"order_disparity.apd2020_{name}").of(order_scores=orders) for name in ("mean", "max"))
    assert mean <= most + ROUNDING


@PROPERTY
@given(st.lists(st.tuples(st.integers(0, 50), st.integers(50, 90)), min_size=1, max_size=15))
def test_10_mistakes_under_test_time_adaptation_add_up(domains: list[tuple[int, int]]) -> None:
    wrong, counts = np.array(domains, dtype=np.float64).T
    pooled = metric("lib.pooled_error").of(wrong=wrong, counts=counts)
    assert pooled * counts.sum() / 100 == pytest.approx(wrong.sum())
    even = metric("mean_error.ctta2022").of(wrong=wrong, counts=np.full_like(counts, 90))
    assert even == pytest.approx(metric("lib.pooled_error").of(wrong=wrong, counts=np.full_like(counts, 90)))


@pytest.mark.parametrize("scenario", ["split_digits-v1", "labelled_digits-v1"])
def test_11_the_untrained_rows_of_published_runs_are_near_chance_and_shared(scenario: str) -> None:
    """Methods that train the same network from the same start have the same first row."""
    rows: dict[int, list[Array]] = {}
    for record in Store(Path(__file__).parent.parent / "reports" / "leaderboard" / "records" / scenario).read().records:
        if record.names["strategy"] in ("naive", "replay", "ewc", "er_ace") and record.names["model"] == "mlp":
            values = record.matrix().values
            assert ((values >= 0) & (values <= 1)).all()
            rows.setdefault(record.seed, []).append(values[0])
    assert len(rows) >= 3 and all(len(same) >= 3 for same in rows.values())
    assert all((row == same[0]).all() for same in rows.values() for row in same)
    n = len(rows[0][0])
    candidates = 2 * np.arange(1, n + 1) if scenario.startswith("split") else np.full(n, 2)
    gaps = np.mean([same[0] for same in rows.values()], axis=0) - 1 / candidates
    assert abs(gaps.mean()) < 0.1
