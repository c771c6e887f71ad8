"""Masks: exact counts, gradients straight through, bits; and what tasks keep for themselves."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from clbench.masks import (
    TaskParts,
    draw_scores,
    drop_biases,
    maskable,
    pack,
    signed_constant,
    straight_through,
    top_share,
    unpack,
)
from clbench.models import MLP, ConvNet, Model, ReducedResNet18
from clbench.state import freeze, load_state, save_state, state_bytes
from clbench.stream import Inputs, ProtocolName, StreamSpec


def spec(protocol: ProtocolName = "task-incremental") -> StreamSpec:
    return StreamSpec(protocol, {"image": (1, 8, 8)}, n_classes=10)


def images(n: int = 6) -> Tensor:
    return torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(0))


class Normed(Model):
    """Convolution, batch norm, layer norm over whole images and over features, and attention."""

    def __init__(self, spec: StreamSpec) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.LayerNorm([3, 8, 8]))
        self.last = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.LayerNorm(8))
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        for parameter in self.parameters():
            nn.init.normal_(parameter)
        self.attach_head(8, spec, "linear", "sliced")

    def features(self, inputs: Inputs) -> Tensor:
        tokens = self.last(self.body(inputs["image"]))[:, None]
        attended: Tensor = self.attention(tokens, tokens, tokens)[0][:, 0]
        return attended


@pytest.mark.parametrize("density", [0.001, 0.02, 0.05, 0.1, 0.3, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("shape", [(7, 9), (10, 100), (3, 2, 3, 3)])
def test_a_mask_has_exactly_as_many_entries_as_its_density_says(density: float, shape: tuple[int, ...]) -> None:
    n = math.prod(shape)
    wanted = n - int((1 - density) * n)
    for scores in (torch.randn(shape), torch.zeros(shape), torch.ones(shape), torch.randint(-2, 3, shape).float()):
        mask = top_share(scores, density)
        assert mask.shape == scores.shape and int(mask.sum()) == wanted
        if 0 < wanted < n:
            assert scores[mask].abs().min() >= scores[~mask].abs().max()


Through = Callable[[Tensor, Tensor], Tensor]


def gradient(through: Through) -> tuple[Tensor, Tensor, Tensor]:
    """That of a layer's scores, and what it has to be, in scores of both signs; and the mask."""
    torch.manual_seed(0)
    weight, scores, x = torch.randn(5, 20), torch.randn(5, 20, requires_grad=True), torch.randn(8, 20)
    mask = top_share(scores, 0.2)
    (found,) = torch.autograd.grad((x @ (weight * through(mask, scores)).T).square().sum(), scores)
    masked = (weight * mask).requires_grad_()
    (by_weight,) = torch.autograd.grad((x @ masked.T).square().sum(), masked)
    return found, scores.detach().sign() * weight * by_weight, mask


def test_the_gradient_of_ranked_scores_is_that_of_the_masked_weight_with_their_sign() -> None:
    found, wanted, mask = gradient(lambda mask, scores: straight_through(mask, scores.abs()))
    assert torch.allclose(found, wanted, rtol=1e-5, atol=1e-5)
    assert (found[~mask] != 0).any(), "what is masked out can come back"


@pytest.mark.parametrize(
    "planted",
    [straight_through, lambda mask, scores: mask * scores.abs() / scores.detach().abs()],
    ids=["without the sign", "through the kept ones only"],
)
def test_a_planted_gradient_without_the_sign_or_without_masked_out_entries_is_caught(planted: Through) -> None:
    found, wanted, _ = gradient(planted)
    assert not torch.allclose(found, wanted, rtol=1e-3, atol=1e-3)


def test_a_mask_goes_straight_through_as_exact_zeros_and_ones() -> None:
    scores = torch.randn(1000) * 100
    assert torch.equal(straight_through(scores >= 0, scores), (scores >= 0).float())


@pytest.mark.parametrize("shape", [(1,), (7,), (8,), (9,), (3, 5, 2), (64, 64)])
def test_masks_come_back_from_their_bits(shape: tuple[int, ...]) -> None:
    for mask in (torch.rand(shape) < 0.3, torch.zeros(shape, dtype=torch.bool), torch.ones(shape, dtype=torch.bool)):
        bits = pack(mask)
        assert state_bytes(bits) == math.ceil(mask.numel() / 8)
        assert torch.equal(unpack(bits, shape), mask)


