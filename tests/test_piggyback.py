"""Piggyback: the pretrained network never changes; a task is a mask on it and a classifier."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from clbench.checks.streams import fresh_stream
from clbench.errors import BadInput
from clbench.loop import train_one
from clbench.masks import maskable, unpack
from clbench.models import Pretrained
from clbench.state import state_bytes
from clbench.strategies.piggyback import Piggyback
from clbench.strategy import Trainer
from clbench.stream import Batch
from tests.toy_packers import (
    HEADS,
    ROUGH,
    SEEDS,
    accuracy,
    assert_goes_on_from_its_state,
    assert_nothing_old_changes,
    assert_refuses_other_protocols,
    backward_transfer,
    begun,
    result,
    split,
    trained,
    with_head,
)
from tests.toy_streams import CPU

FEW = Trainer(epochs=1, optimizer="adam", lr=0.001, momentum=0.0)
NEVER = -1e9  # a threshold that masks nothing


def frozen(strategy: Any) -> dict[str, Tensor]:
    """Everything of the network but the classifier: weights, biases, norms and their statistics."""
    state = strategy.model_.state_dict()
    return {k: v.clone() for k, v in state.items() if not k.startswith("head.") or k == "head.bias"}


@pytest.mark.parametrize("setting", ["convolutional", "transformer"])
@pytest.mark.parametrize("trainer", ROUGH.values(), ids=ROUGH)
def test_the_pretrained_network_is_left_untouched(setting: Any, trainer: Trainer) -> None:
    strategy, stream = Piggyback(trainer=trainer), fresh_stream("task-incremental", setting=setting)
    begun(strategy, stream, Pretrained)
    before = frozen(strategy)
    list(trained(strategy, stream, Pretrained))
    after = frozen(strategy)
    assert any("norm" in k or "running_var" in k for k in before)
    assert before.keys() == after.keys() and all(torch.equal(before[k], after[k]) for k in before)


@pytest.mark.parametrize("trainer", ROUGH.values(), ids=ROUGH)
def test_old_logits_stay_the_same_bit_by_bit(trainer: Trainer) -> None:
    assert_nothing_old_changes(Piggyback(trainer=trainer))
    stream = fresh_stream("task-incremental", setting="convolutional")
    assert_nothing_old_changes(Piggyback(trainer=trainer), stream, Pretrained)


@pytest.mark.parametrize(("kind", "mode"), HEADS)
def test_old_logits_stay_the_same_with_every_head(kind: str, mode: str) -> None:
    assert_nothing_old_changes(Piggyback(trainer=ROUGH["adam"]), split(), with_head(kind, mode))


@pytest.mark.parametrize("mode", ["sliced", "shared", "per_task"])
def test_every_task_has_a_dense_classifier_of_its_own(mode: str) -> None:
    strategy = Piggyback(trainer=FEW)
    for task in trained(strategy, make=with_head("linear", mode)):
        assert set(strategy.masks_[task]) == {"body.1.weight", "body.3.weight"}
        own = strategy.own_.of(task)["head.weight"]
        rows = strategy.own_.parts[task]["rows"]
        assert torch.equal(own[rows], strategy.model_.head.weight[rows]) and bool(own.all())
    parts = [strategy.own_.parts[task]["weight"] for task in (1, 2, 3)]
    assert not torch.equal(parts[0], parts[1]) and not torch.equal(parts[1], parts[2])


def test_a_task_begins_with_all_weights_and_drops_some() -> None:
    class Watched(Piggyback):
        def loss(self, batch: Batch) -> Tensor:
            if batch.epoch == batch.step == 1:
                kept.append(min(float((r > self.threshold).float().mean()) for r in self._real.values()))
            return super().loss(batch)

    kept: list[float] = []
    strategy = Watched()
    for task in trained(strategy):
        shapes = {name: w.shape for name, w in maskable(strategy.model_).items()}
        shares = [float(unpack(b, shapes[n]).float().mean()) for n, b in strategy.masks_[task].items()]
        assert all(0.1 < share < 1 for share in shares), shares
    assert kept == [1.0, 1.0, 1.0]


def test_the_gradient_passes_the_threshold_as_if_it_were_not_there() -> None:
    class Watched(Piggyback):
        def after_backward(self, batch: Batch) -> None:
            found = {name: real.grad.clone() for name, real in self._real.items() if real.grad is not None}
            weights = {n: (w * (self._real[n] > self.threshold)).requires_grad_() for n, w in self._weights().items()}
            logits = torch.func.functional_call(self.model_, weights, (batch.inputs,))
            gradients = torch.autograd.grad(self.cross_entropy(logits, batch.y), list(weights.values()))
            for (name, weight), gradient in zip(self._weights().items(), gradients, strict=True):
                errors.append(float((found[name] - weight * gradient).abs().max() / found[name].abs().max()))

    errors: list[float] = []
    strategy = Watched(trainer=FEW)
    train_one(strategy, begun(strategy), 1, SEEDS, CPU)
    assert len(errors) > 20 and max(errors) < 1e-5


def test_it_goes_on_from_its_state() -> None:
    assert_goes_on_from_its_state(lambda: Piggyback(trainer=FEW))


def test_a_task_costs_one_bit_a_weight_and_its_classifier() -> None:
    strategy = Piggyback(trainer=FEW)
    for task in trained(strategy):
        assert state_bytes(strategy.state_dict()["masks_"][task]) == (64 * 100 + 100 * 100) // 8
        assert state_bytes(strategy.own_.parts[task]["weight"]) == 10 * 100 * 4


def test_no_weight_would_be_used_with_a_threshold_above_the_beginning() -> None:
    with pytest.raises(BadInput, match="begin > threshold"):
        Piggyback(begin=0.005, threshold=0.01)


def test_without_task_labels_it_says_why_not() -> None:
    assert_refuses_other_protocols(Piggyback(), "which mask and classifier")


def test_masks_on_frozen_weights_beat_a_classifier_alone() -> None:
    stream = fresh_stream("task-incremental", setting="convolutional")
    masked = result(Piggyback(), stream, Pretrained)
    alone = result(replace(Piggyback(), threshold=NEVER), stream, Pretrained)
    assert backward_transfer(masked) == 0.0
    assert accuracy(masked) > accuracy(alone) + 10
