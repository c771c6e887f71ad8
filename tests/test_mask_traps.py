"""The ways in which isolation is lost or only claimed, planted: each is caught by what the real methods pass."""

from __future__ import annotations

import types
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from gc import get_referents
from typing import Any

import pytest
import torch
from torch import Tensor

from clbench.evaluate import credit
from clbench.loop import train_one
from clbench.masks import maskable, pack, top_share
from clbench.models import ReducedResNet18
from clbench.strategies.exssnet import ExSSNeT
from clbench.strategies.hat import HAT
from clbench.strategies.packnet import PackNet
from clbench.strategies.piggyback import Piggyback
from clbench.strategies.supsup import SupSup
from clbench.strategies.wsn import WSN
from clbench.strategy import Trainer
from clbench.stream import Batch, Split, TaskView
from tests.toy_packers import (
    ROUGH,
    SEEDS,
    assert_nothing_old_changes,
    backward_transfer,
    begun,
    drift,
    logits,
    permuted,
    result,
    split,
    trained,
)
from tests.toy_streams import CPU

PLAIN = Trainer(epochs=2, momentum=0.0)
DECAY = Trainer(epochs=2, momentum=0.0, weight_decay=1e-2)
ADAM = Trainer(epochs=2, optimizer="adam", lr=0.005, momentum=0.0)
small_resnet = partial(ReducedResNet18, n_filters=2)


@dataclass(frozen=True, kw_only=True)
class Carried(Trainer):
    """A trainer that hands out the same optimiser every time, with all it remembers."""

    @cached_property
    def _kept(self) -> list[torch.optim.Optimizer]:
        return []

    def make(self, parameters: Any) -> torch.optim.Optimizer:
        if not self._kept:
            self._kept.append(super().make(parameters))
        return self._kept[0]


class MasksGradientsOnly(PackNet):
    """Takes the gradient of frozen weights away, and does not put them back after the step."""

    def after_backward(self, batch: Batch) -> None:
        for name, weight in maskable(self.model_).items():
            assert weight.grad is not None
            weight.grad[self.owners_[name] != self.label_] = 0.0

    def after_step(self, batch: Batch) -> None:
        pass


class SharedStatistics(PackNet):
    """Gathers and uses one set of batch-norm statistics for all tasks."""

    def _of(self, label: int) -> dict[str, Tensor]:
        return {name: value for name, value in super()._of(label).items() if name.endswith("weight")}


class LastBatchMask(WSN):
    """Stores the mask that the last batch was trained with, beside the weights after its step."""

    def loss(self, batch: Batch) -> Tensor:
        self._last = {name: pack(top_share(scores, self.density)) for name, scores in self.scores_.items()}
        return super().loss(batch)

    def after_task(self, task: TaskView) -> None:
        super().after_task(task)
        self.masks_[self.label_] = self._last


class BestCheckpoint(WSN):
    """Is evaluated as the last epoch has left it, and begins the next task from an earlier one."""

    best: dict[str, Tensor]

    def before_task(self, task: TaskView) -> None:
        if self.label_ > 1:
            self.model_.load_state_dict(self.best)
        super().before_task(task)

    def after_step(self, batch: Batch) -> None:
        super().after_step(batch)
        if batch.last and batch.epoch == 1:
            self.best = {name: value.clone() for name, value in self.model_.state_dict().items()}


class AnyTrainerHAT(HAT):
    """HAT that takes any trainer."""

    def __post_init__(self) -> None:
        pass


def assert_the_stored_mask_is_that_of_the_final_scores(strategy: WSN) -> None:
    for task in trained(strategy):
        for name, scores in strategy.scores_.items():
            stored, wanted = strategy.masks_[task][name], pack(top_share(scores, strategy.density))
            assert torch.equal(stored, wanted), f"the mask of {name} is not that of the scores"


def caught(check: Any, *given: Any) -> str:
    with pytest.raises(AssertionError) as error:
        check(*given)
    return str(error.value)


def test_weight_decay_moves_frozen_weights_that_are_not_put_back() -> None:
    assert_nothing_old_changes(MasksGradientsOnly(trainer=PLAIN, retrain_epochs=1))
    assert "moved by up to" in caught(assert_nothing_old_changes, MasksGradientsOnly(trainer=DECAY, retrain_epochs=1))
    assert_nothing_old_changes(PackNet(trainer=DECAY, retrain_epochs=1))


