"""SupSup with task labels: what its masks are, and that nothing old ever changes."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from clbench.errors import BadInput
from clbench.evaluate import make_query
from clbench.loop import train_one
from clbench.masks import TaskParts, maskable, straight_through
from clbench.models import ReducedResNet18
from clbench.state import state_bytes
from clbench.strategies import supsup
from clbench.strategies.supsup import SupSup
from clbench.strategy import Trainer
from clbench.stream import Batch, TaskView
from tests.toy_packers import (
    HEADS,
    ROUGH,
    SEEDS,
    accuracy,
    assert_goes_on_from_its_state,
    assert_nothing_old_changes,
    backward_transfer,
    begun,
    drift,
    logits,
    naive_forgets,
    permuted,
    result,
    split,
    trained,
    with_head,
)
from tests.toy_streams import CPU

QUICK = Trainer(epochs=2, optimizer="adam", lr=0.01, momentum=0.0)
LONGER = Trainer(epochs=8, optimizer="adam", lr=0.01, momentum=0.0)


@pytest.mark.parametrize(
    "options", [{"density": 0.1}, {"density": 0.03}, {"er": 4.0}, {"er": 32.0}], ids=["0.1", "0.03", "ER 4", "ER 32"]
)
def test_every_task_keeps_exactly_the_budget_of_every_layer(options: dict[str, Any]) -> None:
    strategy = SupSup(**options, trainer=QUICK)
    for task in trained(strategy, split()):
        for name, mask in strategy.mask(task).items():
            n, (c_out, c_in) = mask.numel(), mask.shape
            density = min(0.5, options["er"] * (c_out + c_in) / n) if "er" in options else options["density"]
            assert int(mask.sum()) == n - int((1 - density) * n), name
    assert sorted(strategy.masks_) == [1, 2, 3]


def test_the_er_budget_caps_small_layers_at_a_half() -> None:
    strategy = SupSup(er=32.0, trainer=QUICK)
    next(trained(strategy, split()))
    shares = {name: float(mask.float().mean()) for name, mask in strategy.mask(1).items()}
    assert shares["head.weight"] == 0.5


@pytest.mark.parametrize("rough", ROUGH)
def test_weights_and_old_masks_are_the_same_bit_by_bit_over_the_run(rough: str) -> None:
    strategy = SupSup(trainer=ROUGH[rough])
    begun(strategy)
    weights = {name: weight.detach().clone() for name, weight in strategy.model_.named_parameters()}
    masks: dict[int, dict[str, Tensor]] = {}
    for task in trained(strategy):
        masks[task] = {name: bits.clone() for name, bits in strategy.masks_[task].items()}
        for name, weight in strategy.model_.named_parameters():
            assert torch.equal(weight, weights[name]), name
        for old, kept in masks.items():
            assert all(torch.equal(strategy.masks_[old][name], bits) for name, bits in kept.items())
    for name, weight in maskable(strategy.model_).items():
        assert torch.allclose(weight.abs(), torch.tensor((2 / weight[0].numel()) ** 0.5)), name
    assert not any(p.any() for n, p in strategy.model_.named_parameters() if n.endswith("bias"))


@pytest.mark.parametrize("rough", ROUGH)
def test_old_logits_never_move_whatever_the_optimiser(rough: str) -> None:
    assert_nothing_old_changes(SupSup(trainer=ROUGH[rough]))


@pytest.mark.parametrize(("kind", "mode"), HEADS)
def test_old_logits_never_move_under_any_head_and_tasks_are_learnt(kind: str, mode: str) -> None:
    strategy = SupSup(density=0.3, trainer=ROUGH["adam"])
    assert_nothing_old_changes(strategy, split(), with_head(kind, mode))
    for task in split().tasks:
        columns = logits(strategy, split(), task.index).argmax(1)
        assert float((torch.tensor(task.classes)[columns] == task.test.labels).float().mean()) > 0.75


class SharedStatistics(TaskParts):
    """Planted: one set of batch-norm statistics for all tasks."""

    def begin(self, task: int) -> None:
        super().begin(task)
        self.parts[task] |= {k: v for k, v in self.parts[1].items() if ".running_" in k}


def test_batch_norm_statistics_are_each_tasks_own_and_sharing_them_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    resnet = partial(ReducedResNet18, n_filters=2)
    assert_nothing_old_changes(SupSup(density=0.5, trainer=QUICK), split(), resnet)
    monkeypatch.setattr(supsup, "TaskParts", SharedStatistics)
    assert drift(SupSup(density=0.5, trainer=QUICK), split(), resnet) > 0.1


class Watched(SupSup):
    """Compares the gradient of the scores of each step with one worked out from the masked weights alone."""

    def after_backward(self, batch: Batch) -> None:
        masks = {name: self.choose(s) for name, s in self._scores.items()}
        masked = {n: (w * masks[n]).detach().requires_grad_() for n, w in maskable(self.model_).items()}
        self.cross_entropy(functional_call(self.model_, masked, (batch.inputs,)), batch.y).backward()  # type: ignore[no-untyped-call]
        for name, weight in maskable(self.model_).items():
            scores, by_weight = self._scores[name], masked[name].grad
            assert scores.grad is not None and by_weight is not None
            sign = scores.detach().sign() if self._top else 1
            assert torch.allclose(scores.grad, sign * weight.detach() * by_weight, rtol=1e-4, atol=1e-6), name
            assert (scores.grad[~masks[name]] != 0).any(), name


@pytest.mark.parametrize("select", ["top", "threshold"])
def test_scores_get_the_gradient_of_the_masked_weights_times_weight_and_sign(select: Any) -> None:
    for _ in trained(Watched(select=select, trainer=Trainer(epochs=1, optimizer="adam", momentum=0.0)), split()):
        pass


class WithoutSign(SupSup):
    """Planted: ranks absolute scores, but passes them the gradient as it is."""

    def masked_loss(self, batch: Batch, scores: Any, own: Any) -> Tensor:
        base = maskable(self.model_)
        weights = {name: base[name] * straight_through(self.choose(s), s) for name, s in scores.items()}
        return self.cross_entropy(functional_call(self.model_, {**weights, **own}, (batch.inputs,)), batch.y)


def test_a_tenth_of_a_random_network_solves_split_digits_without_forgetting_and_not_without_the_sign() -> None:
    outcome = result(SupSup(trainer=LONGER), split())
    assert accuracy(outcome) > 95
    assert backward_transfer(outcome) == 0.0
    assert accuracy(result(WithoutSign(trainer=LONGER), split())) < accuracy(outcome) - 15


def test_on_permuted_digits_a_mask_of_half_the_weights_beats_a_twentieth_and_forgets_nothing() -> None:
    half, twentieth = (result(SupSup(density=d, trainer=LONGER)) for d in (0.5, 0.05))
    assert backward_transfer(half) == backward_transfer(twentieth) == 0.0
    assert accuracy(half) > 85
    assert accuracy(half) > accuracy(twentieth) + 20
    assert naive_forgets() > 3


def test_a_task_costs_one_bit_a_weight() -> None:
    strategy = SupSup(trainer=QUICK)
    begun(strategy)
    n_weights = sum(weight.numel() for weight in maskable(strategy.model_).values())
    sizes = [state_bytes(strategy.state_dict()) for _ in trained(strategy)]
    grown = [after - before for before, after in pairwise(sizes)]
    assert all(n_weights / 8 <= more < n_weights / 8 + 300 for more in grown), grown  # and the numbers of its classes


class Noted(SupSup):
    """Notes the scores each task begins and ends with."""

    def optimise(self, task: TaskView, *args: Any, **options: Any) -> None:
        seen.append({name: s.detach().clone() for name, s in self._scores.items()})
        super().optimise(task, *args, **options)
        seen.append({name: s.detach().clone() for name, s in self._scores.items()})


seen: list[dict[str, Tensor]] = []


def test_transfer_begins_in_the_direction_of_the_mean_and_keeps_nothing_but_the_mean() -> None:
    seen.clear()
    strategy = Noted(transfer=True, trainer=QUICK)
    for _ in trained(strategy):
        pass
    for name, first in seen[1].items():
        mean = (first + seen[3][name]) / 2
        start, bound = seen[4][name], 1 / first[0].numel() ** 0.5
        assert float(F.cosine_similarity(mean.flatten(), start.flatten(), dim=0)) > 0.9999
        assert float(start.square().mean().sqrt()) == pytest.approx(bound / 3**0.5, rel=0.1)
        assert torch.allclose(strategy.mean_[name], (2 * mean + seen[5][name]) / 3, atol=1e-5)
    plain = SupSup(trainer=QUICK)
    for _ in trained(plain):
        pass
    once = state_bytes(strategy.state_dict()) - state_bytes(plain.state_dict())
    assert once == sum(4 * weight.numel() for weight in maskable(plain.model_).values())
    assert_nothing_old_changes(SupSup(transfer=True, trainer=QUICK))


@pytest.mark.parametrize("options", [{}, {"transfer": True}, {"select": "threshold"}])
def test_it_goes_on_from_its_state(options: dict[str, Any]) -> None:
    assert_goes_on_from_its_state(lambda: SupSup(**options, trainer=ROUGH["adam"]))


def test_old_logits_stay_when_a_shared_head_grows_with_a_task_of_more_classes() -> None:
    tasks = sorted(split().tasks, key=lambda task: len(task.classes))
    tasks = [replace(task, index=index) for index, task in enumerate(tasks, start=1)]
    assert len(tasks[0].classes) < len(tasks[-1].classes)
    stream = replace(split(), tasks=tuple(tasks))
    assert_nothing_old_changes(SupSup(trainer=ROUGH["adam"]), stream, with_head("linear", "shared"))


def test_a_task_not_learnt_is_answered_by_the_network_without_a_mask() -> None:
    strategy = SupSup(trainer=QUICK)
    stream = begun(strategy, split(), with_head("language", "growing"))
    train_one(strategy, stream, 1, SEEDS, CPU)
    probe = stream.tasks[1].test.take(torch.arange(20))
    query = make_query("task-incremental", stream.tasks, 1, 2)
    scores = strategy.predict(probe, query)
    assert torch.isfinite(scores).all(), "the names of the classes make their rows"
    with torch.no_grad():
        assert torch.equal(scores, strategy.model_.scores(probe, query))


@pytest.mark.parametrize("options", [{"density": 0.0}, {"density": 1.5}, {"er": 0.0}, {"images": 0}])
def test_impossible_budgets_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="expected 0 < density"):
        SupSup(**options)


def test_groups_are_of_one_where_no_task_is_inferred() -> None:
    strategy = SupSup(images=10, trainer=QUICK)
    begun(strategy, permuted())
    assert strategy.group_size == 1
