"""Ids of metrics: parameters, logarithms, prefixes, and what is said of those that are none."""

from __future__ import annotations

import importlib
import itertools
import math

import numpy as np
import pytest

from clbench.errors import BadInput
from clbench.matrix import ScoreMatrix
from clbench.metrics import METRICS, metric
from clbench.metrics.calibration import brier_score, expected_calibration_error, negative_log_likelihood
from clbench.metrics.knowledge import changes_by_distance

PERPLEXITIES = ScoreMatrix(
    np.array([[100.0, 100.0], [20.0, 50.0], [40.0, 25.0]]), higher_is_better=False, bounds=(1, math.inf)
)


def test_an_id_says_its_parameter_and_another_value_is_another_metric() -> None:
    narrow = metric("windowed_forgetting.delange2023[w=2]")
    assert narrow.id == "windowed_forgetting.delange2023[w=2]" and narrow.parameters == {"w": 2}
    curves = np.array([[0.75, 0.5, 0.25]])
    assert narrow.of(curves=curves) == 0.25
    assert METRICS["windowed_forgetting.delange2023[w=10]"].of(curves=curves) == 0.5


def test_title_and_formula_say_every_part_of_an_id() -> None:
    narrow = metric("windowed_forgetting.delange2023[w=3]")
    assert narrow.title == "largest drop within 3 evaluations" and "w = 3 consecutive" in narrow.formula
    for known in METRICS.values():
        for name, old in known.parameters.items():
            other = metric(known.id.replace(f"{name}={old}", f"{name}=77"))
            for text in (other.title, other.formula):
                assert "77" in text and f"{name} = {old}" not in text, text
    first = metric("average_accuracy.gem2017[log]@2")
    assert first.title == "average accuracy, of log scores, first 2 tasks"
    assert first.formula.startswith("of the first 2 tasks: of the logarithms of the scores: ")
    undone = metric("average_accuracy.gem2017[log]/exp")
    assert undone.title == "average accuracy, of log scores, exponential" and undone.formula.startswith("exp of that")


def test_the_first_tasks_of_a_stream_in_another_order_have_no_value() -> None:
    r, first = np.random.default_rng(0).random((4, 3)), metric("performance_maintenance.l2m_mrlep@2")
    assert math.isnan(first.of(R=r, train_order=[1, 3, 2]))
    assert first.of(R=r, train_order=[1, 2, 3]) == first.of(R=r) == pytest.approx(r[2, 0] - r[1, 0])


def test_terms_before_averaging_are_found_where_the_message_says() -> None:
    for id in ("transfer.mtil2023", "windowed_forgetting.delange2023[w=2]", "sample_efficiency.l2m"):
        with pytest.raises(BadInput, match="the terms of") as error:
            metric(f"{id}/tasks")
        module, _, function = str(error.value).split("what ")[1].split(" ")[0].rpartition(".")
        assert callable(getattr(importlib.import_module(module), function))


def test_five_evaluations_of_continual_world_are_of_one_task() -> None:
    curves = np.zeros((3, 12))
    curves[0], curves[1, 5:] = 1, 1
    forgetting = metric("forgetting.cw2021")
    assert math.isnan(forgetting.of(curves=curves, ends=np.array([4, 6, 11]))), "task 2 has two evaluations"
    assert math.isnan(forgetting.of(curves=curves, ends=np.array([4, 9, 11]))), "the last task has two"
    longer = np.hstack([curves, curves[:, -3:]])
    assert forgetting.of(curves=longer, ends=np.array([4, 9, 14])) == 0.0


def test_logarithms_are_taken_of_the_scores_and_undone_at_the_end() -> None:
    lost = metric("forgetting.rwalk2018[log]")(PERPLEXITIES)
    assert lost == pytest.approx(math.log(2))
    assert metric("forgetting.rwalk2018[log]/exp")(PERPLEXITIES) == pytest.approx(2)
    assert metric("average_accuracy.gem2017[log]/exp")(PERPLEXITIES) == pytest.approx(math.sqrt(1000))
    assert metric("forgetting.rwalk2018[log]@1")(PERPLEXITIES) == pytest.approx(math.nan, nan_ok=True)
    assert math.isnan(metric("average_accuracy.gem2017[log]").of(R=np.zeros((2, 1)))), "there is no logarithm of zero"


