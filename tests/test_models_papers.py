"""The networks of the supermask and gradient-projection papers: sizes counted by hand, and no bias anywhere."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import clbench
from clbench.errors import BadInput
from clbench.models import AlexNet, BiasFreeMLP, LeNet, Model
from clbench.places import config
from clbench.plugins import import_class
from clbench.stream import ProtocolName, StreamSpec

COLOUR, DIGIT = (3, 32, 32), (1, 28, 28)
CONFIGURED: dict[str, tuple[tuple[int, ...], int, int]] = {  # input, weights below the head, features
    "mlp_2x100": (DIGIT, 784 * 100 + 100 * 100, 100),
    "lenet_300_100": (DIGIT, 784 * 300 + 300 * 100, 100),
    "lenet": (COLOUR, 3 * 20 * 25 + 20 * 50 * 25 + (50 * 5 * 5) * 800 + 800 * 500, 500),
    "alexnet": (COLOUR, 3 * 64 * 16 + 64 * 128 * 9 + 128 * 256 * 4 + (256 * 2 * 2) * 2048 + 2048 * 2048, 2048),
}


def spec(shape: tuple[int, ...], protocol: ProtocolName = "task-incremental", n: int = 10) -> StreamSpec:
    return StreamSpec(protocol, {"image": shape}, "known", n)


def made(name: str, shape: tuple[int, ...] = COLOUR, **options: Any) -> Model:
    """The configured network, with some options changed."""
    settings = {**config("model", name), **options}
    model = import_class(settings.pop("_target_"), Model, "model")(spec(shape), **settings)
    assert isinstance(model, Model)
    return model


def images(shape: tuple[int, ...], n: int = 4) -> dict[str, torch.Tensor]:
    return {"image": torch.rand(n, *shape, generator=torch.Generator().manual_seed(0))}


@pytest.mark.parametrize("name", CONFIGURED)
def test_a_network_of_the_papers_has_their_weights_and_no_others(name: str) -> None:
    shape, weights, features = CONFIGURED[name]
    model = made(name, shape).eval()
    assert sum(p.numel() for p in model.parameters()) == weights + features * 10
    with torch.no_grad():
        hidden = model.features(images(shape))
        assert hidden.shape == (4, features) == (4, model.n_features)
        torch.testing.assert_close(model(images(shape)), hidden @ model.head.weight.T)


@pytest.mark.parametrize("name", [*CONFIGURED, "resnet18_bias_free"])
def test_no_parameter_is_a_bias_and_every_one_is_a_weight_of_a_layer_or_the_head(name: str) -> None:
    for mode in ("sliced", "shared", "per_task"):
        model = made(name, head_mode=mode)
        assert model.head.bias is None
        assert not [n for n, p in model.named_parameters() if not n.endswith("weight") or p.dim() < 2]


@pytest.mark.parametrize("name", [*CONFIGURED, "resnet18_bias_free"])
def test_spare_rows_come_after_those_of_the_classes_and_answer_for_none(name: str) -> None:
    model = made(name, spare=90).eval()
    assert len(model.head.weight) == 100
    assert model(images(COLOUR)).shape == (4, 100)
    assert model.head.rows(range(10), 1) == list(range(10))
    with pytest.raises(BadInput, match="spare rows belong to head=linear with head_mode=sliced or shared"):
        made(name, spare=90, head_mode="per_task")


def test_the_bias_free_resnet_is_the_reduced_one_without_biases_scales_and_shifts() -> None:
    plain, free = made("resnet18_reduced"), made("resnet18_bias_free")
    norms = 20 + 4 * (20 + 40 + 80 + 160) + 40 + 80 + 160  # channels: the stem's, four in each stage, three shortcuts
    sizes = [sum(p.numel() for p in model.parameters()) for model in (plain, free)]
    assert sizes[0] - sizes[1] == 2 * norms + 10
    assert {n for n, p in plain.named_parameters() if p.dim() > 1} == {n for n, _ in free.named_parameters()}
    assert len([n for n, _ in free.named_buffers() if n.endswith("running_mean")]) == 20


def test_the_weights_of_the_reduced_resnet_are_drawn_as_ever() -> None:
    drawn = []
    for name in ("resnet18_reduced", "resnet18_bias_free"):
        torch.manual_seed(0)
        drawn.append(dict(made(name, n_filters=4).named_parameters()))
    assert all(torch.equal(drawn[0][name], weight) for name, weight in drawn[1].items())


def test_the_wide_lenet_of_wsn_is_two_options_away() -> None:
    model = made("lenet", channels=[64, 128], widths=[2500, 1500])
    weights = 3 * 64 * 25 + 64 * 128 * 25 + (128 * 5 * 5) * 2500 + 2500 * 1500
    assert sum(p.numel() for p in model.parameters()) == weights + 1500 * 10


def test_widths_left_out_are_those_of_the_configuration() -> None:
    for network, name in ((BiasFreeMLP, "mlp_2x100"), (LeNet, "lenet")):
        default, configured = network(spec(COLOUR)), made(name)
        assert {n: p.shape for n, p in default.named_parameters()} == {
            n: p.shape for n, p in configured.named_parameters()
        }


@pytest.mark.parametrize("widths", [[], [100, 0], [100, -1], [1.5], [True], "100", 100, None])
def test_widths_that_are_no_sizes_of_layers_are_refused(widths: Any) -> None:
    with pytest.raises(BadInput, match="widths must be a list of positive whole numbers, one for each layer; got"):
        BiasFreeMLP(spec(DIGIT), widths)
    with pytest.raises(BadInput, match="channels must be a list"):
        LeNet(spec(COLOUR), widths)


@pytest.mark.parametrize(("network", "smallest"), [(AlexNet, 19), (LeNet, 16)])
def test_images_too_small_for_the_convolutions_are_refused_and_larger_ones_fit(
    network: type[Model], smallest: int
) -> None:
    with pytest.raises(BadInput, match=f"images of {smallest - 1} pixels a side are too small.*model=mlp_2x100"):
        network(spec((1, smallest - 1, smallest - 1)))
    at_32 = sum(p.numel() for p in network(spec(COLOUR)).parameters())
    for side in (smallest, 28, 64):
        model = network(spec((3, side, side))).eval()
        assert torch.isfinite(model(images((3, side, side), 2))).all()
        assert side < 32 or sum(p.numel() for p in model.parameters()) == at_32
    with pytest.raises(BadInput, match="needs images"):
        network(spec((64,)))


def test_the_pooling_to_a_fixed_size_changes_nothing_at_32_pixels() -> None:
    for network in (AlexNet, LeNet):
        model = network(spec(COLOUR)).eval()
        pooling = [layer for layer in model.body if isinstance(layer, torch.nn.AdaptiveAvgPool2d)]
        seen: list[tuple[torch.Tensor, torch.Tensor]] = []
        pooling[0].register_forward_hook(lambda _, given, result, seen=seen: seen.append((given[0], result)))
        model(images(COLOUR))
        assert len(pooling) == len(seen) == 1 and torch.equal(*seen[0])


def test_alexnet_drops_units_in_training_only_and_answers_each_image_by_itself() -> None:
    torch.manual_seed(0)
    model, x = AlexNet(spec(COLOUR)), images(COLOUR)
    assert not torch.equal(model(x), model(x))
    model.eval()
    alone = torch.cat([model({"image": image[None]}) for image in x["image"]])
    torch.testing.assert_close(model(x), alone)


@pytest.mark.parametrize(
    ("name", "mode"), [("mlp_2x100", "per_task"), ("mlp_2x100", "shared"), ("lenet_300_100", "sliced")]
)
def test_a_bias_free_network_learns_digits_with_every_kind_of_head(name: str, mode: str, tmp_path: Any) -> None:
    options = [f"model={name}", f"model.head_mode={mode}", "trainer=adam", "trainer.epochs=3"]
    record = clbench.run("labelled_digits-v1", "naive", records=tmp_path, overrides=options)
    assert record.matrix().values[1, 0] > 0.95, "the first task, just after it was learnt"


def test_a_bias_free_mlp_reads_features_where_there_are_any() -> None:
    both = StreamSpec("task-incremental", {"image": COLOUR, "features": (16,)}, "known", 10)
    model = BiasFreeMLP(both, [8])
    assert model.reads == ("features",)
    assert model({"features": torch.rand(2, 16)}).shape == (2, 10)
