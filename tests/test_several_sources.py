"""Several data sets as one, a task each; solar cells out of a package; and emoji by their categories."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clbench.cards import Scenario
from clbench.data import Source, load_source
from clbench.errors import BadInput, DataMissing
from clbench.places import cards
from clbench.seeds import Seeds
from clbench.stream import TaskStream
from tests.real_data import DATA
from tests.toy_streams import build

CARD = "five_datasets_small-v1"
DIGITS, MNIST = {"source": "digits"}, {"source": "mnist5k"}
CIFAR = {"name": "CIFAR-10", "source": "folder", "path": "cifar10_jpeg.zip", "layout": "split/class"}


def several(*of: dict[str, Any], data_dir: Path = DATA, **options: Any) -> Source:
    return load_source({"source": "several", "of": list(of), "size": 16, **options}, data_dir)


def stream(name: str, seed: int = 0) -> TaskStream:
    return Scenario.from_card(cards()[name]).build(Seeds.of(seed), DATA)


def paths(root: Path, halves: tuple[str, ...], value: int, n: int = 4, side: int = 16) -> str:
    """A small folder of grey pictures, the number of each in its pixels."""
    for half in halves:
        for kind in ("one", "two"):
            folder = root / half / kind
            folder.mkdir(parents=True)
            for k in range(n):
                Image.fromarray(np.full((side, side), value + k, np.uint8)).save(folder / f"{k}.png")
    return root.name


# --- several


def test_the_five_data_sets_are_five_tasks_in_the_order_of_the_card_with_labels_of_their_own() -> None:
    tasks = stream(CARD).tasks
    assert [t.name for t in tasks] == ["digits", "MNIST", "CIFAR-10", "emoji", "solar cells"]
    assert [len(t.classes) for t in tasks] == [10, 10, 10, 9, 4]
    assert [c for t in tasks for c in t.classes] == list(range(43))
    assert [t.class_names[0] for t in tasks[:3]] == ["digits 0", "MNIST 0", "CIFAR-10 airplane"]
    assert tasks[4].class_names[-1] == "solar cells defect probability 100 %"
    for task in tasks:
        counts = np.bincount(np.concatenate([task.train.labels, task.test.labels]))[task.classes[0] :]
        assert counts.max() <= 200 and counts.min() >= 80


@pytest.mark.parametrize("seed", range(2))
def test_the_split_of_several_is_stratified_and_keeps_units_together(seed: int) -> None:
    source = load_source(dict(cards()[CARD]["data"]), DATA)
    assert source.unit is not None
    made = stream(CARD, seed)
    train, test = (np.concatenate([getattr(t, half).index for t in made.tasks]) for half in ("train", "test"))
    assert not set(source.unit[train]) & set(source.unit[test])
    share = np.bincount(source.y[test]) / np.bincount(source.y)
    assert np.abs(share - 0.25).max() < 0.03
    emoji = (source.y >= 30) & (source.y < 39)
    drawings = np.bincount(np.unique(source.unit[emoji], return_counts=True)[1])
    assert drawings[2] > 600, "both drawings of nearly every emoji are there"


def test_images_are_those_of_the_sources_in_colour_resized_as_a_folder_would_be() -> None:
    source, small = several(DIGITS, MNIST), several(DIGITS, MNIST, size=8)
    assert source.samples.shape == (6797, 3, 16, 16) and np.asarray(source.samples).dtype == np.uint8
    digits, mnist = load_source(DIGITS, DATA), load_source(MNIST, DATA)
    assert np.array_equal(np.asarray(small.samples)[:1797], np.repeat(np.asarray(digits.samples), 3, axis=1))
    for source_row, row in ((0, 1797), (4999, 6796)):
        picture = Image.fromarray(np.asarray(mnist.samples)[source_row, 0])
        wanted = np.asarray(picture.resize((16, 16), Image.Resampling.BILINEAR))
        assert all(np.array_equal(plane, wanted) for plane in np.asarray(source.samples)[row])
    assert np.array_equal(source.y, np.concatenate([digits.y, mnist.y + 10]))
    assert len({source.content, small.content, several(DIGITS, MNIST, per_class=50).content}) == 3
    colour = load_source({k: v for k, v in CIFAR.items() if k != "name"}, DATA)
    assert colour.is_test is not None
    first = np.flatnonzero((colour.y == 3) & ~colour.is_test)[:5]
    kept = several(DIGITS, CIFAR, per_class=5, size=32)
    assert np.array_equal(kept.samples[kept.y == 13], np.asarray(colour.samples)[first])


def test_per_class_takes_the_first_images_of_every_class() -> None:
    source, digits = several(DIGITS, MNIST, per_class=7, size=8), load_source(DIGITS, DATA)
    assert np.bincount(source.y).tolist() == [7] * 20
    for label in range(10):
        first = np.flatnonzero(digits.y == label)[:7]
        assert np.array_equal(np.asarray(source.samples)[source.y == label, 0], np.asarray(digits.samples)[first, 0])


def test_the_official_split_is_kept_where_all_have_one_and_else_training_images_only(tmp_path: Path) -> None:
    a = {"source": "folder", "path": paths(tmp_path / "a", ("train", "test"), 0), "layout": "split/class"}
    b = {"source": "folder", "path": paths(tmp_path / "b", ("train", "test"), 100), "layout": "split/class"}
    c = {"source": "folder", "path": paths(tmp_path / "c", ("",), 200), "layout": "class"}
    both = several(a, b, data_dir=tmp_path)
    assert both.is_test is not None and both.is_test.tolist() == ([True] * 8 + [False] * 8) * 2
    assert both.group_names == ("a", "b") and both.class_names == ("a one", "a two", "b one", "b two")
    few = several(a, b, data_dir=tmp_path, per_class=3)
    assert few.is_test is not None and np.bincount(2 * few.y + few.is_test).tolist() == [3] * 8
    mixed = several(a, c, data_dir=tmp_path)
    assert mixed.is_test is None and len(mixed) == 8 + 8
    assert np.asarray(mixed.samples)[:, 0, 0, 0].tolist() == [0, 1, 2, 3] * 2 + [200, 201, 202, 203] * 2
    made = build(data_dir=tmp_path, data={"source": "several", "of": [a, b], "size": 16}, rule="groups", n_tasks=2)
    assert [(t.name, len(t.train), len(t.test)) for t in made.tasks] == [("a", 8, 8), ("b", 8, 8)]


@pytest.mark.parametrize(
    ("of", "options", "message"),
    [
        ([DIGITS], {}, "needs two data sets or more"),
        ([DIGITS, DIGITS], {}, r"of different names; got \['digits', 'digits'\]; add a name"),
        ([DIGITS, {"source": "clinc150"}], {}, "'clinc150' holds texts"),
        ([DIGITS, {"source": "mnist"}], {}, "did you mean 'mnist5k'"),
        ([DIGITS, MNIST], {"per_class": 1}, "per_class must be a whole number from 2 on; got 1"),
        ([DIGITS, MNIST], {"size": 0}, "size must be a number of pixels"),
        ([DIGITS, MNIST], {"size": None}, "size of source 'several' must be a number of pixels; got None"),
        ([DIGITS, MNIST], {"size": {"resize": 10, "crop": 8}}, "size of source 'several' must be a number"),
        (["digits", "mnist5k"], {}, r"is a list of data: \[\{source: digits\}, \.\.\.\]; got \['digits', 'mnist5k'\]"),
        ([DIGITS, MNIST], {"sizes": 3}, "does not take these options"),
    ],
)
def test_several_that_do_not_go_together_are_refused(of: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        several(*of, **options)


# --- solar cells


def test_the_solar_cells_are_2624_photographs_in_four_levels() -> None:
    source = load_source({"source": "elpv", "size": 32}, DATA)
    assert source.samples.shape == (2624, 1, 32, 32)
    assert np.bincount(source.y).tolist() == [1508, 295, 106, 715]
    assert source.class_names == tuple(f"defect probability {level} %" for level in (0, 33, 67, 100))
    assert np.asarray(source.samples)[:200].std() > 20, "photographs, not one grey"
    assert source.content != load_source({"source": "elpv", "size": 16}, DATA).content


def test_without_its_package_the_solar_cells_say_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataMissing, match=r"package elpv-dataset.*\n  type: pip install .*clbench\[data\]"):
        load_source({"source": "elpv"}, DATA)


def test_a_damaged_package_of_solar_cells_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data" / "images").mkdir(parents=True)
    found = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found)
    for table in (None, "images/cell0001.png 1.0\n", "images/cell0001.png often mono\n", ""):
        if table is not None:
            (tmp_path / "data" / "labels.csv").write_text(table)
        with pytest.raises(DataMissing, match=r"labels\.csv: expected picture, probability and type in every line"):
            load_source({"source": "elpv"}, DATA)
    (tmp_path / "data" / "labels.csv").write_text("images/cell0001.png  1.0  mono\n")
    with pytest.raises(DataMissing, match=r"lacks 1 of its pictures, the first 'images/cell0001\.png'"):
        load_source({"source": "elpv"}, DATA)


# --- emoji by category


def test_a_task_of_the_emoji_superclasses_is_a_category_and_its_classes_the_subcategories() -> None:
    made = stream("emoji_superclass-v1")
    sizes = {t.name: len(t.classes) for t in made.tasks}
    assert sum(sizes.values()) == 89 and min(sizes.values()) == sizes["Flags"] == 2 and sizes["Objects"] == 18
    flags = next(t for t in made.tasks if t.name == "Flags")
    assert flags.class_names == ("country-flag", "flag")
    assert {t.name for t in stream("emoji_superclass-v1", 1).tasks} == set(sizes)
    assert [t.name for t in stream("emoji_superclass-v1", 1).tasks] != list(sizes), "the seed orders the categories"


def test_categories_themselves_come_in_no_groups() -> None:
    assert load_source({"source": "emoji"}, DATA).group is None
    with pytest.raises(BadInput, match="needs data whose classes come in groups; 'emoji' has none"):
        build(data_dir=DATA, data={"source": "emoji"}, rule="groups", n_tasks=9)
