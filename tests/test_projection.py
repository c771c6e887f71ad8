"""Captured inputs, bases and projected updates: against literal formulas, and with every way to get them wrong."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from clbench.capture import Unit, input_grams, input_rows, units
from clbench.models import ConvNet, Model, ReducedResNet18
from clbench.projection import ProjectedSGD, energy_along, projected, with_residual
from clbench.strategies.gpm import GPM
from clbench.strategy import Trainer
from clbench.stream import Batch, Inputs, StreamSpec
from tests.toy_projection import (
    ALL,
    FEW,
    Noting,
    NotingGPM,
    NotingTRGP,
    check_old_answers_stand,
    check_updates_stay_outside,
    learnt,
    permuted,
)

LAYERS: list[tuple[nn.Module, tuple[int, ...]]] = [
    (nn.Linear(7, 5, bias=False), (3, 7)),
    (nn.Linear(7, 5, bias=False), (3, 4, 7)),
    (nn.Conv1d(4, 6, 3, stride=2, padding=1, bias=False), (3, 4, 9)),
    (nn.Conv1d(4, 6, 3, dilation=2, groups=2, bias=False), (3, 4, 9)),
    (nn.Conv2d(3, 6, 3, padding=1, bias=False), (2, 3, 7, 8)),
    (nn.Conv2d(4, 6, (3, 2), stride=(2, 3), padding=(1, 0), bias=False), (2, 4, 9, 8)),
    (nn.Conv2d(4, 6, 3, dilation=2, groups=2, padding="same", bias=False), (2, 4, 7, 7)),
    (nn.Conv2d(4, 4, 3, groups=4, padding=1, padding_mode="circular", bias=False), (2, 4, 6, 6)),
    (nn.Conv2d(4, 6, 1, stride=2, bias=False), (2, 4, 7, 7)),
]


def check_rows_make_the_output(layer: Any, x: Tensor, rows: Tensor) -> None:
    """Invariant 10: rows times the flattened weight are the layer's output."""
    n_groups = getattr(layer, "groups", 1)
    made = [rows[g] @ Unit("weight", g, n_groups).rows(layer.weight).T for g in range(n_groups)]
    output = layer(x)
    wanted = output if isinstance(layer, nn.Linear) else output.flatten(2).transpose(1, 2)
    torch.testing.assert_close(torch.cat(made, dim=1), wanted.reshape(-1, wanted.shape[-1]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=[str(layer) for layer, _ in LAYERS])
def test_rows_of_inputs_times_the_weight_are_the_output(layer: nn.Module, shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    check_rows_make_the_output(layer, x, input_rows(layer, x))


def test_rows_in_another_order_are_noticed() -> None:
    layer, shape = LAYERS[4]
    x = torch.randn(shape)
    positions_first = input_rows(layer, x).view(1, -1, 3, 9).transpose(2, 3).flatten(2)
    with pytest.raises(AssertionError):
        check_rows_make_the_output(layer, x, positions_first)


def test_grams_of_a_network_are_those_of_its_inputs_with_the_weights_it_is_given() -> None:
    spec = StreamSpec("task-incremental", {"image": (1, 8, 8)}, n_classes=10)
    model = ReducedResNet18(spec, n_filters=2)
    x = {"image": torch.rand(40, 1, 8, 8)}  # more than a chunk
    other = {"body.0.weight": torch.randn(2, 1, 3, 3)}
    found = input_grams(model, x, other, units(model))
    assert len(found) == 21  # 17 convolutions, 3 shortcuts, the head
    model.eval()
    with torch.no_grad():
        features = functional_call(model.body, {"0.weight": other["body.0.weight"]}, (x["image"],)).double()
        first = input_rows(model.body[0], x["image"])[0].double()
    torch.testing.assert_close(found["head.weight"], features.T @ features, rtol=1e-4, atol=1e-8)
    torch.testing.assert_close(found["body.0.weight"], first.T @ first)


def literal_gpm(basis: Tensor, r: Tensor, share: float) -> Tensor:
    """Eqs. 5, 8 and 9 with the inputs themselves as columns of R."""
    left = r - basis @ basis.T @ r
    u, s, _ = torch.linalg.svd(left, full_matrices=False)
    total, held = r.square().sum(), r.square().sum() - left.square().sum()
    k = 0
    while held + s[:k].square().sum() < share * total:
        k += 1
    return torch.cat([basis, u[:, :k]], dim=1)


def test_bases_are_those_of_the_singular_values_of_the_inputs() -> None:
    torch.manual_seed(0)
    mine, literal = torch.zeros(30, 0), torch.zeros(30, 0, dtype=torch.float64)
    mixing = torch.randn(30, 30, dtype=torch.float64) @ torch.logspace(0, -2, 30, dtype=torch.float64).diag()
    sizes = []
    for share in (0.9, 0.95, 0.95, 0.5, 0.999):
        r = mixing @ torch.randn(30, 50, dtype=torch.float64)
        mixing = mixing.roll(3, 0)
        mine, literal = with_residual(mine, r @ r.T, share), literal_gpm(literal, r, share)
        assert mine.shape == literal.shape
        assert (mine.double() @ mine.T.double() - literal @ literal.T).abs().max() < 1e-6
        assert energy_along(r @ r.T, mine).sum() >= (share - 1e-6) * r.square().sum()
        sizes.append(mine.shape[1])
    assert sizes[2] == sizes[3]  # nothing to add is allowed
    assert sizes == sorted(sizes) and sizes[0] > 0 and sizes[-1] <= 30


def test_a_full_basis_stays_full_and_an_empty_layer_adds_nothing() -> None:
    full = with_residual(torch.zeros(6, 0), torch.eye(6, dtype=torch.float64), 1.0)
    assert full.shape == (6, 6)
    assert with_residual(full, torch.rand(6, 6).double() @ torch.eye(6).double(), 1.0).shape == (6, 6)
    assert with_residual(torch.zeros(6, 0), torch.zeros(6, 6, dtype=torch.float64), 1.0).shape == (6, 0)
    assert torch.equal(projected(torch.randn(3, 6), full), torch.zeros(3, 6))


class GradientProjected(GPM):
    """As in the public code: the gradient is projected, and the optimiser does with it what it likes."""

    def _check(self, *args: Any) -> None:
        """Adam is let in."""

    def after_backward(self, batch: Batch) -> None:
        with torch.no_grad():
            for unit in self.units if self.n_learnt_ else ():
                gradient = self.model_.get_parameter(unit.weight).grad
                assert gradient is not None
                rows = unit.rows(gradient)
                rows.copy_(self.project(unit, rows))

    def after_step(self, batch: Batch) -> None:
        """Nothing is put back."""


class Carrying(Trainer):
    """Goes on with the optimiser of the task before, as Avalanche does by default."""

    kept: ClassVar[dict[str, torch.optim.Optimizer]] = {}

    def make(self, parameters: Any) -> torch.optim.Optimizer:
        return self.kept.setdefault("optimizer", super().make(parameters))


def trainer(cls: type[Trainer] = Trainer, **options: Any) -> Trainer:
    return cls(**{"epochs": 2, "batch_size": 20, "lr": 0.02, "momentum": 0.0, **options})


TRAINERS = {
    "plain": trainer(),
    "momentum": trainer(momentum=0.9),
    "weight decay": trainer(weight_decay=0.01),
    "carried momentum": trainer(Carrying, momentum=0.9),
}


@pytest.fixture(autouse=True)
def nothing_carried() -> None:
    Carrying.kept.clear()


@pytest.mark.parametrize("name", TRAINERS)
def test_updates_stay_out_of_the_bases_whatever_makes_them(name: str) -> None:
    check_updates_stay_outside(GPM(trainer=TRAINERS[name]))


@pytest.mark.parametrize("name", ["plain", "momentum"])
def test_projecting_the_gradient_does_for_fresh_sgd(name: str) -> None:
    check_updates_stay_outside(GradientProjected(trainer=TRAINERS[name]))


@pytest.mark.parametrize("name", ["weight decay", "carried momentum", "adam"])
def test_projecting_the_gradient_only_is_noticed(name: str) -> None:
    used = {**TRAINERS, "adam": trainer(optimizer="adam", lr=0.001)}[name]
    with pytest.raises(AssertionError, match="lies in the basis"):
        check_updates_stay_outside(GradientProjected(trainer=used))


@pytest.mark.parametrize("cls", [NotingGPM, NotingTRGP])
def test_with_all_energy_held_the_answers_to_old_samples_stand(cls: type[ProjectedSGD]) -> None:
    check_old_answers_stand(cls(trainer=FEW, **ALL))


@pytest.mark.parametrize("cls", [NotingGPM, NotingTRGP])
def test_answers_of_a_convolutional_network_stand(cls: type[ProjectedSGD]) -> None:
    few: dict[str, Any] = {**ALL, "n_samples": 2}
    model = partial(ConvNet, width=4, hidden=20)
    check_old_answers_stand(cls(trainer=FEW, **few), permuted(2), model)


class SharedStatistics(NotingGPM):
    """All tasks go on with the first one's batch-norm statistics."""

    def weights(self, label: int) -> dict[str, Tensor]:
        return super().weights(1)


def narrow(spec: StreamSpec) -> ReducedResNet18:
    return ReducedResNet18(spec, n_filters=2)


def test_answers_of_a_network_with_batch_norm_stand_because_each_task_has_its_statistics() -> None:
    check_old_answers_stand(NotingGPM(trainer=FEW, **ALL), permuted(2), narrow)
    with pytest.raises(AssertionError, match="have changed"):
        check_old_answers_stand(SharedStatistics(trainer=FEW, **ALL), permuted(2), narrow)


class Grouped(Model):
    """A grouped, strided convolution of an image and another of its lines, then the head."""

    def __init__(self, spec: StreamSpec) -> None:
        super().__init__()
        self.planes = nn.Conv2d(1, 4, 3, stride=2, padding=1)
        self.groups = nn.Conv2d(4, 8, 3, groups=2)
        self.lines = nn.Conv1d(16, 6, 2, groups=2, dilation=1)
        self.attach_head(6, spec, "linear", "sliced")

    def features(self, inputs: Inputs) -> Tensor:
        """Activations of the last convolution (B, 6)."""
        x = self.groups(self.planes(inputs["image"]).relu()).relu()
        made: Tensor = self.lines(x.flatten(1, 2)).flatten(1)
        return made


@pytest.mark.parametrize("cls", [NotingGPM, NotingTRGP])
def test_groups_of_a_convolution_have_bases_of_their_own(cls: type[ProjectedSGD]) -> None:
    few: dict[str, Any] = {"threshold": 0.8, "first_threshold": None, "trainer": trainer(lr=0.1, epochs=8)}
    strategy = cls(**few)
    check_updates_stay_outside(strategy, permuted(2), Grouped)
    shapes = {name: len(basis) for name, basis in strategy.bases_.items()}
    assert shapes == {
        "planes.weight": 9,
        "groups.weight[0]": 18,
        "groups.weight[1]": 18,
        "lines.weight[0]": 16,
        "lines.weight[1]": 16,
        "head.weight": 6,
    }
    check_old_answers_stand(cls(trainer=FEW, **{**ALL, "n_samples": 3}), permuted(2), Grouped)


def test_strided_convolutions_and_shortcuts_are_updated_outside_their_bases() -> None:
    options: dict[str, Any] = {"threshold": 0.6, "first_threshold": None}
    check_updates_stay_outside(GPM(trainer=FEW, **options), permuted(2), narrow)


def test_a_layer_whose_basis_is_full_is_never_changed_again() -> None:
    seen: list[Tensor] = []

    def look(strategy: Any, index: int) -> None:
        seen.append(strategy.model_.body[3].weight.detach().clone())
        if index == 1:
            strategy.bases_["body.3.weight"] = torch.linalg.qr(torch.randn(100, 100)).Q

    strategy = learnt(GPM(trainer=trainer(weight_decay=0.01, momentum=0.9)), look=look)
    assert strategy.bases_["body.3.weight"].shape == (100, 100)
    assert not torch.equal(seen[0], seen[1]) and torch.equal(seen[1], seen[3])


def test_bases_only_grow_and_fit() -> None:
    strategy = learnt(NotingGPM(trainer=FEW))
    assert isinstance(strategy, Noting)
    for unit, _, _, before, after in strategy.steps:
        assert before.shape[1] <= after.shape[1] <= len(after), unit
