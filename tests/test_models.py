"""Networks and heads: shapes, parameter counts, and what each head mode means."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from clbench.errors import BadInput
from clbench.models import MLP, ConvNet, Head, HeadMode, Model, ReducedResNet18
from clbench.state import freeze, load_state, save_state
from clbench.stream import ProtocolName, Query, StreamSpec

CPU = torch.device("cpu")


def spec(
    protocol: ProtocolName = "class-incremental", shape: tuple[int, ...] = (3, 32, 32), n: int | None = 10
) -> StreamSpec:
    return StreamSpec(protocol, {"image": shape}, "open" if n is None else "known", n)


def inputs(shape: tuple[int, ...], n: int = 4) -> dict[str, torch.Tensor]:
    return {"image": torch.rand(n, *shape, generator=torch.Generator().manual_seed(0))}


def asked(*classes: int) -> Query:
    return Query(None, classes, ())


# --- networks


@pytest.mark.parametrize(
    ("network", "shape", "n_features"),
    [
        (MLP, (1, 8, 8), 256),
        (MLP, (1, 28, 28), 256),
        (MLP, (3, 32, 32), 256),
        (MLP, (16,), 256),
        (ConvNet, (1, 8, 8), 256),
        (ConvNet, (1, 28, 28), 256),
        (ConvNet, (3, 32, 32), 256),
        (ReducedResNet18, (1, 28, 28), 160),
        (ReducedResNet18, (3, 32, 32), 160),
        (ReducedResNet18, (3, 64, 64), 160),
    ],
)
def test_a_network_gives_features_and_ten_logits(network: type[Model], shape: tuple[int, ...], n_features: int) -> None:
    model = network(spec(shape=shape)).eval()
    x = inputs(shape)
    with torch.no_grad():
        features = model.features(x)
        assert features.shape == (4, n_features) == (4, model.n_features)
        assert model(x).shape == (4, 10)
        torch.testing.assert_close(model(x), model.head(features))


def test_networks_for_images_refuse_rows() -> None:
    for network in (ConvNet, ReducedResNet18):
        with pytest.raises(BadInput, match="needs images"):
            network(spec(shape=(16,)))


@pytest.mark.parametrize(("n_classes", "expected"), [(100, 1_109_240), (10, 1_094_750)])
def test_the_reduced_resnet_has_the_parameters_of_the_one_in_the_gem_code(n_classes: int, expected: int) -> None:
    """Lopez-Paz and Ranzato's network, layer by layer: 20, 40, 80, 160 filters, two blocks each, no stem pooling."""

    def convolution(before: int, after: int, kernel: int) -> int:
        return before * after * kernel**2 + 2 * after  # and its batch norm

    total, before = convolution(3, 20, 3), 20
    for after in (20, 40, 80, 160):
        total += convolution(before, after, 3) + convolution(after, after, 3)
        total += 2 * convolution(after, after, 3)
        total += convolution(before, after, 1) if before != after else 0
        before = after
    total += 160 * n_classes + n_classes
    model = ReducedResNet18(spec(n=n_classes))
    assert sum(p.numel() for p in model.parameters()) == total == expected


def test_the_mlp_has_the_sizes_it_is_asked_for() -> None:
    model = MLP(spec(shape=(1, 28, 28)), width=100, depth=1)
    assert sum(p.numel() for p in model.parameters()) == 784 * 100 + 100 + 100 * 10 + 10


def test_restart_puts_the_initial_body_back_and_draws_the_head_anew() -> None:
    torch.manual_seed(0)
    model = ReducedResNet18(spec(), n_filters=4)
    initial = {k: v.clone() for k, v in model.state_dict().items()}
    model.train()
    model(inputs((3, 32, 32)))  # moves the running means
    with torch.no_grad():
        for p in model.parameters():
            p.add_(1.0)
    head = model.head.weight.clone()
    model.restart(initial)
    state = model.state_dict()
    assert all(torch.equal(state[k], initial[k]) for k in initial if not k.startswith("head."))
    assert not torch.equal(model.head.weight, head)
    assert model.head.weight.abs().max() <= 1 / math.sqrt(model.n_features)


# --- heads


def head(
    mode: HeadMode, protocol: ProtocolName = "class-incremental", n: int | None = 10, kind: Any = "linear"
) -> Head:
    torch.manual_seed(0)
    return Head(8, spec(protocol, n=n), kind, mode)


