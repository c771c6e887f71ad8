"""One row of the score matrix: what may be asked, how ties count, what is kept, and that nothing else happens."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from clbench.cards import Scenario
from clbench.errors import BadInput
from clbench.evaluate import BATCH, credit, evaluate, make_query, no_side_effects
from clbench.loop import prepare, run
from clbench.models import MLP
from clbench.seeds import Seeds
from clbench.strategies.naive import Naive
from clbench.strategies.replay import Replay
from clbench.strategy import Strategy, Trainer
from clbench.stream import Inputs, ProtocolName, Query, TaskStream, TaskView

CPU = torch.device("cpu")
INF = float("inf")


@cache
def stream(protocol: ProtocolName = "class-incremental", n_tasks: int = 3) -> TaskStream:
    card = {"name": "test", "summary": "", "licence": "", "citation": "", "data": {"source": "digits"}}
    rule = "permutation" if protocol == "domain-incremental" else "classes"
    made = Scenario.from_card({**card, "rule": rule, "n_tasks": n_tasks, "protocol": protocol}).build(Seeds.of(0))
    return replace(made, tasks=tuple(replace(t, train=t.train.on(CPU), test=t.test.on(CPU)) for t in made.tasks))


@dataclass(kw_only=True)
class Fixed(Strategy):
    """Answers by a rule that the test gives; learns nothing."""

    rule: Any = None

    def train_task(self, task: TaskView) -> None:
        pass

    def predict(self, inputs: Inputs, query: Query) -> Tensor:
        scores: Tensor = self.rule(inputs, query)
        return scores


# --- ties


@pytest.mark.parametrize(
    ("scores", "truth", "expected"),
    [
        ([0.0, 1.0, 0.5], 1, 1.0),
        ([0.0, 1.0, 0.5], 2, 0.0),
        ([1.0, 1.0, 0.5], 0, 1 / 2),
        ([1.0, 1.0, 1.0], 2, 1 / 3),
        ([-INF, -INF, -INF], 0, 1 / 3),
        ([-INF, 0.0, -INF], 0, 0.0),
        ([-INF, 0.0, -INF], 1, 1.0),
        ([INF, INF, 0.0], 1, 1 / 2),
        ([1.0, 1.0, 0.5], 2, 0.0),
    ],
)
def test_a_tie_of_k_scores_one_kth(scores: list[float], truth: int, expected: float) -> None:
    assert credit(torch.tensor([scores]), torch.tensor([truth])).item() == pytest.approx(expected, rel=1e-7)


def test_a_strategy_that_says_never_to_everything_scores_one_over_its_candidates() -> None:
    nothing = Fixed(rule=lambda inputs, query: torch.full((len(inputs["image"]), len(query.classes)), -INF))
    row = evaluate(nothing, "class-incremental", stream().tasks, 1, CPU)
    np.testing.assert_allclose(row.accuracy, [1 / 4, 1 / 7, 1 / 10])
    np.testing.assert_allclose(row.task_masked, [1 / 4, 1 / 3, 1 / 3])
    assert np.isfinite(row.confidence).all()
    np.testing.assert_allclose(row.confidence[0], 1 / 4)


# --- what may be asked


@pytest.mark.parametrize("row", range(4))
@pytest.mark.parametrize("column", range(1, 4))
def test_every_cell_asks_what_its_protocol_allows(row: int, column: int) -> None:
    for protocol in ("class-incremental", "task-incremental", "domain-incremental"):
        tasks = stream(protocol).tasks
        query = make_query(protocol, tasks, row, column)
        if protocol == "task-incremental":
            assert (query.task_label, query.classes) == (column, tasks[column - 1].classes)
        elif protocol == "class-incremental":
            expected = sorted(c for t in tasks[: max(row, column)] for c in t.classes)
            assert (query.task_label, query.classes) == (None, tuple(expected))
        else:
            assert (query.task_label, query.classes) == (None, tuple(range(10)))
        assert query.class_names == tuple(str(c) for c in query.classes)


def test_queries_reach_predict_as_they_were_made_and_every_sample_once() -> None:
    asked: list[tuple[Query, int]] = []

    def rule(inputs: Inputs, query: Query) -> Tensor:
        asked.append((query, len(inputs["image"])))
        return torch.zeros(len(inputs["image"]), len(query.classes))

    tasks = stream("task-incremental").tasks
    evaluate(Fixed(rule=rule), "task-incremental", tasks, 2, CPU)
    assert [q for q, _ in asked] == [make_query("task-incremental", tasks, 2, j) for j in (1, 2, 3)]
    assert [n for _, n in asked] == [len(t.test) for t in tasks]
    assert max(n for _, n in asked) <= BATCH


# --- matrices


@cache
def trained(protocol: ProtocolName) -> Any:
    strategy = Replay(trainer=Trainer(epochs=3), memory=50)
    prepare(strategy, lambda spec: MLP(spec, width=32), stream(protocol), Seeds.of(0), CPU)
    return run(strategy, stream(protocol), Seeds.of(0), CPU)


def test_the_task_masked_matrix_is_the_accuracy_under_task_incremental() -> None:
    result = trained("task-incremental")
    np.testing.assert_array_equal(result.task_masked.values, result.accuracy.values)


def test_the_task_masked_matrix_is_never_below_the_accuracy_under_class_incremental() -> None:
    result = trained("class-incremental")
    assert (result.task_masked.values >= result.accuracy.values - 1e-12).all()
    assert (result.task_masked.values > result.accuracy.values).any()


def test_the_task_masked_scores_are_those_among_the_tasks_own_classes() -> None:
    """A strategy that puts the truth second to a class of another task is always right once tasks are told."""
    tasks = stream().tasks
    truth = {t.test.take(torch.arange(len(t.test)))["image"][k].numpy().tobytes(): int(t.test.labels[k])
             for t in tasks for k in range(len(t.test))}  # fmt: skip
    first = tasks[0].classes

    def rule(inputs: Inputs, query: Query) -> Tensor:
        scores = torch.zeros(len(inputs["image"]), len(query.classes))
        for k, image in enumerate(inputs["image"]):
            label = truth[image.numpy().tobytes()]
            scores[k, query.classes.index(label)] = 1.0
            if label not in first:
                scores[k, query.classes.index(first[0])] = 2.0
        return scores

    row = evaluate(Fixed(rule=rule), "class-incremental", tasks, 3, CPU)
    np.testing.assert_array_equal(row.accuracy, [1, 0, 0])
    np.testing.assert_array_equal(row.task_masked, [1, 1, 1])


@pytest.mark.parametrize("protocol", ["class-incremental", "task-incremental", "domain-incremental"])
def test_kept_predictions_give_the_accuracy_matrix_back(protocol: ProtocolName) -> None:
    result = trained(protocol)
    kept = result.kept
    hit = kept["predicted"] == kept["y"]
    again = np.stack([hit[:, kept["probe"] == j].mean(axis=1) for j in (1, 2, 3)], axis=1)
    np.testing.assert_allclose(again, result.accuracy.values, atol=1e-12)  # no ties in a trained network
    assert kept["predicted"].shape == (4, sum(len(t.test) for t in stream(protocol).tasks))


def test_kept_probabilities_are_those_of_a_softmax_over_the_candidates() -> None:
    kept = trained("class-incremental").kept
    confidence, truth, squares = kept["confidence"], kept["truth"], kept["squares"]
    hit = kept["predicted"] == kept["y"]
    assert (confidence > 0).all()
    assert (confidence <= 1 + 1e-6).all()
    assert (truth <= confidence + 1e-6).all()
    np.testing.assert_allclose(truth[hit], confidence[hit], rtol=1e-5)
    assert (squares <= confidence + 1e-6).all()  # sum p^2 <= max p
    assert (squares >= confidence**2 - 1e-6).all()
    brier = squares - 2 * truth + 1
    assert (brier >= -1e-5).all()
    assert (brier <= 2 + 1e-5).all()


def test_the_probabilities_of_known_scores_are_right() -> None:
    scores = torch.tensor([0.0, 1.0, 2.0, -INF])
    fixed = Fixed(rule=lambda inputs, query: scores.expand(len(inputs["image"]), 4))
    row = evaluate(fixed, "class-incremental", stream().tasks[:1], 1, CPU)
    p = np.exp([0.0, 1.0, 2.0]) / np.exp([0.0, 1.0, 2.0]).sum()
    np.testing.assert_allclose(row.confidence, p[2], rtol=1e-6)
    np.testing.assert_allclose(row.squares, (p**2).sum(), rtol=1e-6)
    assert set(row.predicted) == {stream().tasks[0].classes[2]}
    place = torch.searchsorted(torch.tensor(stream().tasks[0].classes), stream().tasks[0].test.labels)
    np.testing.assert_allclose(row.truth, np.append(p, 0.0)[place.numpy()], rtol=1e-6)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (lambda inputs, query: torch.zeros(3, 3), r"shape \(\d+, 4\).*got \(3, 3\)"),
        (lambda inputs, query: None, "got NoneType"),
        (lambda inputs, query: torch.full((len(inputs["image"]), 4), torch.nan), "NaN or infinity; use minus infinity"),
        (lambda inputs, query: torch.full((len(inputs["image"]), 4), torch.inf), "NaN or infinity; use minus infinity"),
    ],
)
def test_answers_of_another_shape_or_nan_are_refused(rule: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        evaluate(Fixed(rule=rule), "class-incremental", stream().tasks[:1], 1, CPU)


# --- no side effects


def test_evaluation_puts_random_states_and_training_modes_back_even_if_predict_raises() -> None:
    strategy = Naive(trainer=Trainer(epochs=1))
    prepare(strategy, lambda spec: MLP(spec, width=16), stream(), Seeds.of(0), CPU)
    strategy.model_.train()
    strategy.model_.head.eval()  # a part of it in another mode
    modes = [m.training for m in strategy.model_.modules()]

    def fail(inputs: Inputs, query: Query) -> Tensor:
        strategy.model_.eval()
        torch.rand(3), random.random(), np.random.rand(), strategy.rng_.random()  # noqa: NPY002
        assert not torch.is_grad_enabled()
        raise RuntimeError("a bug in predict")

    strategy.predict = fail  # type: ignore[method-assign]
    before = (
        torch.get_rng_state(),
        random.getstate(),
        np.random.get_state()[1].copy(),  # type: ignore[index]  # noqa: NPY002
        strategy.rng_.bit_generator.state,
    )
    with pytest.raises(RuntimeError, match="a bug in predict"):
        evaluate(strategy, "class-incremental", stream().tasks, 1, CPU)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert (np.random.get_state()[1] == before[2]).all()  # type: ignore[index]  # noqa: NPY002
    assert strategy.rng_.bit_generator.state == before[3]
    assert [m.training for m in strategy.model_.modules()] == modes
    assert torch.is_grad_enabled()


def test_no_side_effects_restores_after_a_quiet_evaluation_too() -> None:
    strategy = Replay(trainer=Trainer(epochs=1))
    prepare(strategy, lambda spec: MLP(spec, width=16), stream(), Seeds.of(0), CPU)
    strategy.model_.train()
    weights = [p.detach().clone() for p in strategy.model_.parameters()]
    draw = strategy.rng_.bit_generator.state
    evaluate(strategy, "class-incremental", stream().tasks, 0, CPU)
    assert strategy.model_.training
    assert strategy.rng_.bit_generator.state == draw
    assert all(torch.equal(a, b) for a, b in zip(weights, strategy.model_.parameters(), strict=True))
    with no_side_effects(strategy):
        first = torch.rand(1)
    with no_side_effects(strategy):
        assert torch.equal(first, torch.rand(1))
