"""Means, paired comparisons and shared ranks over seeds, against scipy and by simulation."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from clbench.statistics import (
    INTERVALS,
    MAX_SEEDS_T,
    Ties,
    estimate,
    in_words,
    least_p,
    p_value,
    paired,
    sign_flip_p,
    tie_groups,
)
from clbench.statistics.paired import holm

QUICK = settings(max_examples=60, deadline=None, derandomize=True, database=None)
scores = st.floats(0, 1).map(lambda x: round(x, 3))


def by_seed(values: Any) -> dict[int, float]:
    return {seed: float(value) for seed, value in enumerate(values)}


@QUICK
@given(st.lists(scores, min_size=3, max_size=MAX_SEEDS_T))
def test_up_to_ten_seeds_the_interval_is_students(values: list[float]) -> None:
    found = estimate(values)
    assert found.method == "Student t" and found.n == len(values)
    assert found.mean == pytest.approx(np.mean(values))
    if np.ptp(values) > 0:
        expected = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
        assert (found.low, found.high) == pytest.approx(expected, abs=1e-9)
    assert found.half_width == pytest.approx(found.mean - found.low, abs=1e-12)


@QUICK
@given(st.lists(scores, min_size=1, max_size=16), st.randoms(use_true_random=False))
def test_the_order_of_seeds_changes_no_bit(values: list[float], random: Any) -> None:
    mixed = list(values)
    random.shuffle(mixed)
    assert repr(estimate(mixed)) == repr(estimate(values))
    assert repr(p_value(mixed)) == repr(p_value(values))
    assert sign_flip_p(mixed) == sign_flip_p(values)


@QUICK
@given(st.lists(scores, min_size=MAX_SEEDS_T + 1, max_size=25))
def test_above_ten_seeds_the_interval_is_a_bootstrap_that_stays_within_the_values(values: list[float]) -> None:
    found = estimate(values)
    assert found.method == "bootstrap"
    assert min(values) - 1e-12 <= found.low <= found.mean + 1e-12 and found.mean - 1e-12 <= found.high
    assert found.high <= max(values) + 1e-12


def test_the_bootstrap_interval_agrees_with_scipys_percentiles_at_its_widened_level() -> None:
    values = np.random.default_rng(3).beta(8, 2, size=11)
    found, error = estimate(values), stats.sem(values)

    def scipys(tail: float) -> list[float]:
        level = 1 - 2 * tail
        made = stats.bootstrap(
            (values,), np.mean, confidence_level=level, method="percentile", n_resamples=50_000, rng=1
        )
        return [made.confidence_interval.low, made.confidence_interval.high]

    widened = scipys(stats.norm.cdf(-math.sqrt(11 / 10) * stats.t.ppf(0.975, 10)))
    assert [found.low, found.high] == pytest.approx(widened, abs=0.06 * error)
    plain_low, plain_high = scipys(0.025)
    assert found.low < plain_low - 0.2 * error and found.high > plain_high + 0.2 * error


def test_the_interval_holds_the_mean_about_as_often_as_it_says_on_both_sides_of_the_switch() -> None:
    draw = np.random.default_rng(11)
    for n in (5, MAX_SEEDS_T, MAX_SEEDS_T + 1):
        found = [estimate(draw.normal(size=n)) for _ in range(400)]
        held = np.mean([e.low <= 0 <= e.high for e in found])
        assert 0.92 <= held <= 0.98, (n, held)  # a plain percentile bootstrap holds it in .83 of cases at n = 5


def test_another_generator_changes_the_interval_and_the_same_values_give_the_same_one() -> None:
    values = np.random.default_rng(0).random(12)
    first, second = (estimate(values, generator=np.random.default_rng(seed)) for seed in (1, 2))
    assert first != second and first.mean == second.mean
    assert first == estimate(values, generator=np.random.default_rng(1))
    before = np.random.get_state()[1].copy()  # type: ignore[index]  # noqa: NPY002 (what must not change)
    assert estimate(values) == estimate(values)
    assert (np.random.get_state()[1] == before).all()  # type: ignore[index]  # noqa: NPY002


@pytest.mark.parametrize("values", [[], [0.5], [0.5, 0.6]])
def test_fewer_than_three_seeds_have_no_interval(values: list[float]) -> None:
    found = estimate(values)
    assert math.isnan(found.low) and math.isnan(found.high) and math.isnan(found.half_width)
    assert (found.n, found.method) == (len(values), "none")


@pytest.mark.parametrize("n", [4, 12])
def test_a_missing_value_is_not_left_out(n: int) -> None:
    found = estimate([math.nan] + [0.5] * (n - 1))
    assert math.isnan(found.mean) and math.isnan(found.low) and found.n == n
    assert math.isnan(p_value([math.nan, 0.1, 0.2])) and math.isnan(sign_flip_p([math.nan, 0.1, 0.2]))


def test_statistics_write_into_nothing_they_are_given() -> None:
    given_values = np.array([0.9, 0.1, 0.5] * 5)
    given_values.flags.writeable = False
    estimate(given_values)
    first, second = by_seed([0.3, 0.2, 0.4]), by_seed([0.1, 0.3, 0.2])
    paired(first, second)
    tie_groups([first, second])
    assert first == by_seed([0.3, 0.2, 0.4]) and second == by_seed([0.1, 0.3, 0.2])


def test_the_page_says_why_the_interval_changes_above_ten_seeds() -> None:
    assert "3 to 10 seeds" in INTERVALS and "bootstrap" in INTERVALS and "fewer than 3 seeds" in INTERVALS


@QUICK
@given(st.lists(st.tuples(scores, scores), min_size=3, max_size=8))
def test_a_paired_comparison_agrees_with_scipy(pairs: list[tuple[float, float]]) -> None:
    x, y = (np.array(side) for side in zip(*pairs, strict=True))
    found = paired(by_seed(x), by_seed(y))
    gaps = x - y
    assert found.difference.mean == pytest.approx(gaps.mean())
    assert found.positive == pytest.approx(np.mean(gaps > 1e-12))
    u = stats.mannwhitneyu(x, y).statistic
    assert found.improvement == pytest.approx(u / len(x) ** 2)
    if np.ptp(gaps) > 1e-9:
        assert found.p == pytest.approx(stats.ttest_rel(x, y).pvalue, rel=1e-6, abs=1e-12)
    sums = [abs(np.dot(signs, gaps)) for signs in product((1, -1), repeat=len(gaps))]
    assert found.sign_flip_p == pytest.approx(np.mean(np.array(sums) >= abs(gaps.sum()) - 1e-9))
    assert found.sign_flip_p >= found.least_p


def test_the_sign_flip_test_agrees_with_scipys_permutation_test() -> None:
    draw = np.random.default_rng(5)
    for n in (3, 6, 9):
        gaps = draw.normal(0.4, size=n)
        oracle = stats.permutation_test((gaps,), np.mean, permutation_type="samples", n_resamples=np.inf)
        assert sign_flip_p(gaps) == pytest.approx(oracle.pvalue)


@pytest.mark.parametrize(("n", "p"), [(3, 0.25), (5, 0.0625), (6, 0.03125)])
def test_the_smallest_p_is_reached_where_all_seeds_agree(n: int, p: float) -> None:
    gaps = [0.1 + 0.01 * k for k in range(n)]
    assert sign_flip_p(gaps) == least_p(n) == p
    assert stats.wilcoxon(gaps).pvalue == pytest.approx(p)


def test_above_sixteen_seeds_the_exact_test_is_left_to_the_t_test() -> None:
    assert math.isnan(sign_flip_p([0.1] * 17)) and sign_flip_p([0.1] * 16) == 2**-15


def test_which_one_is_better_follows_the_direction_and_ties_count_one_half() -> None:
    first, second = by_seed([0.1, 0.2, 0.3, 0.4]), by_seed([0.3, 0.4, 0.5, 0.4])
    higher, lower = paired(first, second), paired(first, second, higher_is_better=False)
    assert (higher.better, lower.better) == (0.125, 0.875)
    assert higher.improvement + lower.improvement == pytest.approx(1)
    assert higher.positive == lower.positive == 0
    wins = stats.binomtest(3, 4).proportion_ci(0.95, method="exact")
    assert lower.better_low == pytest.approx(wins.low) and lower.better_high == 1  # a tie may be a win or none


def test_only_seeds_that_both_have_are_paired() -> None:
    found = paired({0: 0.5, 1: 0.6, 2: 0.7, 9: 0.0}, {2: 0.2, 1: 0.2, 0: 0.2, 5: 1.0})
    assert found.seeds == (0, 1, 2) and found.difference.mean == pytest.approx(0.4)
    nothing = paired({0: 0.5}, {1: 0.5})
    assert nothing.difference.n == 0 and math.isnan(nothing.better) and math.isnan(nothing.improvement)


def test_pairing_finds_what_an_unpaired_test_does_not() -> None:
    seeds = np.array([0.2, 0.4, 0.6, 0.8])  # hard and easy streams
    first, second = seeds + 0.05 + np.array([0, 0.001, 0, -0.001]), seeds
    assert paired(by_seed(first), by_seed(second)).p < 0.001 < 0.5 < stats.ttest_ind(first, second).pvalue


def entries(*means: float, spread: float = 0.01, n: int = 5) -> list[dict[int, float]]:
    noise = np.random.default_rng(1).normal(size=(len(means), n)) * spread
    return [by_seed(mean + row) for mean, row in zip(means, noise, strict=True)]


def test_neighbours_that_the_seeds_separate_have_ranks_of_their_own() -> None:
    assert tie_groups(entries(0.9, 0.7, 0.5)).ranks == (1, 2, 3)


def test_neighbours_that_they_do_not_separate_share_a_rank_and_the_next_counts_all_above() -> None:
    assert tie_groups(entries(0.9, 0.8995, 0.5, 0.4995, 0.4992, 0.1)).ranks == (1, 1, 3, 3, 3, 6)


def test_lower_scores_are_better_where_the_figure_says_so() -> None:
    assert tie_groups(entries(0.1, 0.5), higher_is_better=False).ranks == (1, 2)
    assert tie_groups(entries(0.1, 0.5)).ranks == (1, 1)  # not sorted best first: no rank is given away


def test_ties_are_corrected_over_the_neighbours_of_the_table() -> None:
    pair = [by_seed([0.61, 0.72, 0.53, 0.92]), by_seed([0.60, 0.70, 0.50, 0.90])]
    alone = tie_groups(pair)
    assert alone.ranks == (1, 2) and 0.01 < alone.p_values[0] < 0.05
    many = tie_groups([*pair, *([pair[1]] * 8)])
    assert many.ranks[:2] == (1, 1)


@pytest.mark.parametrize(
    ("table", "ranks"),
    [
        ([], ()),
        ([by_seed([0.5, 0.6, 0.7])], (1,)),
        ([by_seed([0.5, 0.6, 0.7])] * 2, (1, 1)),  # equal
        ([by_seed([0.6, 0.7, 0.8]), by_seed([0.5, 0.6, 0.7])], (1, 2)),  # the same difference on every seed
        ([by_seed([0.9, 0.9]), by_seed([0.1, 0.1])], (1, 1)),  # two seeds separate nothing
        ([{0: 0.9, 1: 0.9, 2: 0.9}, {3: 0.1, 4: 0.1, 5: 0.1}], (1, 1)),  # no seed in common
        ([by_seed([0.9, 0.9, math.nan]), by_seed([0.1, 0.2, 0.1])], (1, 1)),
    ],
)
def test_ranks_of_corner_cases(table: list[dict[int, float]], ranks: tuple[int, ...]) -> None:
    assert tie_groups(table).ranks == ranks


def test_a_chain_of_near_neighbours_shares_a_rank_but_its_end_is_not_level_with_the_first() -> None:
    noise = [0.0, 0.02, -0.02, 0.01, -0.01]
    table = [{seed: 0.9 - 0.012 * k + noise[(seed + k) % 5] for seed in range(5)} for k in range(6)]
    found = tie_groups(table)
    assert found.ranks == (1,) * 6
    assert found.best[0] and not found.best[-1]
    p = [paired(table[0], other).p for other in table[1:]]
    assert list(found.best[1:]) == [value >= 0.05 for value in holm(p)]
    lower = tie_groups([{seed: -v for seed, v in row.items()} for row in table], higher_is_better=False)
    assert lower.best == found.best


@QUICK
@given(st.lists(st.lists(scores, min_size=4, max_size=4), min_size=1, max_size=6), st.permutations(range(4)))
def test_ranks_start_at_one_never_fall_and_do_not_depend_on_the_order_of_seeds(
    table: list[list[float]], order: list[int]
) -> None:
    ordered = sorted(table, key=lambda row: -sum(row))
    found = tie_groups([by_seed(row) for row in ordered])
    assert found.ranks[0] == 1
    for k, (above, below) in enumerate(zip(found.ranks, found.ranks[1:], strict=False)):
        assert below in (above, k + 2)
    assert tie_groups([by_seed([row[k] for k in order]) for row in ordered]) == found or any(
        map(math.isnan, found.p_values)
    )


def test_the_words_name_what_is_separated_and_what_is_not() -> None:
    said = in_words(["A", "B", "C"], tie_groups(entries(0.9, 0.8995, 0.5)))
    assert said.startswith("Rank 1 is shared by 2 without a step between neighbours (A, B); rank 3: C.")
    assert "B from C (p < 0.001)" in said
    assert "all share rank 1" in in_words(["A", "B"], tie_groups(entries(0.9, 0.8995)))
    assert "fewer than 3 seeds in common" in in_words(["A", "B"], tie_groups(entries(0.9, 0.1, n=2)))
    assert (
        in_words([], Ties((), ())) == "No entry is ranked." and in_words(["A"], Ties((1,), ())) == "Only A is ranked."
    )
