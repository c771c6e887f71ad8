"""PackNet: every weight has one owner, and no task touches another's."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch

from clbench.errors import BadInput
from clbench.loop import train_one
from clbench.models import MLP, Model, ReducedResNet18
from clbench.state import state_bytes
from clbench.strategies.packnet import PackNet
from clbench.strategy import Trainer
from clbench.stream import Batch, StreamSpec
from tests.toy_packers import (
    HEADS,
    ROUGH,
    SEEDS,
    assert_frozen_entries_never_move,
    assert_goes_on_from_its_state,
    assert_nothing_old_changes,
    assert_refuses_other_protocols,
    backward_transfer,
    begun,
    naive_forgets,
    network,
    permuted,
    result,
    split,
    trained,
    with_head,
)
from tests.toy_streams import CPU

FEW = Trainer(epochs=1)
STILL = Trainer(epochs=1, lr=1e-30, momentum=0.0)


def of_constants(spec: StreamSpec) -> Model:
    """A network whose weights are all equal in size."""
    model = network(spec)
    with torch.no_grad():
        for weight in model.parameters():
            weight.fill_(0.1)
    return model


@pytest.mark.parametrize("make", [network, of_constants], ids=["drawn", "all weights tie"])
def test_each_task_frees_exactly_the_share_of_its_weights_layer_by_layer(make: Any) -> None:
    strategy = PackNet(prune=0.7, retrain_epochs=1, trainer=STILL)
    free: dict[str, int] = {}
    for task in trained(strategy, make=make):
        for name, owners in strategy.owners_.items():
            before = free.get(name, owners.numel())
            assert int((owners == 0).sum()) == int(0.7 * before)
            assert int((owners == task).sum()) == before - int(0.7 * before)
            free[name] = int(0.7 * before)
    assert set(free) == {"body.1.weight", "body.3.weight", "head.weight"}


def test_the_smallest_weights_of_the_task_are_freed() -> None:
    class Watched(PackNet):
        def _free_the_smallest(self) -> None:
            before = self.model_.get_parameter("body.1.weight").detach().abs().clone()
            mine = self.owners_["body.1.weight"] == self.label_
            super()._free_the_smallest()
            kept = self.owners_["body.1.weight"] == self.label_
            gaps.append(float(before[kept].min() - before[mine & ~kept].max()))

    gaps: list[float] = []
    list(trained(Watched(trainer=FEW, retrain_epochs=0)))
    assert len(gaps) == 3 and min(gaps) >= 0


@pytest.mark.parametrize("trainer", ROUGH.values(), ids=ROUGH)
def test_no_optimiser_moves_a_weight_that_has_an_owner(trainer: Trainer) -> None:
    strategy = PackNet(prune=0.5, retrain_epochs=1, trainer=trainer)
    assert_frozen_entries_never_move(strategy, lambda task: {n: (o > 0) for n, o in strategy.owners_.items()})


@pytest.mark.parametrize("redraw", [False, True])
@pytest.mark.parametrize("trainer", ROUGH.values(), ids=ROUGH)
def test_old_logits_stay_the_same_bit_by_bit(trainer: Trainer, redraw: bool) -> None:
    assert_nothing_old_changes(PackNet(trainer=trainer, retrain_epochs=1, redraw=redraw))


@pytest.mark.parametrize(("kind", "mode"), HEADS)
def test_old_logits_stay_the_same_with_every_head(kind: str, mode: str) -> None:
    assert_nothing_old_changes(PackNet(trainer=ROUGH["adam"], retrain_epochs=1), split(), with_head(kind, mode))


def test_every_task_has_its_own_batch_norm_statistics() -> None:
    strategy = PackNet(trainer=Trainer(epochs=2), retrain_epochs=1)
    assert_nothing_old_changes(strategy, split(), partial(ReducedResNet18, n_filters=2))
    means = [parts["body.1.running_mean"] for parts in strategy.own_.parts.values()]
    assert len(means) == 3 and not torch.equal(means[0], means[1]) and not torch.equal(means[1], means[2])
    assert torch.equal(strategy.model_.get_buffer("body.1.running_mean"), torch.zeros(2))


def test_it_goes_on_from_its_state() -> None:
    assert_goes_on_from_its_state(lambda: PackNet(trainer=FEW, retrain_epochs=1, redraw=True))


@pytest.mark.parametrize("redraw", [False, True])
def test_free_weights_begin_a_task_at_zero_as_in_the_papers_code_or_drawn_anew(redraw: bool) -> None:
    class Watched(PackNet):
        def loss(self, batch: Batch) -> torch.Tensor:
            if self.label_ == 2 and not begins:
                mine = self.owners_["body.1.weight"] == 2
                begins.append(self.model_.get_parameter("body.1.weight").detach()[mine])
            return super().loss(batch)

    begins: list[torch.Tensor] = []
    strategy = Watched(trainer=FEW, retrain_epochs=1, redraw=redraw)
    for task in trained(strategy):
        free = strategy.owners_["body.1.weight"] == 0
        assert not strategy.model_.get_parameter("body.1.weight")[free].any(), task
    assert bool(begins[0].any()) == redraw
    assert float(begins[0].abs().max()) <= 1 / 8  # 64 inputs


def test_survivors_are_retrained_with_the_smaller_step() -> None:
    def after(epochs: int, factor: float) -> torch.Tensor:
        strategy = PackNet(trainer=FEW, retrain_epochs=epochs, retrain_lr_factor=factor)
        train_one(strategy, begun(strategy), 1, SEEDS, CPU)
        return strategy.model_.get_parameter("body.1.weight").detach()

    pruned = after(0, 0.1)
    assert torch.equal(after(1, 1e-30), pruned)
    small, large = (float((after(1, factor) - pruned).abs().sum()) for factor in (0.01, 0.1))
    assert 5 < large / small < 20


def test_it_keeps_one_byte_for_a_weight_however_many_tasks_there_are() -> None:
    strategy = PackNet(trainer=FEW, retrain_epochs=0)
    for _ in trained(strategy):
        owners = strategy.state_dict()["owners_"]
        assert state_bytes(owners) == 64 * 100 + 100 * 100 + 100 * 10


def test_there_may_be_more_tasks_than_a_byte_can_tell_apart() -> None:
    stream = permuted()
    many = replace(stream, tasks=(stream.tasks[0], replace(stream.tasks[1], index=300)))
    strategy = PackNet(trainer=FEW, retrain_epochs=1)
    list(trained(strategy, many))
    found = torch.unique(strategy.owners_["body.1.weight"]).tolist()
    assert found == [0, 1, 300]


def test_a_full_network_is_told_to_the_user() -> None:
    tiny = partial(MLP, width=2, depth=1, head_mode="shared")
    with pytest.raises(BadInput, match=r"no free weight left for task 3.*raise prune"):
        list(trained(PackNet(prune=0.01, trainer=FEW), permuted(), tiny))


@pytest.mark.parametrize("wrong", [{"prune": 0.0}, {"prune": 1.0}, {"retrain_epochs": -1}, {"retrain_lr_factor": 0.0}])
def test_hyperparameters_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="packnet needs"):
        PackNet(**wrong)


def test_without_task_labels_it_says_why_not() -> None:
    assert_refuses_other_protocols(PackNet(), "which weights answer")


def test_it_forgets_exactly_nothing_where_naive_training_loses_tens_of_points() -> None:
    outcome = result(PackNet())
    assert backward_transfer(outcome) == 0.0 and naive_forgets() > 30
    assert outcome.accuracy.values[-1].min() > 0.85
