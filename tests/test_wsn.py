"""WSN: weights and a mask learnt together, on one set of scores."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from clbench.errors import BadInput
from clbench.loop import train_one
from clbench.masks import unpack
from clbench.models import ReducedResNet18
from clbench.state import state_bytes
from clbench.strategies.wsn import WSN
from clbench.strategy import Trainer
from clbench.stream import Batch
from tests.toy_packers import (
    HEADS,
    ROUGH,
    SEEDS,
    accuracy,
    assert_frozen_entries_never_move,
    assert_goes_on_from_its_state,
    assert_nothing_old_changes,
    assert_refuses_other_protocols,
    backward_transfer,
    begun,
    naive_forgets,
    result,
    split,
    trained,
    with_head,
)
from tests.toy_streams import CPU

FEW = Trainer(epochs=1, optimizer="adam", lr=0.001, momentum=0.0)
SIZES = {"body.1.weight": (100, 64), "body.3.weight": (100, 100), "head.weight": (10, 100)}


def masks_of(strategy: WSN, task: int) -> dict[str, torch.Tensor]:
    return {name: unpack(bits, SIZES[name]) for name, bits in strategy.masks_[task].items()}


@pytest.mark.parametrize("density", [0.03, 0.1, 0.5, 1.0])
def test_every_mask_keeps_exactly_the_share_of_each_layer(density: float) -> None:
    strategy = WSN(density=density, trainer=FEW)
    for task in trained(strategy):
        for name, mask in masks_of(strategy, task).items():
            assert int(mask.sum()) == mask.numel() - int((1 - density) * mask.numel()), (task, name)


@pytest.mark.parametrize("trainer", ROUGH.values(), ids=ROUGH)
def test_no_optimiser_moves_a_weight_that_an_earlier_task_uses(trainer: Trainer) -> None:
    strategy = WSN(density=0.3, trainer=trainer)
    assert_frozen_entries_never_move(strategy, lambda task: masks_of(strategy, task))


def test_weights_that_no_task_uses_go_on_learning() -> None:
    strategy = WSN(density=0.3, trainer=FEW)
    read = begun(strategy)
    train_one(strategy, read, 1, SEEDS, CPU)
    weight = strategy.model_.get_parameter("body.1.weight")
    then, used = weight.detach().clone(), masks_of(strategy, 1)["body.1.weight"]
    train_one(strategy, read, 2, SEEDS, CPU)
    moved = weight.detach() != then
    assert not moved[used].any() and moved[~used & masks_of(strategy, 2)["body.1.weight"]].float().mean() > 0.5


@pytest.mark.parametrize("trainer", ROUGH.values(), ids=ROUGH)
@pytest.mark.parametrize("density", [0.1, 0.5])
def test_old_logits_stay_the_same_bit_by_bit(trainer: Trainer, density: float) -> None:
    assert_nothing_old_changes(WSN(density=density, trainer=trainer))


@pytest.mark.parametrize(("kind", "mode"), HEADS)
def test_old_logits_stay_the_same_with_every_head(kind: str, mode: str) -> None:
    assert_nothing_old_changes(WSN(trainer=ROUGH["adam"]), split(), with_head(kind, mode))


def test_every_task_has_its_own_batch_norm_statistics() -> None:
    strategy = WSN(trainer=ROUGH["adam"])
    assert_nothing_old_changes(strategy, split(), partial(ReducedResNet18, n_filters=2))
    means = [parts["body.1.running_mean"] for parts in strategy.own_.parts.values()]
    assert len(means) == 3 and not torch.equal(means[0], means[1])


def test_one_set_of_scores_goes_from_task_to_task() -> None:
    class Watched(WSN):
        def loss(self, batch: Batch) -> torch.Tensor:
            if batch.epoch == batch.step == 1:
                begins.append(self.scores_["body.1.weight"].detach().clone())
            return super().loss(batch)

    begins: list[torch.Tensor] = []
    strategy = Watched(trainer=FEW)
    ends = [strategy.scores_["body.1.weight"].detach().clone() for _ in trained(strategy)]
    assert torch.equal(begins[1], ends[0]) and torch.equal(begins[2], ends[1])
    assert not torch.equal(begins[0], ends[0])


def test_scores_get_the_gradient_of_the_straight_through_mask() -> None:
    class Watched(WSN):
        def after_backward(self, batch: Batch) -> None:
            scores, weight = self.scores_["body.1.weight"], self.model_.get_parameter("body.1.weight")
            assert scores.grad is not None and weight.grad is not None
            mask = weight.grad != 0  # the weight's own gradient is masked, the scores' is not
            wanted = scores.detach().sign() * weight.detach() * weight.grad
            ratios.append(float((scores.grad - wanted)[mask].abs().max() / scores.grad.abs().max()))
            outside.append(bool(scores.grad[~mask].any()))

    ratios: list[float] = []
    outside: list[bool] = []
    weights_differ = Watched(density=0.5, trainer=FEW)
    train_one(weights_differ, begun(weights_differ), 1, SEEDS, CPU)
    # weight.grad is m * G and scores.grad sign(s) * W * G, so that they agree wherever m is 1
    assert max(ratios) < 1e-6 and all(outside)


def test_it_goes_on_from_its_state() -> None:
    assert_goes_on_from_its_state(lambda: WSN(trainer=FEW))


def test_a_task_costs_one_bit_a_weight_and_its_own_rows_of_the_head() -> None:
    shared, own = WSN(trainer=FEW), WSN(trainer=FEW)
    for task in trained(shared):
        assert state_bytes(shared.state_dict()["masks_"][task]) == (64 * 100 + 100 * 100 + 100 * 10) // 8
        assert state_bytes(shared.own_.parts[task]) == 0
    for task in trained(own, make=with_head("linear", "per_task")):
        assert state_bytes(own.state_dict()["masks_"][task]) == (64 * 100 + 100 * 100) // 8
        assert state_bytes(own.own_.parts[task]["weight"]) == 10 * 100 * 4


@pytest.mark.parametrize("density", [0.0, 1.1, -1.0])
def test_the_density_is_checked(density: float) -> None:
    with pytest.raises(BadInput, match="share of weights a task keeps"):
        WSN(density=density)


def test_without_task_labels_it_says_why_not() -> None:
    assert_refuses_other_protocols(WSN(), "which mask answers")


def test_a_tenth_of_the_weights_is_enough_and_nothing_is_forgotten() -> None:
    faster = Trainer(optimizer="adam", lr=0.005, momentum=0.0)
    sparse, dense = (result(WSN(density=d, trainer=faster)) for d in (0.1, 0.5))
    assert backward_transfer(sparse) == backward_transfer(dense) == 0.0 and naive_forgets() > 30
    assert accuracy(sparse) > 85 and accuracy(sparse) > accuracy(dense) - 7
