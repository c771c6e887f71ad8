"""HAT: gates on units, and gradients held back where earlier tasks use both ends."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from clbench.checks.streams import fresh_stream
from clbench.errors import BadInput
from clbench.loop import train_one
from clbench.models import ConvNet, Pretrained, ReducedResNet18
from clbench.strategies.hat import HAT
from clbench.strategies.naive import Naive
from clbench.strategy import Trainer
from clbench.stream import Batch
from tests.toy_packers import (
    HEADS,
    SEEDS,
    accuracy,
    assert_goes_on_from_its_state,
    assert_refuses_other_protocols,
    backward_transfer,
    begun,
    drift,
    naive_forgets,
    result,
    split,
    trained,
    with_head,
)
from tests.toy_streams import CPU

FEW = Trainer(epochs=2)
SMALL = partial(ConvNet, width=4, hidden=16)


class Watched(HAT):
    """HAT that shows its gradients before and after they are held back."""

    def after_backward(self, batch: Batch) -> None:
        raw = {n: p.grad.clone() for n, p in self.model_.named_parameters() if p.grad is not None}
        embeddings = {n: e.grad.clone() for n, e in self.embeddings_[self.label_].items() if e.grad is not None}
        super().after_backward(batch)
        self.look(batch, raw, embeddings)

    def look(self, batch: Batch, raw: dict[str, Tensor], embeddings: dict[str, Tensor]) -> None:
        raise NotImplementedError

    def gates(self, task: int) -> dict[str, Tensor]:
        return {n: torch.sigmoid(self.smax * e.detach()) for n, e in self.embeddings_[task].items()}


def test_gradients_are_scaled_by_how_little_earlier_tasks_use_both_units() -> None:
    class Scaled(Watched):
        def look(self, batch: Batch, raw: dict[str, Tensor], embeddings: dict[str, Tensor]) -> None:
            used: dict[str, Tensor] = {}
            for task in range(1, self.label_):
                used = {n: torch.maximum(used.get(n, g), g) for n, g in self.gates(task).items()}
            for before, name in zip([None, *used], used, strict=False):
                layer: Any = self.model_.get_submodule(name)
                reader = torch.zeros(layer.weight.shape[1])  # one by one, as the paper writes it
                if before is not None:
                    places = layer.weight.shape[1] // len(used[before])
                    reader = torch.stack([used[before][j // places] for j in range(len(reader))])
                free = 1 - torch.minimum(used[name][:, None], reader[None]) if before else 1 - used[name][:, None]
                free = free.view(*free.shape, *[1] * (layer.weight.dim() - 2))
                assert torch.allclose(layer.weight.grad, raw[f"{name}.weight"] * free, atol=1e-7)
                assert torch.allclose(layer.bias.grad, raw[f"{name}.bias"] * (1 - used[name]), atol=1e-7)
                closed = torch.broadcast_to(free, layer.weight.shape) == 0
                assert not layer.weight.grad[closed].any()
                found.append((name, int(closed.sum())))

    found: list[tuple[str, int]] = []
    list(trained(Scaled(trainer=FEW), split(), SMALL))
    assert {name for name, n in found if n} == {"body.0", "body.2", "body.5", "body.7", "body.12"}


def test_embeddings_get_the_gradient_they_would_have_at_a_slope_of_one() -> None:
    class Compensated(Watched):
        def look(self, batch: Batch, raw: dict[str, Tensor], embeddings: dict[str, Tensor]) -> None:
            for name, e in self.embeddings_[self.label_].items():
                assert e.grad is not None
                se = self._s * e.detach()
                fine = se.abs() < 8  # where the sigmoid's slope is not rounded away
                slope = torch.sigmoid(se) * (1 - torch.sigmoid(se)) * self._s
                wanted = embeddings[name] / slope * self.smax * torch.sigmoid(e) * (1 - torch.sigmoid(e))
                assert torch.allclose(e.grad[fine], wanted[fine].detach(), rtol=0.01, atol=1e-6)
                counts.append(int(fine.sum()))

    counts: list[int] = []
    strategy = Compensated(trainer=FEW)
    train_one(strategy, begun(strategy), 1, SEEDS, CPU)
    assert sum(counts) > 500


def test_within_an_epoch_gates_go_from_nearly_flat_to_nearly_steps() -> None:
    class Steep(HAT):
        def loss(self, batch: Batch) -> Tensor:
            value = super().loss(batch)
            slopes.append(self._s)
            firsts.append(batch.step == 1)
            return value

    slopes: list[float] = []
    firsts: list[bool] = []
    strategy = Steep(trainer=FEW, smax=400.0)
    train_one(strategy, begun(strategy), 1, SEEDS, CPU)
    n = len(slopes) // 2
    assert firsts == ([True] + [False] * (n - 1)) * 2
    assert slopes[:n] == slopes[n:] and slopes[0] == pytest.approx(1 / 400) and slopes[n - 1] == pytest.approx(400)
    steps = torch.tensor(slopes[:n]).diff()
    assert torch.allclose(steps, steps[0].expand(n - 1), rtol=1e-3)


def test_embeddings_stay_within_six() -> None:
    class Bounded(HAT):
        def after_step(self, batch: Batch) -> None:
            super().after_step(batch)
            largest.append(max(float(e.detach().abs().max()) for e in self.embeddings_[self.label_].values()))

    largest: list[float] = []
    list(trained(Bounded(trainer=Trainer(epochs=3, lr=100.0, momentum=0.0), strength=4.0)))
    assert max(largest) == 6.0


def test_a_step_is_no_longer_than_the_clip_allows() -> None:
    strategy = HAT(clip=1e-3, trainer=Trainer(epochs=1, lr=1.0, momentum=0.0))
    read = begun(strategy)
    before = {n: p.detach().clone() for n, p in strategy.model_.named_parameters()}
    n_steps = train_one(strategy, read, 1, SEEDS, CPU)["steps"]
    moved = torch.stack([(p.detach() - before[n]).square().sum() for n, p in strategy.model_.named_parameters()])
    assert 0 < float(moved.sum().sqrt()) <= 1e-3 * n_steps


def test_a_higher_price_leaves_more_units_to_later_tasks() -> None:
    def used(strength: float) -> float:
        strategy = HAT(strength=strength)
        train_one(strategy, begun(strategy), 1, SEEDS, CPU)
        gates = [torch.sigmoid(400 * e.detach()) for e in strategy.embeddings_[1].values()]
        return float(torch.cat(gates).mean())

    assert 0 < used(0.75) < 0.6 * used(0.05) < 0.6


def test_gates_on_weights_are_gates_on_units() -> None:
    strategy = HAT(trainer=FEW, smax=3.0)
    train_one(strategy, begun(strategy, split(), SMALL), 1, SEEDS, CPU)
    model: Any = strategy.model_.eval()
    gates = {n: torch.sigmoid(3.0 * e.detach()) for n, e in strategy.embeddings_[1].items()}
    probe = split().tasks[0].test
    hidden = inputs = probe.take(torch.arange(20))["image"]
    for k, layer in enumerate(model.body):
        hidden = layer(hidden)
        if isinstance(layer, nn.ReLU):
            hidden = hidden * gates[f"body.{k - 1}"].view(1, -1, *[1] * (hidden.dim() - 2))
    gated = torch.func.functional_call(model, strategy._gated(gates), ({"image": inputs},))
    assert torch.allclose(gated, model.head(hidden), atol=1e-6)


@pytest.mark.parametrize("smax", [50.0, 400.0])
def test_old_answers_drift_less_than_those_of_naive_training_by_more_than_an_order(smax: float) -> None:
    assert drift(HAT(smax=smax)) < drift(Naive()) / 50


@pytest.mark.parametrize(("kind", "mode"), HEADS)
def test_old_answers_hardly_drift_with_any_head(kind: str, mode: str) -> None:
    make = with_head(kind, mode)
    assert drift(HAT(trainer=FEW), split(), make) < 0.05


def test_a_convolutional_network_learns_and_hardly_drifts() -> None:
    make = partial(ConvNet, width=16, hidden=64)
    strategy = HAT(strength=0.02, trainer=Trainer(epochs=20, lr=0.02))
    outcome = result(strategy, split(), make)
    assert accuracy(outcome) > 80 and backward_transfer(outcome) > -5


def test_it_goes_on_from_its_state() -> None:
    assert_goes_on_from_its_state(lambda: HAT(trainer=FEW))


@pytest.mark.parametrize(
    "trainer", [Trainer(weight_decay=1e-4), Trainer(optimizer="adam", lr=0.001, momentum=0.0)], ids=["decay", "adam"]
)
def test_optimisers_that_move_held_weights_are_refused_with_the_reason(trainer: Trainer) -> None:
    with pytest.raises(BadInput, match="Adam would scale them back, weight decay moves"):
        HAT(trainer=trainer)


def test_networks_that_are_not_feed_forward_are_refused_with_the_reason() -> None:
    with pytest.raises(BadInput, match="ReducedResNet18 is none; it has BatchNorm2d, Block"):
        begun(HAT(), split(), partial(ReducedResNet18, n_filters=2))
    with pytest.raises(BadInput, match="Pretrained is none"):
        begun(HAT(), fresh_stream("task-incremental", setting="transformer"), Pretrained)


@pytest.mark.parametrize("wrong", [{"strength": -0.1}, {"smax": 1.0}, {"clip": 0.0}])
def test_hyperparameters_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="hat needs"):
        HAT(**wrong)


def test_without_task_labels_it_says_why_not() -> None:
    assert_refuses_other_protocols(HAT(), "which units answer")


def test_it_forgets_next_to_nothing_where_naive_training_loses_tens_of_points() -> None:
    outcome = result(HAT())
    assert backward_transfer(outcome) > -1 and naive_forgets() > 30
    assert outcome.accuracy.values[-1].min() > 0.8
