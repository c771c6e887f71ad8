"""What is put into pretrained networks: how many parameters it has, what it does before training, and where it fits."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from clbench.backbones import Network
from clbench.backbones.timm_model import TimmModel, TimmNetwork
from clbench.errors import BadInput
from clbench.torchvision_schemas import declare_torchvision_schemas
from clbench.tuning import Tune, Tuning, redraw, trained
from clbench.tuning.prompts import Prompts
from clbench.tuning.scale_shift import ScaleShift
from tests.tuned_networks import SENTENCES, TRANSFORMER, features, inputs_of, network, with_inserted

pytestmark = pytest.mark.usefixtures("one_thread")


def neutral(made: Network) -> Network:
    """All scales one and all shifts zero."""
    with torch.no_grad():
        for module in made.modules():
            if isinstance(module, ScaleShift):
                module.scale.fill_(1)
                module.shift.zero_()
    return made


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


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "convnext_atto", "eva02_base_patch14_224"])
def test_ssf_is_refused_by_a_network_whose_layers_it_would_miss(name: str) -> None:
    declare_torchvision_schemas()
    import timm

    with torch.device("meta"):
        body = timm.create_model(name, pretrained=False, num_classes=0)
    with pytest.raises(BadInput, match="ssf goes into plain vision transformers"):
        Tuning(tune="ssf", epochs=1).insert(TimmNetwork(body, (0.5,), (0.5,)))
