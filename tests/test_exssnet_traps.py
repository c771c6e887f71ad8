"""What published code gets wrong is found: weights not put back, carried optimisers, one rate, another start."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from clbench.masks import maskable
from clbench.models import ReducedResNet18
from clbench.strategies.exssnet import ExSSNeT
from clbench.strategies.ssnet import SSNeT
from clbench.strategy import Trainer
from clbench.stream import Batch, TaskView
from tests.toy_exssnet import ADAM, DECAY, MOMENTUM, assert_only_unused_weights_move, exssnet, weights_of
from tests.toy_packers import assert_nothing_old_changes, trained


class Unrestored(ExSSNeT):
    """Clears the gradients of what is frozen, but does not put it back."""

    def after_backward(self, batch: Batch) -> None:
        for parameter, free, _ in self._held.entries:
            assert parameter.grad is not None
            parameter.grad.mul_(free)

    def after_step(self, batch: Batch) -> None:
        pass


@dataclass(frozen=True, kw_only=True)
class Carried(Trainer):
    """Carries the optimiser of the weights from task to task."""

    def make(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        if self.lr != 0.001:
            return super().make(parameters)
        if not OPTIMISERS:
            OPTIMISERS.append(super().make(parameters))
        return OPTIMISERS[0]


OPTIMISERS: list[torch.optim.Optimizer] = []


class Mismatched(ExSSNeT):
    """Begins a task with the weights of an earlier epoch than the one that was evaluated."""

    def after_step(self, batch: Batch) -> None:
        super().after_step(batch)
        if batch.last and batch.epoch == 1:
            self._best = weights_of(self)

    @torch.no_grad()
    def before_task(self, task: TaskView) -> None:
        super().before_task(task)
        for name, weight in getattr(self, "_best", {}).items():
            maskable(self.model_)[name].copy_(weight)


class SharedStatistics(ExSSNeT):
    """Normalises all tasks by the same statistics."""

    def before_task(self, task: TaskView) -> None:
        super().before_task(task)
        self.own_.parts[self.label_] = {}


def test_clearing_gradients_is_enough_only_without_decay_and_with_a_new_optimiser() -> None:
    assert_nothing_old_changes(exssnet(Unrestored))
    for trainer in (DECAY, MOMENTUM):
        with pytest.raises(AssertionError, match="old logits moved"):
            assert_nothing_old_changes(exssnet(Unrestored, trainer=trainer))
        with pytest.raises(AssertionError, match="may train"):
            assert_only_unused_weights_move(exssnet(Unrestored, trainer=trainer))
    OPTIMISERS.clear()
    with pytest.raises(AssertionError, match="old logits moved"):
        assert_nothing_old_changes(exssnet(Unrestored, trainer=Carried(epochs=3, optimizer="adam", momentum=0.0)))


def test_a_task_that_begins_with_another_state_than_was_evaluated_is_found() -> None:
    with pytest.raises(AssertionError, match="old logits moved"):
        assert_nothing_old_changes(exssnet(Mismatched))


def test_shared_statistics_are_found() -> None:
    strategy = exssnet(SharedStatistics, trainer=replace(ADAM, epochs=1), weight_epochs=1)
    with pytest.raises(AssertionError, match="old logits moved"):
        assert_nothing_old_changes(strategy, make=partial(ReducedResNet18, n_filters=2))


@dataclass(frozen=True, kw_only=True)
class Listed(Trainer):
    """Notes the rate of every optimiser."""

    def make(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        RATES.append(self.lr)
        return super().make(parameters)


RATES: list[float] = []


class OneRate(ExSSNeT):
    """Trains masks with the rate of the weights."""

    def optimise(self, task: TaskView, *args: Any, trainer: Trainer | None = None, **options: Any) -> None:
        super().optimise(task, *args, trainer=replace(trainer or self.trainer, lr=self.weight_lr), **options)


def assert_each_phase_has_its_own_rate(cls: type[SSNeT]) -> None:
    RATES.clear()
    trainer = Listed(epochs=1, optimizer="adam", lr=0.01, momentum=0.0)
    for _ in trained(exssnet(cls, trainer=trainer, weight_epochs=1, weight_lr=0.001)):
        pass
    assert RATES == [0.01, 0.001] * 3, f"optimisers had the rates {RATES}"


def test_masks_and_weights_are_trained_with_rates_of_their_own() -> None:
    assert_each_phase_has_its_own_rate(ExSSNeT)
    with pytest.raises(AssertionError, match="had the rates"):
        assert_each_phase_has_its_own_rate(OneRate)