@pytest.mark.parametrize(
    ("id", "words"),
    [
        ("forgeting.rwalk2018", "did you mean 'forgetting.rwalk2018'"),
        ("forgetting.rwalk2018[w=3]", "did you mean 'forgetting.rwalk2018'"),
        ("windowed_forgetting.delange2023", r"did you mean 'windowed_forgetting.delange2023\[w=10\]'"),
        ("windowed_forgetting.delange2023[10]", "name=value"),
        ("windowed_forgetting.delange2023[w=3,w=4]", "each parameter once"),
        ("windowed_forgetting.delange2023[w=-1]", "whole number w >= 1"),
        ("windowed_forgetting.delange2023[w=2.5]", "whole number w >= 1"),
        ("anytime_accuracy.caccia2022[period=0]", "whole number period >= 1"),
        ("learning_curve_area.agem2019[beta=-3]", "whole number beta >= 0"),
        ("learning_curve_area.agem2019_code[beta=0]", "whole number beta >= 1"),
        ("bwt", "did you mean 'backward_transfer.gem2017'"),
        ("FWT", "did you mean 'forward_transfer.gem2017'"),
        ("acc", "did you mean 'average_accuracy.gem2017'"),
        ("aia", "did you mean 'average_incremental_accuracy.icarl2017_macro'"),
        ("delange", "hold the word, e.g. min_accuracy.delange2023, "),
        ("zzz", "see: clbench list metrics"),
        ("windowed_forgetting.delange2023[w=ten]", r"as in 'windowed_forgetting.delange2023\[w=10\]'"),
        ("windowed_forgetting.delange2023[w=2]@3", "first k"),
        ("windowed_forgetting.delange2023[w=2,log]", "score matrix"),
        ("forgetting.rwalk2018@0", "first k"),
        ("forgetting.rwalk2018/exp", r"\[log\]/exp"),
        ("forgetting.rwalk2018/tasks", "unknown metric"),
        ("", "unknown metric"),
    ],
)
def test_an_id_that_is_none_is_met_with_what_was_expected(id: str, words: str) -> None:
    with pytest.raises(BadInput, match=words) as error:
        metric(id)
    assert len(str(error.value)) < 500, "not all ids on one line"


def test_every_formula_source_and_difference_is_text_without_loose_ends() -> None:
    for m in METRICS.values():
        for text in (m.title, m.formula, m.source, m.differs):
            assert text == text.strip() and not text.endswith((".", ";", ",")) and "  " not in text, m.id
        assert m.formula.count("(") == m.formula.count(")"), m.id


def test_calibration_of_predictions_is_that_of_scikit_learn_and_of_bins_by_hand() -> None:
    from sklearn.metrics import brier_score_loss, log_loss

    generator = np.random.default_rng(0)
    scores = generator.dirichlet(np.ones(5), size=400)
    y = generator.integers(0, 5, 400)
    truth, squares = scores[np.arange(400), y], (scores**2).sum(axis=1)
    confidence, correct = scores.max(axis=1), scores.argmax(axis=1) == y
    assert negative_log_likelihood(truth) == pytest.approx(log_loss(y, scores, labels=range(5)))
    wanted = brier_score_loss(y, scores, labels=range(5), scale_by_half=False)
    assert brier_score(truth, squares) == pytest.approx(wanted)
    edges = np.linspace(0, 1, 16)
    inside = [(confidence > low) & (confidence <= high) for low, high in itertools.pairwise(edges)]
    gaps = [abs(correct[b].mean() - confidence[b].mean()) * b.mean() for b in inside if b.any()]
    assert expected_calibration_error(confidence, correct) == pytest.approx(sum(gaps))


def test_calibration_of_nothing_or_of_what_is_missing_is_nan_and_of_certainty_exact() -> None:
    assert all(map(math.isnan, (expected_calibration_error([], []), negative_log_likelihood([]), brier_score([], []))))
    assert math.isnan(expected_calibration_error([0.5, math.nan], [1, 0]))
    assert expected_calibration_error([1.0, 1.0, 0.0], [1, 1, 0]) == 0.0
    assert negative_log_likelihood([1.0, 0.0]) == math.inf


def test_perplexities_are_laid_out_over_the_distance_between_training_and_test() -> None:
    r = PERPLEXITIES.values
    assert changes_by_distance(r) == {-1: -50.0, 0: -77.5, 1: -60.0}
