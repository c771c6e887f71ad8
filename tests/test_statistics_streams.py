"""Aggregates and ranks over many streams, against rliable's numbers, scipy and scikit-posthocs."""

from __future__ import annotations

import json
import math
import re
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scikit_posthocs
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats

from clbench.errors import BadInput
from clbench.statistics import (
    grand_mean,
    iqm,
    least_p,
    least_streams,
    median_of_stream_means,
    nemenyi_critical_difference,
    optimality_gap,
    performance_profile,
    probability_of_improvement,
    rank_methods,
    stratified_interval,
    too_few,
)

QUICK = settings(max_examples=60, deadline=None, derandomize=True, database=None)
VECTORS = json.loads(Path(__file__).with_name("data").joinpath("test_vectors.json").read_text(encoding="utf-8"))
OURS = [v for v in VECTORS if v["id"].startswith("stats.")]
NUMBERS = {
    "stats.mean": grand_mean,
    "stats.median_of_stream_means": median_of_stream_means,
    "stats.iqm": iqm,
    "stats.optimality_gap": optimality_gap,
    "stats.performance_profile": lambda x, tau: performance_profile(x, [tau])[0],
    "stats.nemenyi_critical_difference": lambda k, N, alpha: nemenyi_critical_difference(k, N, alpha),
    "t_quantile": lambda p, df: stats.t.ppf(p, df),
    "wilcoxon_min_two_sided_p": lambda N: least_p(N),
    "sign_flip_min_two_sided_p": lambda n: least_p(n),
}
X = np.array(
    [
        [0.716, 0.627, 0.563, 0.693],
        [0.824, 0.518, 0.865, 0.795],
        [0.474, 0.661, 0.873, 0.444],
        [0.467, 0.656, 0.68, 0.582],
        [0.85, 0.458, 0.78, 0.821],
        [0.814, 0.546, 0.608, 0.687],
    ]
)
Y = np.array(
    [
        [0.509, 0.865, 0.713, 0.698],
        [0.647, 0.738, 0.319, 0.622],
        [0.884, 0.792, 0.604, 0.745],
        [0.618, 0.599, 0.723, 0.508],
        [0.553, 0.698, 0.701, 0.566],
        [0.705, 0.599, 0.773, 0.742],
    ]
)
AGGREGATES = [grand_mean, median_of_stream_means, iqm, optimality_gap]
matrices = arrays.arrays(np.float64, st.tuples(st.integers(3, 5), st.integers(1, 4)), elements=st.floats(0, 1))


def computed(name: str, inputs: dict[str, Any]) -> float:
    """The number that a key of a vector names: ``stats.iqm/x``, ``stats.performance_profile/x[tau=1]``."""
    found = re.fullmatch(r"([\w.]+)(?:/(\w+))?(?:\[(.*)\])?", name)
    assert found is not None
    quantity, of, given_parameters = found.groups()
    pairs = [pair.split("=") for pair in given_parameters.split(",")] if given_parameters else []
    parameters = {name: float(value) if "." in value else int(value) for name, value in pairs}
    if quantity == "stats.probability_of_improvement":
        first, second = of.split("_over_")
        return probability_of_improvement(inputs[first], inputs[second])
    data = [inputs[of or "x"]] if inputs else []
    return float(NUMBERS[quantity](*data, **parameters))  # type: ignore[operator]


@pytest.mark.parametrize("vector", OURS, ids=[v["id"] for v in OURS])
def test_every_known_number_is_met(vector: dict[str, Any]) -> None:
    for name, expected in vector["expected"].items():
        assert computed(name, vector["inputs"]) == pytest.approx(expected, abs=vector["tolerance"]), name


def test_all_vectors_of_statistics_are_there() -> None:
    assert len(OURS) == 6


@pytest.mark.parametrize(
    ("aggregate", "value", "low", "high"),
    [
        (grand_mean, 0.66675, 0.6160, 0.7154),
        (median_of_stream_means, 0.6805833, 0.6041, 0.7390),
        (iqm, 0.6706667, 0.5998, 0.7365),
        (optimality_gap, 0.33325, 0.2846, 0.3840),
    ],
)
def test_aggregates_and_their_intervals_agree_with_rliable(
    aggregate: Any, value: float, low: float, high: float
) -> None:
    """Made by rliable 1.2.0 with 50,000 resamples."""
    assert aggregate(X) == pytest.approx(value, abs=1e-6)
    assert stratified_interval(aggregate, X) == pytest.approx((low, high), abs=0.003)


