"""Paired differences between entries, from records alone."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from clbench.comparison import Comparison, to_markdown
from clbench.errors import BadInput
from clbench.matrix import ScoreMatrix
from clbench.metrics import metric
from clbench.record import Record
from clbench.statistics import holm, p_value
from tests.toy_records import several, toy_record

ACCURACY = "average_accuracy.gem2017"
PAIR = {"title": "Replay minus naive", "of": {"strategy": "rep*"}, "against": {"strategy": "naive"}}


def noisy(strategy: str, finals: list[float]) -> list:  # type: ignore[type-arg]
    return [toy_record(strategy, seed, final) for seed, final in enumerate(finals)]


def test_differences_are_paired_by_seed_and_agree_with_scipy() -> None:
    first, second = noisy("replay", [0.61, 0.55, 0.66, 0.58]), noisy("naive", [0.33, 0.21, 0.36, 0.30])
    value = metric(ACCURACY)
    gaps = [value(a.matrix()) - value(b.matrix()) for a, b in zip(first, second, strict=True)]
    found = {d.measured: d for d in Comparison.from_config(PAIR).differences([*reversed(first), *second])}
    assert found["average accuracy"].estimate.mean == pytest.approx(np.mean(gaps), abs=1e-12)
    interval = stats.t.interval(0.95, 3, np.mean(gaps), stats.sem(gaps))
    assert found["average accuracy"].estimate.half_width == pytest.approx((interval[1] - interval[0]) / 2, abs=1e-12)
    raw = stats.ttest_rel([value(a.matrix()) for a in first], [value(b.matrix()) for b in second]).pvalue
    assert p_value(gaps) == pytest.approx(raw, rel=1e-9)
    assert found["average accuracy"].p >= raw
    assert found["average accuracy"].separated


def test_only_seeds_that_both_sides_have_count() -> None:
    (found, *_) = Comparison.from_config(PAIR).differences([*several("replay", 0.6, 5), *several("naive", 0.2, 3)])
    assert found.estimate.n == 3


def test_fewer_than_three_seeds_give_neither_interval_nor_verdict() -> None:
    rows = Comparison.from_config(PAIR).differences([*several("replay", 0.6, 2), *several("naive", 0.2, 2)])
    assert all(math.isnan(row.estimate.half_width) and math.isnan(row.p) and not row.separated for row in rows)


def test_entries_are_compared_within_a_scenario_and_a_model_only() -> None:
    elsewhere = several("naive", 0.2, scenario="other-v1")
    assert Comparison.from_config(PAIR).differences([*several("replay", 0.6), *elsewhere]) == []
    other_model = several("naive", 0.2, names={"model": "cnn"})
    assert Comparison.from_config(PAIR).differences([*several("replay", 0.6), *other_model]) == []


def test_holm_agrees_with_a_direct_computation_and_never_lowers_a_p_value() -> None:
    generator = np.random.default_rng(0)
    for _ in range(50):
        ps = generator.random(7) ** 3
        order = np.argsort(ps)
        direct = np.empty(7)
        direct[order] = np.minimum(1, np.maximum.accumulate(ps[order] * np.arange(7, 0, -1)))
        assert holm(list(ps)) == pytest.approx(direct)
        assert np.all(np.array(holm(list(ps))) >= ps)
    assert math.isnan(holm([0.01, math.nan])[1]) and holm([0.01, math.nan])[0] == 0.01


def test_the_page_says_how_many_are_separated_and_is_the_same_for_records_in_any_order() -> None:
    records = [*noisy("replay", [0.61, 0.55, 0.66]), *noisy("naive", [0.33, 0.21, 0.36])]
    asked = [Comparison.from_config(PAIR)]
    page = to_markdown("A purpose.", asked, records)
    assert page == to_markdown("A purpose.", asked, records[::-1])
    assert (
        "replay − naive" in page
        and "- average accuracy: higher in 1 (split_toy-v1, mlp, sgd, replay), lower in 0, not separated in 0 of 1"
        in page
    )


def test_rows_of_more_than_ten_seeds_are_shown_with_the_ends_of_a_bootstrap_interval() -> None:
    asked = [Comparison.from_config({**PAIR, "measured": ["average accuracy"]})]
    finals = [0.61, 0.55, 0.66] * 3 + [0.6, 0.5]
    page = to_markdown("A purpose.", asked, [*noisy("replay", finals), *noisy("naive", [0.3] * 11)])
    found = asked[0].differences([*noisy("replay", finals), *noisy("naive", [0.3] * 11)])[0].estimate
    assert f"({100 * found.low:+.1f} to {100 * found.high:+.1f}) | 11 |" in page
    assert "bootstrap interval" in page
    few = to_markdown("A purpose.", asked, [*noisy("replay", finals[:3]), *noisy("naive", [0.3] * 3)])
    assert "bootstrap" not in few and "±" in few


def test_a_comparison_by_an_unknown_label_is_refused() -> None:
    with pytest.raises(BadInput, match="got 'stratgy'"):
        Comparison.from_config({**PAIR, "of": {"stratgy": "x"}})
    with pytest.raises(BadInput, match="needs title, of and against"):
        Comparison.from_config({"of": {}})
    with pytest.raises(BadInput, match="needs title, of and against; got 'replay'"):
        Comparison.from_config("replay")  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="has title, of, against and measured; got 'measurd'"):
        Comparison.from_config({**PAIR, "measurd": ["forgetting"]})


def test_a_comparison_gives_the_figures_it_asks_for_in_its_order() -> None:
    asked = ["backward transfer", "learning accuracy", "forward transfer"]
    made = Comparison.from_config({**PAIR, "measured": asked})
    records = [*noisy("replay", [0.61, 0.55, 0.66]), *noisy("naive", [0.33, 0.21, 0.36])]
    rows = made.differences(records)
    assert [row.measured for row in rows] == asked
    value = metric("backward_transfer.gem2017")
    gaps = [value(a.matrix()) - value(b.matrix()) for a, b in zip(records[:3], records[3:], strict=True)]
    assert rows[0].estimate.mean == pytest.approx(np.mean(gaps))
    page = to_markdown("A purpose.", [made], records)
    assert [line.split(":")[0] for line in page.splitlines() if "` of the matrix `" in line] == [
        "- learning accuracy",
        "- backward transfer",
        "- forward transfer",
    ]
    assert "average accuracy" not in page


def test_without_a_wish_the_figures_are_the_usual_three() -> None:
    rows = Comparison.from_config(PAIR).differences([*several("replay", 0.6), *several("naive", 0.2)])
    assert [row.measured for row in rows] == ["average accuracy", "forgetting", "forward transfer, tasks told"]


def test_the_gain_over_learning_alone_is_read_beside_the_reference_of_the_same_trainer() -> None:
    """Strategies with trainers of their own are compared by naming the trainer; each has its own reference."""
    asked = {"of": {"strategy": "mask", "trainer": "*"}, "against": {"strategy": "naive", "trainer": "*"}}
    made = Comparison.from_config({"title": "Masks minus naive", **asked, "measured": ["forward transfer (CUBER)"]})

    def learned(strategy: str, trainer: str, learned: float, **changes: Any) -> list[Record]:
        values = np.full((4, 3), 0.1)
        np.fill_diagonal(values[1:], learned)
        return several(strategy, 0.5, matrix=ScoreMatrix(values), names={"trainer": trainer}, **changes)

    records = [*learned("mask", "supermask", 0.8), *learned("naive", "sgd", 0.7)]
    records += learned("independent", "sgd", 0.75, reference=True)
    (row,) = made.differences(records)
    assert math.isnan(row.estimate.mean)
    page = to_markdown("A purpose.", [made], records)
    assert "| — ± — | 3 | — | undefined |" in page
    assert "higher in 0, lower in 0, undefined in 1, not separated in 0 of 1" in page
    (row,) = made.differences([*records, *learned("independent", "supermask", 0.85, reference=True)])
    assert row.estimate.mean == pytest.approx((0.8 - 0.85) - (0.7 - 0.75))
    assert (row.of, row.against) == ("mask, supermask", "naive, sgd")


def test_task_inference_is_undefined_against_a_strategy_that_infers_nothing() -> None:
    made = Comparison.from_config({**PAIR, "measured": ["task inference accuracy"]})
    (row,) = made.differences([*several("replay", 0.6), *several("naive", 0.2)])
    assert math.isnan(row.estimate.mean) and not row.separated


@pytest.mark.parametrize(
    ("measured", "message"),
    [
        (["forward transfr"], "unknown figure to compare 'forward transfr'; did you mean 'forward transfer'"),
        ("forgetting", "'measured' of a comparison is a list of: average accuracy.*got 'forgetting'"),
        ([], "is a list of"),
        (3, "is a list of.*got 3"),
        (None, "is a list of"),
        ({"forgetting": 1}, "is a list of"),
        (["forgetting", "forgetting"], "is a list of"),
        ([["forgetting"]], "unknown figure to compare"),
    ],
)
def test_a_figure_that_is_not_known_is_refused(measured: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Comparison.from_config({**PAIR, "measured": measured})
