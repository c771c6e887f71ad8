"""What all methods that isolate tasks promise: through heads that grow, shared classes, decay and saved states."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from clbench.compose import compose
from clbench.evaluate import make_query
from clbench.experiment import experiment
from clbench.isolation import Held, grown, with_rows
from clbench.loop import train_one
from clbench.models import MLP, BiasFreeMLP
from clbench.state import load_state, save_state
from clbench.strategies.exssnet import ExSSNeT
from clbench.strategies.hat import HAT
from clbench.strategies.packnet import PackNet
from clbench.strategies.piggyback import Piggyback
from clbench.strategies.supsup import SupSup
from clbench.strategies.wsn import WSN
from clbench.strategy import SGDStrategy, Trainer
from clbench.stream import Inputs, ProtocolName, TaskStream, TaskView
from tests.toy_packers import (
    ROUGH,
    SEEDS,
    assert_nothing_old_changes,
    begun,
    drift,
    logits,
    permuted,
    split,
    trained,
    with_head,
)
from tests.toy_streams import CPU, build

ADAM = replace(ROUGH["adam"], epochs=1)
EXACT: dict[str, Callable[..., Any]] = {
    "supsup": partial(SupSup, density=0.3),
    "supsup with transfer": partial(SupSup, density=0.3, transfer=True),
    "exssnet": partial(ExSSNeT, density=0.3, weight_epochs=1),
    "exssnet with kkt": partial(ExSSNeT, density=0.3, weight_epochs=1, kkt="always"),
    "packnet": partial(PackNet, retrain_epochs=1),
    "wsn": partial(WSN, density=0.3),
    "piggyback": Piggyback,
}


@cache
def growing() -> TaskStream:
    """Two digits, then four, then four others: a shared head gets rows on the way."""
    return build(0, protocol="task-incremental", n_tasks=3, increments=[2, 4, 4], subset={"train": 300, "test": 200})


@cache
def overlapping(protocol: ProtocolName = "task-incremental") -> TaskStream:
    """Four digits in every task, two of them those of the task before."""
    sizes = {"train": 300, "test": 200}
    return build(0, rule="overlapping", protocol=protocol, n_tasks=5, increments=4, subset=sizes)


# --- old answers


@pytest.mark.parametrize("name", EXACT)
def test_old_logits_stay_bit_by_bit_when_a_shared_head_grows(name: str) -> None:
    make = with_head("linear", "shared")
    strategy = EXACT[name](trainer=ADAM)
    assert_nothing_old_changes(strategy, growing(), make)
    assert len(strategy.model_.head.weight) == 4


def test_more_rows_may_round_a_product_otherwise_and_with_rows_takes_them_away() -> None:
    model = BiasFreeMLP(growing().spec, head_mode="shared")
    model.head.observe((0, 1), 1)
    features = torch.randn(50, model.n_features)
    then = model.head(features)
    model.head.observe((0, 1, 2, 3), 2)
    network = with_rows(model, {}, 2)
    assert network.keys() == {"head.weight"} and network["head.weight"].shape == (2, model.n_features)
    assert torch.equal(torch.func.functional_call(model.head, {"weight": network["head.weight"]}, (features,)), then)
    assert len(with_rows(model, {}, None)["head.weight"]) == 4


@pytest.mark.parametrize(
    ("kind", "mode"), [("linear", "sliced"), ("linear", "growing"), ("cosine", "sliced"), ("random_frozen", "sliced")]
)
@pytest.mark.parametrize("name", ["supsup", "exssnet", "packnet", "wsn", "piggyback"])
def test_old_logits_stay_bit_by_bit_when_tasks_have_classes_in_common(name: str, kind: str, mode: str) -> None:
    assert_nothing_old_changes(EXACT[name](trainer=ADAM), overlapping(), with_head(kind, mode))


def test_hat_hardly_drifts_when_tasks_have_classes_in_common_or_a_shared_head_grows() -> None:
    few = Trainer(epochs=2)
    assert drift(HAT(trainer=few), overlapping(), with_head("linear", "sliced")) < 0.05
    assert drift(HAT(trainer=few), growing(), with_head("linear", "shared")) < 0.05


def test_old_embeddings_of_hat_stay_bit_by_bit_whatever_the_momentum() -> None:
    strategy, kept = HAT(trainer=Trainer(epochs=2, momentum=0.9)), dict[int, dict[str, Tensor]]()
    for task in trained(strategy):
        kept[task] = {name: e.detach().clone() for name, e in strategy.embeddings_[task].items()}
    for task, embeddings in kept.items():
        assert all(torch.equal(strategy.embeddings_[task][name], e) for name, e in embeddings.items())


# --- what is held


@pytest.mark.parametrize("name", ["supsup", "exssnet", "packnet", "wsn", "piggyback"])
def test_decay_moves_no_row_of_another_tasks_classes(name: str) -> None:
    strategy = EXACT[name](trainer=ADAM)
    stream = begun(strategy, split(), with_head("cosine", "sliced"))
    for task in stream.tasks:
        head = strategy.model_.head
        before = head.weight.detach().clone()
        train_one(strategy, stream, task.index, SEEDS, CPU)
        own = torch.isin(torch.arange(10), torch.tensor(task.classes))
        assert torch.equal(head.weight[~own], before[~own]) and not torch.equal(head.weight[own], before[own])


def test_what_is_held_is_put_back_and_what_is_free_is_not() -> None:
    free, all_free = torch.randn(3, 4), torch.randn(2)
    before, rows = free.clone(), torch.tensor([[True], [False], [True]])
    held = Held([(free, rows), (all_free, None)])
    free += 1
    all_free.zero_()
    held.put_back()
    assert torch.equal(free, torch.where(rows, before + 1, before)) and not all_free.any()


# --- transfer


def test_scores_of_transfer_begin_anew_in_rows_that_a_shared_head_has_grown() -> None:
    class Noted(SupSup):
        def new_scores(self, name: str, weight: Tensor) -> Tensor:
            scores = super().new_scores(name, weight)
            if name == "head.weight":
                begins.append(scores.detach().clone())
            return scores

    begins: list[Tensor] = []
    strategy = Noted(transfer=True, trainer=ADAM)
    steps = trained(strategy, growing(), with_head("linear", "shared"))
    next(steps)
    mean = strategy.mean_["head.weight"]
    next(steps)
    assert mean.shape == (2, 100) and begins[1].shape == strategy.mean_["head.weight"].shape == (4, 100)
    known = begins[1][:2].flatten()
    assert float(nn.functional.cosine_similarity(known, mean.flatten(), dim=0)) > 0.9999
    assert 0 < float(begins[1][2:].abs().max()) <= 0.1


def test_known_rows_come_before_fresh_ones() -> None:
    known, fresh = torch.zeros(2, 3), torch.ones(4, 3)
    assert grown(known, fresh).sum(1).tolist() == [0, 0, 3, 3] and torch.equal(grown(fresh, fresh), fresh)


class Noting(MLP):
    """Notes the mode in which its features are asked for."""

    def features(self, inputs: Any) -> Tensor:
        modes.append(self.training)
        return super().features(inputs)


modes: list[bool] = []


def test_neighbours_are_sought_in_evaluation_mode_and_training_goes_on_in_training_mode() -> None:
    class Watched(ExSSNeT):
        def sources(self, task: TaskView) -> list[int]:
            self.model_.train()
            modes.clear()
            found = super().sources(task)
            asked.append(list(modes))
            modes.clear()
            return found

    asked: list[list[bool]] = []
    strategy = Watched(kkt="best", trainer=ADAM, weight_epochs=1)
    stream = begun(strategy, permuted(2), partial(Noting, width=20, depth=1))
    for index in (1, 2):
        train_one(strategy, stream, index, SEEDS, CPU)
        assert modes and all(modes)
    assert asked[0] == [] and asked[1] and not any(asked[1])


# --- tasks that are inferred


def test_the_inferred_tasks_classes_come_first_also_where_tasks_have_classes_in_common() -> None:
    """A class that a later task has learnt too is still one of the inferred task's."""

    class InTurns(SupSup):
        def inferred_masks(self, inputs: Inputs) -> Tensor:
            return torch.arange(len(inputs["image"])) % 5 + 1

    stream, strategy = overlapping("class-incremental"), InTurns(trainer=ADAM)
    read = begun(strategy, stream, partial(BiasFreeMLP, spare=20))
    for index in range(1, 6):
        train_one(strategy, read, index, SEEDS, CPU)
    query = make_query("class-incremental", stream.tasks, 5, 1)
    x = stream.tasks[0].test.take(torch.arange(len(stream.tasks[0].test)))
    scores, inferred = strategy.answer(x, query)
    assert inferred is not None and set(inferred.tolist()) == {1, 2, 3, 4, 5}
    for task in stream.tasks:
        rows = inferred == task.index
        own = torch.isin(torch.tensor(query.classes), torch.tensor(task.classes))
        assert (scores[rows][:, own].min(1).values > scores[rows][:, ~own].max(1).values).all()
        by_its_mask = strategy.model_.scores(x, query, strategy.network(task.index))[rows][:, own]
        assert torch.equal(scores[rows][:, own].argmax(1), by_its_mask.argmax(1))