def test_comparisons_and_their_intervals_agree_with_rliable() -> None:
    """Made by rliable 1.2.0 with 20,000 resamples."""
    assert probability_of_improvement(X, Y) == pytest.approx(0.4791666667)
    assert stratified_interval(probability_of_improvement, X, Y) == pytest.approx((0.3125, 0.6458), abs=0.01)
    taus = [0.2, 0.5, 0.7, 0.9]
    assert performance_profile(X, taus) == pytest.approx([1, 5 / 6, 0.375, 0])
    low, high = stratified_interval(partial(performance_profile, taus=taus), X)
    assert low == pytest.approx([1, 2 / 3, 0.2083, 0], abs=0.05)
    assert high == pytest.approx([1, 0.9583, 0.5417, 0], abs=0.05)


@QUICK
@given(matrices)
def test_aggregates_agree_with_scipy_and_stay_within_the_scores(x: Any) -> None:
    assert iqm(x) == pytest.approx(stats.trim_mean(x, 0.25, axis=None))
    assert optimality_gap(x) == pytest.approx(1 - x.mean())
    for aggregate in AGGREGATES[:3]:
        assert x.min() - 1e-12 <= aggregate(x) <= x.max() + 1e-12
    profile = performance_profile(x, np.linspace(-0.01, 1, 7))
    assert profile[0] == 1 and profile[-1] == 0 and (np.diff(profile) <= 0).all()


@QUICK
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 6), st.integers(1, 3))
def test_the_probability_of_improvement_is_mann_whitneys_u_over_all_pairs(seed: int, n: int, m: int, k: int) -> None:
    draw = np.random.default_rng(seed)
    x, y = draw.integers(0, 4, size=(n, k)) / 4, draw.integers(0, 4, size=(m, k)) / 4  # ties
    expected = np.mean([stats.mannwhitneyu(x[:, s], y[:, s]).statistic / (n * m) for s in range(k)])
    assert probability_of_improvement(x, y) == pytest.approx(expected)
    assert probability_of_improvement(x, y) + probability_of_improvement(y, x) == pytest.approx(1)


@settings(QUICK, max_examples=15)
@given(matrices, st.randoms(use_true_random=False))
def test_intervals_are_the_same_for_seeds_in_any_order(x: Any, random: Any) -> None:
    rows = list(range(len(x)))
    random.shuffle(rows)
    other = np.clip(x[::-1] + 0.1, 0, 1)
    few: dict[str, Any] = {"resamples": 200}
    for aggregate in AGGREGATES:
        assert stratified_interval(aggregate, x[rows], **few) == stratified_interval(aggregate, x, **few)
    both = stratified_interval(probability_of_improvement, x, other, paired=True, **few)
    assert stratified_interval(probability_of_improvement, x[rows], other[rows], paired=True, **few) == both


def test_another_generator_changes_the_interval_and_none_gives_the_same_again() -> None:
    first, second = (stratified_interval(iqm, X, generator=np.random.default_rng(seed)) for seed in (1, 2))
    assert first != second
    assert stratified_interval(iqm, X) == stratified_interval(iqm, X)


def test_pairing_the_seeds_narrows_the_interval_of_a_difference() -> None:
    draw = np.random.default_rng(4)
    hard = draw.normal(size=(8, 3))
    x, y = hard + 0.1 + 0.01 * draw.normal(size=hard.shape), hard

    def gap(a: Any, b: Any) -> Any:
        return np.mean(a - b, axis=(-2, -1))

    low, high = stratified_interval(gap, x, y, paired=True)
    wide_low, wide_high = stratified_interval(gap, x, y)
    assert wide_low < low < 0.1 < high < wide_high and high - low < 0.1 * (wide_high - wide_low)


def test_fewer_than_three_runs_have_no_interval_and_missing_scores_give_no_number() -> None:
    assert all(map(math.isnan, stratified_interval(iqm, X[:2])))
    missing = X.copy()
    missing[0, 0] = math.nan
    for aggregate in AGGREGATES:
        assert math.isnan(aggregate(missing))
    assert math.isnan(probability_of_improvement(missing, Y)) and np.isnan(performance_profile(missing, [0.5])).all()
    assert all(map(math.isnan, stratified_interval(iqm, missing)))


def test_aggregates_write_into_nothing_and_refuse_other_shapes() -> None:
    x, y = X.copy(), Y.copy()
    x.flags.writeable = y.flags.writeable = False
    stratified_interval(probability_of_improvement, x, y, paired=True, resamples=10)
    with pytest.raises(BadInput, match=r"\(runs, streams\); got \(3,\)"):
        iqm([1.0, 2.0, 3.0])
    with pytest.raises(BadInput, match="same streams; got 4 and 3"):
        probability_of_improvement(x, y[:, :3])
    with pytest.raises(BadInput, match="same seeds and streams"):
        stratified_interval(probability_of_improvement, x, y[:4], paired=True)