def test_rows_that_a_layer_has_grown_are_in_no_earlier_mask() -> None:
    mask = torch.ones(3, 5, dtype=torch.bool)
    grown = unpack(pack(mask), (6, 5))
    assert grown[:3].all() and not grown[3:].any()


def test_base_weights_are_the_signs_times_the_deviation_of_he() -> None:
    for shape in ((30, 50), (8, 4, 3, 3)):
        weight = torch.randn(shape)
        constant = signed_constant(weight)
        assert torch.equal(constant.sign(), weight.sign())
        he = nn.init.kaiming_normal_(torch.empty(2000, *shape[1:]), nonlinearity="relu").std()
        assert constant.abs().unique().numel() == 1  # type: ignore[no-untyped-call]
        assert float(constant.abs().max()) == pytest.approx(float(he), rel=0.05)


def test_scores_are_drawn_as_torch_draws_weights() -> None:
    torch.manual_seed(0)
    scores = draw_scores(torch.empty(200, 49))
    assert float(scores.abs().max()) == pytest.approx(1 / 7, rel=0.01)
    assert float(scores.std()) == pytest.approx(float(nn.Linear(49, 200).weight.detach().std()), rel=0.03)


@pytest.mark.parametrize("make", [Normed, ConvNet, ReducedResNet18, MLP])
def test_dropping_biases_leaves_plain_norms_and_the_weights_as_they_were(make: Callable[..., Model]) -> None:
    model = make(spec())
    weights = {name: weight.detach().clone() for name, weight in maskable(model).items()}
    drop_biases(model)
    others = [(n, p) for n, p in model.named_parameters() if n not in weights and n != "attention.in_proj_weight"]
    assert others
    for name, parameter in others:
        assert not parameter.requires_grad, name
        assert (parameter == (0 if name.endswith("bias") else 1)).all(), name
    assert all(torch.equal(weight, weights[name]) for name, weight in maskable(model).items())


@pytest.mark.parametrize(
    ("kind", "mode", "masked"),
    [("linear", "sliced", True), ("linear", "shared", True), ("linear", "growing", False), ("cosine", "sliced", False)],
)
def test_a_head_is_masked_where_all_tasks_share_its_rows(kind: str, mode: str, masked: bool) -> None:
    names = maskable(MLP(spec(), 16, 2, head=kind, head_mode=mode))  # type: ignore[arg-type]
    assert set(names) - {"head.weight"} == {"body.1.weight", "body.3.weight"}
    assert ("head.weight" in names) == masked


def train_briefly(model: Model, own: TaskParts, task: int, scale: float) -> Tensor:
    """Fill a task's statistics with images of its own scale; gives its answers afterwards."""
    model.head.observe((2 * task, 2 * task + 1), task)
    own.begin(task)
    model.train()
    for _ in range(5):
        functional_call(model, own.of(task), ({"image": scale * images() + task},))
    with torch.no_grad():
        model.head.weight.add_(torch.randn_like(model.head.weight))
    own.end(task, model.head.rows((2 * task, 2 * task + 1), task))
    return answers(model, own, task)


def answers(model: Model, own: TaskParts, task: int) -> Tensor:
    model.eval()
    rows = model.head.rows((2 * task, 2 * task + 1), task)
    with torch.no_grad():
        logits: Tensor = functional_call(model, own.of(task), ({"image": images()},))
    return logits[:, rows]


def test_what_is_a_tasks_own_stays_and_comes_back_from_a_file(tmp_path: Path) -> None:
    model = ReducedResNet18(spec(), n_filters=2, head_mode="growing")
    untouched = {name: buffer.clone() for name, buffer in model.named_buffers() if not name.startswith("head.")}
    own = TaskParts(model)
    then = {task: train_briefly(model, own, task, scale) for task, scale in ((1, 1.0), (2, 30.0), (3, 0.1))}
    for task, logits in then.items():
        assert torch.equal(answers(model, own, task), logits)
    assert all(torch.equal(model.get_buffer(name), buffer) for name, buffer in untouched.items())
    save_state(tmp_path / "own", freeze(own, "own"))
    loaded = TaskParts(model)
    loaded.load_state_dict(load_state(tmp_path / "own"))
    for task, logits in then.items():
        assert torch.equal(answers(model, loaded, task), logits)


def test_a_task_not_begun_has_nothing_of_its_own() -> None:
    assert TaskParts(ReducedResNet18(spec(), n_filters=2)).of(1) == {}
