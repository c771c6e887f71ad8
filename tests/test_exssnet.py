"""ExSSNeT and SSNeT: how many weights a mask keeps, which a task may train, and that nothing else ever moves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from clbench.errors import BadInput
from clbench.loop import RunResult, run
from clbench.masks import maskable
from clbench.models import ReducedResNet18
from clbench.seeds import Seeds
from clbench.state import state_bytes
from clbench.strategies.exssnet import ExSSNeT
from clbench.strategies.ssnet import SSNeT
from clbench.strategies.supsup import SupSup
from clbench.strategy import Trainer
from clbench.stream import TaskStream
from tests.toy_exssnet import ADAM, DECAY, MOMENTUM, assert_only_unused_weights_move, exssnet, union, weights_of
from tests.toy_packers import assert_nothing_old_changes, begun, logits, permuted, result, trained
from tests.toy_streams import CPU, build

# --- how many, and which


@pytest.mark.parametrize("density", [0.05, 0.1, 0.37])
def test_every_mask_keeps_exactly_its_share_of_every_layer(density: float) -> None:
    strategy = exssnet(density=density, trainer=replace(ADAM, epochs=1), weight_epochs=1)
    for index in trained(strategy):
        masks = strategy.masks(index)
        assert masks.keys() == {"body.1.weight", "body.3.weight", "head.weight"}
        for mask in masks.values():
            assert int(mask.sum()) == mask.numel() - int((1 - density) * mask.numel())


@pytest.mark.parametrize("trainer", [ADAM, DECAY, MOMENTUM], ids=["adam", "decay", "momentum"])
def test_a_task_moves_no_weight_outside_its_mask_nor_one_of_an_earlier_mask(trainer: Trainer) -> None:
    assert_only_unused_weights_move(exssnet(trainer=trainer))


def test_ssnet_moves_weights_of_earlier_masks() -> None:
    with pytest.raises(AssertionError, match="may train"):
        assert_only_unused_weights_move(exssnet(SSNeT))


def test_what_tasks_may_train_is_disjoint() -> None:
    class Noted(ExSSNeT):
        def editable(self, name: str, mask: Tensor) -> Tensor:
            found = super().editable(name, mask)
            edits.setdefault(name, []).append((found, mask))
            return found

    edits: dict[str, list[tuple[Tensor, Tensor]]] = {}
    strategy = exssnet(Noted, trainer=replace(ADAM, epochs=1), weight_epochs=1)
    for _ in trained(strategy, permuted(5)):
        pass
    for layer in edits.values():
        assert len(layer) == 5
        assert torch.stack([edit for edit, _ in layer]).sum(0).max() == 1
        used = torch.zeros_like(layer[0][0])
        for edit, mask in layer:
            assert torch.equal(edit, mask & ~used)
            used |= mask


@pytest.mark.parametrize("density", [0.1, 0.5])
def test_about_the_expected_share_of_a_new_mask_is_free(density: float) -> None:
    strategy = exssnet(density=density)
    for _ in trained(strategy, permuted(5)):
        pass
    for t in range(5):
        mask, used = strategy.masks(t + 1), union(strategy.masks(k) for k in range(1, t + 1))
        free = sum(int((m & ~used[name]).sum()) if used else int(m.sum()) for name, m in mask.items())
        assert free / sum(int(m.sum()) for m in mask.values()) == pytest.approx((1 - density) ** t, abs=0.15)


# --- old answers


@pytest.mark.parametrize("trainer", [ADAM, DECAY, MOMENTUM], ids=["adam", "decay", "momentum"])
def test_old_answers_stay_bit_by_bit(trainer: Trainer) -> None:
    assert_nothing_old_changes(exssnet(trainer=trainer))


def test_masks_alone_leave_old_answers_and_all_weights() -> None:
    strategy = exssnet(SSNeT, trainer=DECAY, weight_epochs=0)
    assert_nothing_old_changes(strategy)
    for weight in weights_of(strategy).values():
        assert torch.equal(weight.abs(), torch.full_like(weight, (2 / weight.shape[1]) ** 0.5))


def test_ssnet_forgets() -> None:
    with pytest.raises(AssertionError, match="old logits moved"):
        assert_nothing_old_changes(exssnet(SSNeT))


def test_the_statistics_of_batch_norms_are_each_tasks_own() -> None:
    strategy = exssnet(trainer=replace(DECAY, epochs=1), weight_epochs=1)
    assert_nothing_old_changes(strategy, make=partial(ReducedResNet18, n_filters=2))
    norm = strategy.model_.get_submodule("body.1")
    assert torch.equal(norm.get_buffer("running_mean"), torch.zeros(2))  # as it was built
    assert float(norm.get_parameter("weight").min()) == float(norm.get_parameter("weight").max()) == 1
    means = [strategy.own_.of(k)["body.1.running_mean"] for k in (1, 2, 3)]
    assert not torch.equal(means[0], means[1]) and not torch.equal(means[1], means[2])


# --- what it costs, and what it gains


def test_training_looks_at_no_earlier_mask_and_a_task_adds_the_bits_of_its_mask() -> None:
    class Counted(ExSSNeT):
        def masks(self, task: int) -> dict[str, Tensor]:
            looks.append(task)
            return super().masks(task)

    looks: list[int] = []
    strategy = exssnet(Counted, trainer=replace(ADAM, epochs=1), weight_epochs=1)
    sizes = [state_bytes(strategy.state_dict()) for _ in trained(strategy, permuted(4))]
    assert not looks
    bits = sum(-(-weight.numel() // 8) for weight in maskable(strategy.model_).values())
    labels = 10 * 1 + 10 * 8  # a row of what competes, and of where a class is
    assert np.diff(sizes).tolist() == [bits + labels] * 3
    assert not strategy.scores_


@cache
def three(seed: int) -> TaskStream:
    return build(seed, rule="permutation", protocol="task-incremental", n_tasks=3, test_fraction=0.25)


def learnt(strategy: SSNeT | SupSup, seed: int) -> RunResult:
    begun(strategy, three(seed))
    return run(strategy, three(seed), Seeds.of(seed), CPU)


@pytest.mark.parametrize(("density", "margin", "seed"), [(0.05, 0.15, 0), (0.1, 0.05, 1)])
def test_trained_weights_beat_masks_alone_that_are_trained_as_long(density: float, margin: float, seed: int) -> None:
    both = learnt(exssnet(density=density, trainer=replace(ADAM, epochs=5), weight_epochs=5), seed)
    alone = learnt(SupSup(density=density, trainer=replace(ADAM, epochs=10)), seed)
    assert both.accuracy.values[-1].mean() > alone.accuracy.values[-1].mean() + margin
    for values in (both.accuracy.values, alone.accuracy.values):
        assert np.array_equal(values[-1], np.diagonal(values[1:]))


def test_without_a_weight_phase_it_is_supsup() -> None:
    strategy, other = exssnet(weight_epochs=0), SupSup(density=0.1, trainer=ADAM)
    for _ in zip(trained(strategy), trained(other), strict=True):
        pass
    for index in (1, 2, 3):
        assert torch.equal(logits(strategy, permuted(), index), logits(other, permuted(), index))


def test_ssnet_loses_accuracy_on_earlier_tasks() -> None:
    values = result(exssnet(SSNeT, weight_epochs=8), permuted(5)).accuracy.values
    assert float(np.mean(values[-1] - np.diagonal(values[1:]))) < -0.02


@pytest.mark.parametrize(
    "options",
    [{"density": 0.0}, {"density": 1.1}, {"weight_epochs": -1}, {"weight_lr": 0.0}, {"kkt": "some"}, {"kkt_share": 0}],
)
def test_settings_out_of_range_are_refused(options: dict[str, Any]) -> None:
    make: Callable[..., SSNeT] = ExSSNeT
    with pytest.raises(BadInput, match=next(iter(options))):
        make(**options)