@pytest.mark.parametrize(("n_methods", "n_streams"), [(2, 6), (3, 7), (4, 8), (5, 9), (6, 10), (8, 11)])
def test_so_many_streams_are_needed_before_any_pair_can_be_separated(n_methods: int, n_streams: int) -> None:
    assert least_streams(n_methods) == n_streams
    assert too_few(n_streams, n_methods) is None
    reason = too_few(n_streams - 1, n_methods)
    assert reason is not None and f"at least {n_streams} independent data sets" in reason
    best_first = np.arange(n_methods, 0, -1.0) + 0.01 * np.arange(n_streams)[:, None] * np.arange(n_methods)
    names = [f"method {k}" for k in range(n_methods)]
    assert (rank_methods(best_first, names).p_values[np.triu_indices(n_methods, 1)] < 0.05).all()
    with pytest.raises(BadInput, match="independent data sets"):
        rank_methods(best_first[1:], names)


@pytest.mark.parametrize("seed", range(5))
def test_ranks_and_tests_agree_with_scipy_and_scikit_posthocs(seed: int) -> None:
    draw = np.random.default_rng(seed)
    values = draw.random((12, 5)) + np.linspace(0, 0.8, 5)
    found = rank_methods(values, list("abcde"))
    assert found.friedman_p == pytest.approx(stats.friedmanchisquare(*values.T).pvalue)
    order = ["abcde".index(name) for name in found.names]
    mean_ranks = stats.rankdata(-values, axis=1).mean(axis=0)[order]
    assert found.ranks == pytest.approx(mean_ranks) and list(found.ranks) == sorted(found.ranks)
    oracle = scikit_posthocs.posthoc_wilcoxon(values[:, order].T, p_adjust="holm")
    assert found.p_values == pytest.approx(oracle.to_numpy())
    higher = rank_methods(-values, list("abcde"), higher_is_better=False)
    assert (higher.names, higher.ranks) == (found.names, found.ranks)


def test_the_nemenyi_distance_has_demsars_constants() -> None:
    for k, q in {3: 2.344, 4: 2.569, 5: 2.728, 6: 2.850, 8: 3.031, 10: 3.164}.items():
        assert nemenyi_critical_difference(k, 12) == pytest.approx(q * math.sqrt(k * (k + 1) / 72), rel=5e-4)


@pytest.mark.parametrize("seed", range(20))
def test_bars_are_the_largest_groups_without_a_separated_pair(seed: int) -> None:
    draw = np.random.default_rng(seed)
    k = 6
    found = rank_methods(draw.normal(size=(12, k)) + np.linspace(0, 3, k), [str(m) for m in range(k)])
    alike = (found.p_values >= 0.05) | (found.friedman_p >= 0.05)
    whole = [s for n in range(2, k + 1) for s in combinations(range(k), n) if alike[np.ix_(s, s)].all()]
    largest = sorted(s for s in whole if not any(set(s) < set(t) for t in whole))
    assert list(found.groups) == largest


def test_where_friedman_finds_nothing_all_methods_are_under_one_bar() -> None:
    values = np.arange(10)[:, None] + np.array([0.1, 0.0, 0.0])  # the first always beats the second
    values[:, 2] += np.where(np.arange(10) % 2, 5, -5)  # the third now all, now none
    found = rank_methods(values, ["a", "b", "c"])
    assert found.p_values[0, found.names.index("b")] < 0.05 < found.friedman_p
    assert found.groups == ((0, 1, 2),) and "none of the 3 methods is separated" in found.in_words()


def test_equal_methods_are_not_separated_and_others_are_said_to_be() -> None:
    base = np.arange(9.0)
    found = rank_methods(np.column_stack([base, base, base - 1]), ["same", "same too", "worse"])
    assert list(found.ranks) == [1.5, 1.5, 3] and found.groups == ((0, 1),)
    assert "2 of 3 pairs are separated" in found.in_words() and "each other: same, same too" in found.in_words()
    assert rank_methods(np.ones((9, 3)), list("abc")).friedman_p == 1


def test_scores_that_are_missing_or_have_no_name_are_refused() -> None:
    values = np.random.default_rng(1).random((10, 3))
    with pytest.raises(BadInput, match="a name for each method"):
        rank_methods(values, ["a", "b"])
    with pytest.raises(BadInput, match="a name for each method"):
        rank_methods(values, ["a", "b", "a"])
    values[0, 0] = math.nan
    with pytest.raises(BadInput, match="without a score on some stream"):
        rank_methods(values, list("abc"))
    assert "at least 2 methods" in str(too_few(20, 1))
