"""What is put into pretrained networks: how much is trained, what it does before training, and what stays as it was."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from clbench.backbones import Network
from clbench.backbones.efficientnet_lite import EfficientNetLite
from clbench.backbones.text_encoder import TextEncoder
from clbench.backbones.timm_model import TimmModel, TimmNetwork
from clbench.checks.small_backbone import SmallBackbone
from clbench.checks.streams import fresh_stream
from clbench.errors import BadInput, NonFiniteLoss
from clbench.seeds import Seeds
from clbench.stream import Feed, Inputs, Split, Task, TaskView
from clbench.torchvision_schemas import declare_torchvision_schemas
from clbench.tuning import Tune, Tuning, redraw, trained
from clbench.tuning.prompts import Prompts
from clbench.tuning.scale_shift import ScaleShift

TRANSFORMER: list[Tune] = ["vpt_shallow", "vpt_deep", "ssf", "adapter"]
FEED = partial(Feed, Seeds.of(0).generator)
SENTENCES = ["what is my balance", "please book a table for two people at seven tonight", "hi"]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@cache
def kept(name: str) -> Network:
    if name == "lite0":
        return EfficientNetLite().network()
    return TextEncoder().network() if name == "minilm" else SmallBackbone(kind=name).network()  # type: ignore[arg-type]


def network(name: str) -> Network:
    return copy.deepcopy(kept(name))


@cache
def inputs_of(name: str) -> Inputs:
    if name == "minilm":
        tokens, mask = TextEncoder().tokenize(SENTENCES)
        return {"tokens": tokens, "mask": mask}
    size = 64 if name == "lite0" else 8
    return {"image": torch.rand(3, 3, size, size, generator=torch.Generator().manual_seed(0))}


def with_inserted(name: str, tune: Tune, **options: Any) -> Network:
    made = network(name)
    Tuning(tune=tune, epochs=1, **options).insert(made)
    return made


@torch.no_grad()
def features(made: Network, inputs: Inputs) -> Tensor:
    found: Tensor = made.eval()(inputs)
    return found


def neutral(made: Network) -> Network:
    """All scales one and all shifts zero."""
    with torch.no_grad():
        for module in made.modules():
            if isinstance(module, ScaleShift):
                module.scale.fill_(1)
                module.shift.zero_()
    return made


def task(setting: Any = "transformer") -> TaskView:
    stream = fresh_stream("class-incremental", setting=setting).reading(("image",))
    return TaskView(stream.tasks[0], "class-incremental", FEED())


@pytest.mark.parametrize(
    ("tune", "count"),
    [
        ("vpt_shallow", 3_840),
        ("vpt_deep", 46_080),
        ("ssf", 205_824),
        ("adapter", 1_189_632),
        ("finetune", 85_798_656),
    ],
)
def test_in_vit_b16_as_many_parameters_are_trained_as_the_authors_logs_say(tune: Tune, count: int) -> None:
    made = TimmModel(name="vit_base_patch16_224", weights="random").network_on("meta")
    tuning = Tuning(tune=tune, epochs=1)
    tuning.insert(made)
    assert sum(p.numel() for p in trained(made).values()) == count


@pytest.mark.parametrize("name", ["transformer", "minilm"])
def test_an_adapter_changes_nothing_before_training(name: str) -> None:
    made = with_inserted(name, "adapter")
    assert torch.equal(features(made, inputs_of(name)), features(network(name), inputs_of(name)))


@pytest.mark.parametrize("name", ["transformer", "minilm", "convolutional", "lite0"])
def test_scales_of_one_and_shifts_of_zero_change_nothing(name: str) -> None:
    made, plain = with_inserted(name, "ssf"), network(name)
    if name in ("convolutional", "lite0"):
        plain.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    wanted = features(plain, inputs_of(name))
    assert not torch.equal(features(made, inputs_of(name)), wanted)
    assert torch.equal(features(neutral(made), inputs_of(name)), wanted)


@pytest.mark.parametrize("kind", [nn.BatchNorm2d, nn.Identity])
def test_scales_and_shifts_follow_every_batch_norm_and_every_convolution_where_there_is_none(
    kind: type[nn.Module],
) -> None:
    body = nn.Sequential(nn.Conv2d(3, 4, 3), kind(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    body.num_features = 4  # type: ignore[assignment]
    made = TimmNetwork(body, (0.0,), (1.0,)).eval()
    images = {"image": torch.rand(2, 3, 8, 8)}
    plain = features(copy.deepcopy(made).to(memory_format=torch.channels_last), images)  # type: ignore[call-overload]
    Tuning(tune="ssf", epochs=1).insert(made)
    (module,) = (m for m in neutral(made).modules() if isinstance(m, ScaleShift))
    assert torch.equal(features(made, images), plain)
    with torch.no_grad():
        module.shift.fill_(100.0)
    assert torch.allclose(features(made, images), plain + 100, atol=5)
    assert sum(p.numel() for p in trained(made).values()) == 8


@pytest.mark.parametrize("tune", ["vpt_shallow", "vpt_deep"])
@pytest.mark.parametrize("name", ["transformer", "minilm"])
def test_prompts_of_zeros_take_attention_and_so_change_features(name: str, tune: Tune) -> None:
    made = with_inserted(name, tune)
    assert all(not m.tokens.any() for m in made.modules() if isinstance(m, Prompts))
    found, plain = features(made, inputs_of(name)), features(network(name), inputs_of(name))
    assert found.shape == plain.shape and not torch.allclose(found, plain, atol=1e-4)


@pytest.mark.parametrize("tune", ["vpt_shallow", "vpt_deep"])
def test_prompts_of_zeros_stay_equal_to_each_other_in_training(tune: Tune) -> None:
    made = with_inserted("transformer", tune)
    Tuning(tune=tune, epochs=2, lr=0.5).fit(made, task())
    for module in made.modules():
        if isinstance(module, Prompts):
            assert bool(module.tokens[0].any())
            assert torch.allclose(module.tokens, module.tokens[:1].expand_as(module.tokens), atol=1e-6)


def test_random_prompts_differ_from_each_other() -> None:
    made = with_inserted("transformer", "vpt_shallow", token_init="random")
    (module,) = (m for m in made.modules() if isinstance(m, Prompts))
    assert len(torch.unique(module.tokens, dim=0)) == 5


@pytest.mark.parametrize("tune", ["vpt_shallow", "vpt_deep"])
def test_where_prompts_stand_makes_no_difference(tune: Tune) -> None:
    made = with_inserted("transformer", tune, token_init="random")
    after: list[Tensor] = []
    body: Any = made.body
    body.norm.register_forward_pre_hook(lambda module, args: after.append(args[0]))
    found = features(made, inputs_of("transformer")).double()
    assert after[0].shape[1] == 1 + 4, "class token and patches only"
    assert torch.allclose(found, _behind_the_class_token(made, tune), atol=1e-5)


@torch.no_grad()
def _behind_the_class_token(made: Network, tune: Tune) -> Tensor:
    """The same network written out, with the prompts as tokens 1 to 5."""
    other = network("transformer").eval()
    prompts = [m.tokens for m in made.modules() if isinstance(m, Prompts)]
    body: Any = other.body
    x = body._pos_embed(body.patch_embed((inputs_of("transformer")["image"] - 0.5) / 0.5))
    for k, block in enumerate(body.blocks):
        if k == 0 or tune == "vpt_deep":
            rest = x[:, 1:] if k == 0 else x[:, 6:]
            x = torch.cat([x[:, :1], prompts[k].expand(len(x), -1, -1), rest], dim=1)
        x = block(x)
    found: Tensor = body.norm(x)[:, 0]
    return found.double()


@pytest.mark.parametrize("tune", TRANSFORMER)
def test_padding_makes_no_difference_to_a_sentence(tune: Tune) -> None:
    made = with_inserted("minilm", tune, **({"token_init": "random"} if "vpt" in tune else {}))
    together = features(made, inputs_of("minilm"))
    alone = [features(made, {k: v[n : n + 1] for k, v in inputs_of("minilm").items()}) for n in range(len(SENTENCES))]
    assert torch.allclose(together, torch.cat(alone), atol=1e-5)


@pytest.mark.parametrize("pool", ["avg", "token"])
def test_pooling_sees_the_network_s_own_tokens_only(pool: Any) -> None:
    declare_torchvision_schemas()
    from timm.models.vision_transformer import VisionTransformer

    size: dict[str, Any] = {"img_size": 8, "patch_size": 4, "embed_dim": 32, "depth": 2, "num_heads": 2}
    body = VisionTransformer(num_classes=0, global_pool=pool, **size)
    made = TimmNetwork(body, (0.5,), (0.5,)).eval()
    Tuning(tune="vpt_deep", epochs=1).insert(made)
    lengths: list[int] = []
    body.blocks.register_forward_hook(lambda module, args, output: lengths.append(output.shape[1]))
    assert features(made, inputs_of("transformer")).shape == (3, 32)
    assert lengths == [5]
    Tuning(tune="ssf", epochs=1).insert(made)
    shifts = sum(isinstance(m, ScaleShift) for m in made.modules())
    assert shifts == 1 + 2 * 6 + 1, "the final norm has one, wherever timm puts it"


@pytest.mark.parametrize(
    ("name", "tune"), [*(("transformer", t) for t in TRANSFORMER), ("convolutional", "ssf"), ("lite0", "ssf")]
)
def test_only_what_was_put_in_is_trained_and_the_rest_stays_bit_by_bit(name: str, tune: Tune) -> None:
    made = with_inserted(name, tune)
    before = {k: v.clone() for k, v in made.state_dict().items()}
    new = set(trained(made))
    assert new and new.isdisjoint(network(name).state_dict())
    if name == "lite0":
        made.train()
        made(inputs_of("lite0")).square().mean().backward()
        assert all(p.grad is not None for p in trained(made).values())
        assert all(p.grad is None for k, p in made.named_parameters() if k not in new)
        return
    Tuning(tune=tune, epochs=1).fit(made, task(name))
    changed = {k for k, v in made.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == new
    assert not any(module.training for module in made.modules())


@pytest.mark.parametrize("tune", ["adapter", "ssf"])
def test_training_moves_sentences_of_a_class_together_and_of_two_classes_apart(tune: Tune) -> None:
    ends = ["", " now", " as soon as you can, if that is all right with you", " please"]
    texts = [f"{start}{end}" for start in ("book a table", "order food", "call a cab") * 2 for end in ends]
    tokens, mask = TextEncoder().tokenize(texts)
    y = torch.arange(len(texts)) // 4 % 3
    inputs = {"tokens": tokens.int(), "mask": mask.to(torch.uint8)}
    split = Split(inputs, y, np.arange(len(texts)))
    view = TaskView(Task(1, "one", (0, 1, 2), ("a", "b", "c"), split, split, ""), "class-incremental", FEED())
    made = with_inserted("minilm", tune)

    def gap() -> float:
        found = features(made, inputs)
        cosines, same = found @ found.T, y[:, None] == y
        return float(cosines[same].mean() - cosines[~same].mean())

    before = gap()
    Tuning(tune=tune, epochs=6, lr=2.0, batch_size=24, weight_decay=0.0).fit(made, view)
    assert gap() > before + 0.01


def test_finetuning_trains_everything() -> None:
    made = with_inserted("convolutional", "finetune")
    before = copy.deepcopy(made.state_dict())
    Tuning(tune="finetune", epochs=1).fit(made, task("convolutional"))
    assert all(not torch.equal(v, before[k]) for k, v in made.state_dict().items())


@pytest.mark.parametrize(("name", "tune"), [("transformer", "adapter"), ("minilm", "vpt_deep"), ("lite0", "ssf")])
def test_a_network_with_modules_is_copied_and_loaded_like_any_other(name: str, tune: Tune) -> None:
    made = with_inserted(name, tune)
    with torch.no_grad():
        for parameter in trained(made).values():
            parameter += 0.01 * torch.randn_like(parameter)
    wanted = features(made, inputs_of(name))
    other = with_inserted(name, tune)
    other.load_state_dict(made.state_dict())
    assert torch.equal(features(other, inputs_of(name)), wanted)
    copied = copy.deepcopy(made)
    redraw(made)
    assert torch.equal(features(copied, inputs_of(name)), wanted)
    assert not torch.equal(features(made, inputs_of(name)), wanted)


@pytest.mark.parametrize("name", ["convolutional", "lite0"])
def test_new_statistics_are_those_of_the_data_and_nothing_else_changes(name: str) -> None:
    made = with_inserted(name, "batch_norm")
    before = copy.deepcopy(made.state_dict())
    view = task("convolutional") if name == "convolutional" else _enlarged()
    tuning = Tuning(tune="batch_norm", epochs=2, batch_size=16)
    tuning.fit(made, view)
    changed = {k for k, v in made.state_dict().items() if not torch.equal(v, before[k])}
    assert changed and all(k.endswith(("running_mean", "running_var", "num_batches_tracked")) for k in changed)
    again = with_inserted(name, "batch_norm")
    tuning.fit(again, task("convolutional") if name == "convolutional" else _enlarged())
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in made.state_dict().items())
    if name == "convolutional":
        body: Any = made.body
        seen = [b.raw["image"].expand(-1, 3, -1, -1) for b in task(name).batches(16, 2, "tune")]
        batches = [body[0]((images - 0.5) / 0.5) for images in seen]
        means = torch.stack([b.mean((0, 2, 3)) for b in batches])
        assert torch.allclose(body[1].running_mean, means.mean(0), atol=1e-5)
        assert torch.allclose(body[1].running_var, torch.stack([b.var((0, 2, 3)) for b in batches]).mean(0), atol=1e-5)


def _enlarged() -> TaskView:
    """A task of a few digits, 32 pixels wide."""
    stream = fresh_stream("class-incremental", setting="plain").reading(("image",))
    whole = stream.tasks[0]
    rows = torch.arange(40)
    images = nn.functional.interpolate(whole.train.take(rows)["image"], size=32)
    split = replace(whole.train, inputs={"image": images}, y=whole.train.labels[rows], index=whole.train.index[:40])
    return TaskView(replace(whole, train=split), "class-incremental", FEED())


def test_without_a_pass_the_statistics_stay() -> None:
    made = with_inserted("convolutional", "batch_norm")
    Tuning(tune="batch_norm", epochs=0).fit(made, task("convolutional"))
    assert all(torch.equal(v, network("convolutional").state_dict()[k]) for k, v in made.state_dict().items())


@pytest.mark.parametrize(
    ("name", "tune", "words"),
    [
        ("lite0", "vpt_deep", "vpt goes into transformers.*takes: finetune, ssf, batch_norm"),
        ("convolutional", "adapter", "an adapter goes into transformers"),
        ("transformer", "batch_norm", "VisionTransformer has none"),
        ("minilm", "batch_norm", "BertModel has none"),
        ("transformer", "adaptor", "did you mean 'adapter'"),
    ],
)
def test_what_does_not_fit_is_refused_and_what_does_is_named(name: str, tune: Any, words: str) -> None:
    with pytest.raises(BadInput, match=f"(?s){words}"):
        with_inserted(name, tune)


@pytest.mark.parametrize("options", [{"lr": 0.0}, {"lr": float("nan")}, {"batch_size": 0}, {"n_tokens": 0}])
def test_settings_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="tuning needs"):
        with_inserted("transformer", "vpt_deep", **options)


def test_a_loss_that_is_not_finite_ends_the_training() -> None:
    tuning = Tuning(tune="finetune", epochs=3, lr=1e30)
    with pytest.raises(NonFiniteLoss, match="try a smaller lr"):
        tuning.fit(with_inserted("convolutional", "finetune"), task("convolutional"))


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "convnext_atto", "eva02_base_patch14_224"])
def test_ssf_is_refused_by_a_network_whose_layers_it_would_miss(name: str) -> None:
    declare_torchvision_schemas()
    import timm

    with torch.device("meta"):
        body = timm.create_model(name, pretrained=False, num_classes=0)
    with pytest.raises(BadInput, match="ssf goes into plain vision transformers"):
        Tuning(tune="ssf", epochs=1).insert(TimmNetwork(body, (0.5,), (0.5,)))