@pytest.mark.parametrize("options", [{"momentum": 0.9}, {"optimizer": "adam", "lr": 0.005, "momentum": 0.0}])
def test_an_optimiser_that_goes_on_from_task_to_task_moves_frozen_weights(options: Any) -> None:
    def carried() -> Trainer:
        return Carried(epochs=2, **options)

    fresh = Trainer(epochs=2, **options)
    assert_nothing_old_changes(MasksGradientsOnly(trainer=fresh, retrain_epochs=1))
    planted = MasksGradientsOnly(trainer=carried(), retrain_epochs=0)
    assert "moved by up to" in caught(assert_nothing_old_changes, planted)
    assert_nothing_old_changes(PackNet(trainer=carried(), retrain_epochs=0))  # put back, whatever the optimiser does


def test_shared_batch_norm_statistics_change_old_answers() -> None:
    few = Trainer(epochs=2)
    planted, real = (cls(trainer=few, retrain_epochs=1) for cls in (SharedStatistics, PackNet))
    assert "moved by up to" in caught(assert_nothing_old_changes, planted, split(), small_resnet)
    assert_nothing_old_changes(real, split(), small_resnet)


def test_a_mask_of_the_last_batch_is_not_the_one_of_the_scores() -> None:
    check = assert_the_stored_mask_is_that_of_the_final_scores
    assert "is not that of the scores" in caught(check, LastBatchMask(trainer=ADAM))
    check(WSN(trainer=ADAM))


def test_a_next_task_from_another_checkpoint_than_the_evaluated_one_changes_old_answers() -> None:
    assert "moved by up to" in caught(assert_nothing_old_changes, BestCheckpoint(trainer=ADAM))
    assert_nothing_old_changes(WSN(trainer=ADAM))


def test_weight_decay_would_undo_hat() -> None:
    assert drift(AnyTrainerHAT(trainer=Trainer(weight_decay=1e-2))) > 0.5
    assert drift(AnyTrainerHAT(trainer=Trainer())) < 0.05


def test_no_strategy_can_copy_a_row_of_accuracies_because_the_harness_asks_again() -> None:
    planted = MasksGradientsOnly(trainer=ROUGH["adam"], retrain_epochs=1)
    stream, answered = permuted(), []
    for done in trained(planted, stream):
        row = []
        for task in stream.tasks[:done]:
            truth = torch.searchsorted(torch.tensor(task.classes), task.test.labels)
            row.append(float(credit(logits(planted, stream, task.index), truth).mean()))
        answered.append(row)
    again = MasksGradientsOnly(trainer=ROUGH["adam"], retrain_epochs=1)
    outcome = result(again, stream)
    for done, row in enumerate(answered, start=1):
        assert outcome.accuracy.values[done, :done].tolist() == pytest.approx(row)
    assert backward_transfer(outcome) < -1
    assert backward_transfer(result(PackNet(trainer=ROUGH["adam"], retrain_epochs=1))) == 0.0


def within(*begin: Any) -> Iterator[Any]:
    """All objects that can be reached from these through attributes, containers and closures."""
    found, todo = {id(thing) for thing in begin}, list(begin)
    while todo:
        thing = todo.pop()
        yield thing
        if isinstance(thing, (type, types.ModuleType, types.FrameType)):
            continue
        if isinstance(thing, types.FunctionType):  # not its module's globals
            following = [thing.__closure__, thing.__defaults__, thing.__kwdefaults__, vars(thing)]
        else:
            following = get_referents(thing)
        for each in following:
            if id(each) not in found:
                found.add(id(each))
                todo.append(each)


@pytest.mark.parametrize("cls", [PackNet, WSN, HAT, Piggyback, SupSup, ExSSNeT])
def test_no_choice_can_be_made_on_test_data_because_none_can_be_reached(cls: Any) -> None:
    def observe(self: Any, task: TaskView) -> None:
        cls.observe(self, task)
        splits.append([thing for thing in within(self, task) if isinstance(thing, Split)])

    splits: list[list[Split]] = []
    options = {"kkt": "best"} if cls is ExSSNeT else {}
    strategy = type("Searching", (cls,), {"observe": observe})(**options)
    stream = begun(strategy)
    for index in (1, 2):
        train_one(strategy, stream, index, SEEDS, CPU)
    for found, task in zip(splits, stream.tasks, strict=False):
        assert len(found) == 1 and found[0].index.tolist() == task.train.index.tolist()
        assert not set(found[0].index.tolist()) & set(task.test.index.tolist())
    probe = [thing for thing in within(stream) if isinstance(thing, Split)]
    assert any(thing is stream.tasks[0].test for thing in probe), "the search would have found a test half"