# --- saved states


@pytest.mark.parametrize("name", [*EXACT, "hat"])
def test_training_goes_on_from_a_file_bit_by_bit_while_a_shared_head_grows(name: str, tmp_path: Path) -> None:
    def new() -> Any:
        return HAT(trainer=Trainer(epochs=1)) if name == "hat" else EXACT[name](trainer=ADAM)

    stream, make = growing(), with_head("linear", "shared")
    whole, first, second = new(), new(), new()
    for _ in trained(whole, stream, make):
        pass
    steps = trained(first, stream, make)
    for index in (1, 2):
        next(steps)
        save_state(tmp_path / "state", first.state_dict())
        second = new()
        read = begun(second, stream, make)
        second.load_state_dict(load_state(tmp_path / "state"))
        train_one(second, read, index + 1, SEEDS, CPU)
    for task in (1, 2, 3):
        assert torch.equal(logits(whole, stream, task), logits(second, stream, task))


@pytest.mark.parametrize("name", ["supsup", "ssnet", "exssnet", "wsn", "packnet", "hat", "piggyback"])
def test_the_configured_trainer_is_that_of_the_class(name: str) -> None:
    strategy = experiment(compose(["scenario=labelled_digits-v1", f"strategy={name}"])).strategy
    assert isinstance(strategy, SGDStrategy)
    assert strategy.trainer == type(strategy)().trainer
