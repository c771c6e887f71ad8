"""Emoji: two styles as two tasks, subcategories ten at a time, and no emoji on both sides of the split."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from clbench.cards import Scenario
from clbench.data import load_source
from clbench.errors import BadInput, DataMissing
from clbench.places import cards
from clbench.seeds import Seeds
from clbench.stream import TaskStream
from tests.real_data import DATA
from tests.toy_streams import build


def stream(name: str, seed: int = 0) -> TaskStream:
    return Scenario.from_card(cards()[name]).build(Seeds.of(seed), DATA)


def shown(rows: np.ndarray[Any, Any], label: str = "category", **options: Any) -> set[int]:
    """The emoji (not the pictures) at these rows."""
    source = load_source({"source": "emoji", "label": label, "size": 64, **options}, DATA)
    assert source.unit is not None
    return set(source.unit[rows].tolist())


@pytest.mark.parametrize("seed", range(3))
def test_both_drawings_of_an_emoji_are_on_one_side_of_the_split(seed: int) -> None:
    google, twitter = stream("emoji_styles-v1", seed).tasks
    assert (google.name, twitter.name) == ("google", "twitter")
    assert shown(google.train.index) == shown(twitter.train.index)
    assert shown(google.test.index) == shown(twitter.test.index)
    assert not shown(google.train.index) & shown(twitter.test.index)
    assert len(shown(google.train.index) | shown(google.test.index)) == 1906


def test_the_split_of_the_emoji_keeps_the_share_of_every_class() -> None:
    for task in stream("emoji_styles-v1").tasks:
        train, test = torch.bincount(task.train.labels), torch.bincount(task.test.labels)
        assert ((test / (train + test) - 0.25).abs() < 0.02).all()
        assert task.class_names[4] == "Objects" and len(task.classes) == 9


def test_subcategories_come_ten_at_a_time_and_the_last_task_is_shorter() -> None:
    made = stream("emoji_subcategories-v1")
    assert [len(t.classes) for t in made.tasks] == [10] * 8 + [9]
    names = [name for t in made.tasks for name in t.class_names]
    assert len(set(names)) == 89 and "cat-face" in names and "hotel" not in names
    options: dict[str, Any] = {"label": "subcategory", "min_size": 4}
    train, test = ({u for t in made.tasks for u in shown(getattr(t, h).index, **options)} for h in ("train", "test"))
    assert len(train | test) == 1883 and not train & test
    for task in made.tasks:
        for half in (task.train, task.test):
            assert sorted(set(half.labels.tolist())) == list(task.classes)


def test_the_two_drawings_of_an_emoji_are_pictures_of_different_pixels() -> None:
    source = load_source({"source": "emoji"}, DATA)
    images = np.asarray(source.samples)
    one, other = images[:1906], images[1906:]
    assert source.samples.shape == (3812, 3, 48, 48)
    assert np.array_equal(source.y[:1906], source.y[1906:])
    assert (one != other).reshape(1906, -1).any(1).mean() > 0.99
    with zipfile.ZipFile(DATA / "emoji48.zip") as archive:
        listed = sorted(json.loads(archive.read("classes.json")), key=lambda e: str(e["image"]))
        for row in (0, 1000, 1905):
            data = archive.read(f"twitter/{listed[row]['image']}")
            assert np.array_equal(np.array(Image.open(io.BytesIO(data)).convert("RGB")).transpose(2, 0, 1), other[row])
            assert source.class_names[source.y[row]] == listed[row]["category"]


@pytest.mark.parametrize(
    ("n_tasks", "increments", "reason"),
    [(8, 10, "n_tasks is 8"), (9, 9, "are 10 tasks"), (9, 0, "sum to the 89"), (9, [10] * 9, "sum to the 89")],
)
def test_increments_that_do_not_give_the_stated_number_of_tasks_are_refused(
    n_tasks: int, increments: Any, reason: str
) -> None:
    card = {**cards()["emoji_subcategories-v1"], "n_tasks": n_tasks, "increments": increments}
    with pytest.raises(BadInput, match=reason):
        Scenario.from_card(card).build(Seeds.of(0), DATA)


def test_missing_emoji_and_wrong_labels_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match=r"emoji48\.zip'\n  expected a zip with google/FILE\.png.*CLBENCH_DATA"):
        build(data_dir=tmp_path, data={"source": "emoji"})
    with pytest.raises(BadInput, match="category or subcategory; got 'colour'"):
        build(data_dir=DATA, data={"source": "emoji", "label": "colour"})
    with zipfile.ZipFile(tmp_path / "emoji48.zip", "w") as archive:
        archive.writestr("classes.json", json.dumps([{"image": "1.png", "category": "Flags"}]))
    with pytest.raises(DataMissing, match=r"lacks 2 of its pictures, the first 'google/1\.png'"):
        build(data_dir=tmp_path, data={"source": "emoji"})


def test_a_class_of_one_emoji_cannot_be_split_and_is_named() -> None:
    data = {"source": "emoji", "label": "subcategory"}
    with pytest.raises(BadInput, match="class 'animal-amphibian' has 1 samples; it needs two"):
        build(data_dir=DATA, data=data, n_tasks=2)