def test_a_sliced_head_has_a_row_per_class_from_the_start() -> None:
    h = head("sliced")
    assert h.rows((3, 7), None) == [3, 7]
    h.observe((3, 7), None)
    assert len(h.weight) == 10


def test_a_growing_head_keeps_old_rows_and_adds_one_per_new_class() -> None:
    h = head("growing", n=None)
    assert h.rows((4, 2), None) == [-1, -1]
    h.observe((2, 4), None)
    before = h.weight.detach().clone()
    h.observe((1, 4, 9), None)
    assert torch.equal(h.weight[:2], before)
    assert h.rows((2, 4, 1, 9, 0), None) == [0, 1, 2, 3, -1]
    assert len(h.weight) == 4


def test_a_shared_head_answers_by_position_in_the_task() -> None:
    h = head("shared", "task-incremental")
    h.observe((6, 7), 1)
    h.observe((1, 3, 5), 2)
    assert len(h.weight) == 3
    assert h.rows((7, 6), 1) == [1, 0]
    assert h.rows((1, 3, 5), 2) == [0, 1, 2]


def test_a_head_per_task_keeps_a_class_of_two_tasks_apart() -> None:
    h = head("per_task", "task-incremental")
    h.observe((0, 1), 1)
    h.observe((0, 1), 2)
    assert h.rows((0, 1), 1) == [0, 1]
    assert h.rows((0, 1), 2) == [2, 3]
    assert h.rows((0, 1), 3) == [-1, -1]


@pytest.mark.parametrize(
    ("mode", "protocol", "n", "message"),
    [
        ("sliced", "class-incremental", None, "use head_mode=growing"),
        ("per_task", "class-incremental", 10, "needs task labels"),
        ("per_task", "domain-incremental", 10, "needs task labels"),
        ("shared", "class-incremental", 10, "cannot tell classes of different tasks apart"),
        ("slice", "class-incremental", 10, "sliced.*growing"),
    ],
)
def test_a_head_mode_without_sense_is_refused(mode: Any, protocol: ProtocolName, n: int | None, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Head(8, spec(protocol, n=n), "linear", mode)
    if mode != "slice":
        return
    with pytest.raises(BadInput, match="cosine"):
        Head(8, spec(protocol), "cosin", "sliced")  # type: ignore[arg-type]


def test_cosine_logits_lie_within_the_scale_and_ignore_the_length_of_features() -> None:
    h = head("sliced", kind="cosine")
    assert h.bias is None
    assert h.scale is not None
    x = torch.randn(50, 8)
    logits = h(x)
    assert logits.abs().max() <= h.scale.item() + 1e-5
    torch.testing.assert_close(h(100 * x), logits)


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_a_grown_head_survives_saving_and_loading(tmp_path: Path, kind: Any) -> None:
    model = MLP(spec(shape=(1, 8, 8), n=None), width=16, head=kind, head_mode="growing")
    model.head.observe((3, 5), None)
    model.head.observe((0, 9), None)
    save_state(tmp_path / "state", freeze(model, "model_"))
    other = MLP(spec(shape=(1, 8, 8), n=None), width=16, head=kind, head_mode="growing")
    other.load_state_dict(load_state(tmp_path / "state"))
    assert other.head.rows((9, 0, 5, 3, 1), None) == [3, 2, 1, 0, -1]
    x = inputs((1, 8, 8))
    assert torch.equal(model(x), other(x))
    other.head.observe((1,), None)
    assert other.head.rows((1,), None) == [4]


def test_scores_are_minus_infinity_for_classes_without_a_row() -> None:
    model = MLP(spec(shape=(1, 8, 8), n=None), width=16, head_mode="growing")
    x = inputs((1, 8, 8))
    assert torch.isinf(model.scores(x, asked(0, 1))).all()
    model.head.observe((5, 2), None)
    saved = {k: v.clone() for k, v in model.state_dict().items()}
    scores = model.scores(x, asked(2, 3, 5))
    assert scores.shape == (4, 3)
    assert torch.isinf(scores[:, 1]).all()
    assert torch.equal(scores[:, [2, 0]], model(x))  # rows in the order they arrived
    model.head.observe((3,), None)
    old = model.scores(x, asked(2, 3, 5), weights=saved)  # a teacher from before class 3 arrived
    assert torch.isinf(old[:, 1]).all()
    assert torch.equal(old[:, 0], scores[:, 0])
