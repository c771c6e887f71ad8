"""The papers' cards, on small folders laid out like the data that their users bring."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest

from clbench.cards import Scenario
from clbench.errors import BadInput, DataMissing
from clbench.places import cards
from clbench.seeds import Seeds
from clbench.stream import TaskStream
from tests.command import call, refused
from tests.real_data import DATA
from tests.toy_streams import build

PAPERS = sorted(name for name, card in cards().items() if card.get("obtain"))
FIRST = {  # of numpy.random.seed(1993); numpy.random.permutation(C), as in the authors' logs
    50: list(range(10)),
    100: [68, 56, 78, 8, 23, 84, 90, 65, 74, 76],
    200: [168, 136, 51, 9, 183, 101, 171, 99, 42, 159],
    300: [169, 221, 146, 296, 92, 229, 49, 70, 126, 77],
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each card: its classes with one training and one test photograph each."""
    root = tmp_path_factory.mktemp("papers")
    with zipfile.ZipFile(DATA / "cifar10_jpeg.zip") as archive:
        photographs = [archive.read(n) for n in archive.namelist()[:2000] if n.endswith(".jpg")]
    for name in PAPERS:
        data, half = cards()[name]["data"], "val" if "imagenet100" in name else "test"
        for c in range(data["n_classes"]):
            for number, part in enumerate(("train", half)):
                folder = root / data["path"] / part / f"n{c:08}"
                folder.mkdir(parents=True)
                (folder / "0.jpg").write_bytes(photographs[2 * c + number])
    return root


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))


def stream(name: str, folders: Path, seed: int = 0, **changes: Any) -> TaskStream:
    return Scenario.from_card({**cards()[name], **changes}).build(Seeds.of(seed), folders)


def test_the_eight_cards_of_the_papers_are_there() -> None:
    assert len(PAPERS) == 8
    assert all("fingerprint" not in cards()[name] for name in PAPERS), "the data are the user's"


@pytest.mark.parametrize("name", PAPERS)
def test_a_papers_card_has_its_increments_its_class_order_and_its_input_size(name: str, folders: Path) -> None:
    card = cards()[name]
    made, size, n_classes = stream(name, folders), card["increments"], card["data"]["n_classes"]
    assert made.spec.inputs == {"image": (3, 224, 224)} and f"inc{size}-" in name
    assert [len(t.classes) for t in made.tasks] == [size] * (n_classes // size)
    assert set(made.tasks[0].classes) >= set(FIRST[n_classes][:size])
    assert set(made.tasks[0].classes) <= set(FIRST[n_classes]) or size > 10
    assert made.tasks[0].class_names == tuple(f"n{c:08}" for c in made.tasks[0].classes)
    assert all(len(t.train) == len(t.test) == size for t in made.tasks)
    assert stream(name, folders, seed=1).fingerprint == made.fingerprint, "the papers' order is for every seed"


@pytest.mark.parametrize(("name", "increment"), [("cub_b0inc10-v1", 1), ("cifar100_b0inc5-v1", 1)])
def test_the_class_order_1993_is_that_of_numpys_legacy_generator(name: str, increment: int, folders: Path) -> None:
    n_classes = cards()[name]["data"]["n_classes"]
    one_by_one = stream(name, folders, increments=increment, n_tasks=n_classes)
    order = [t.classes[0] for t in one_by_one.tasks]
    assert order[:10] == FIRST[n_classes]
    assert sorted(order) == list(range(n_classes))
    seven = stream(name, folders, increments=7, n_tasks=-(-n_classes // 7))
    assert [set(t.classes) for t in seven.tasks] == [set(order[k : k + 7]) for k in range(0, n_classes, 7)]


def test_natural_order_and_other_numbers_are_orders_and_other_words_are_not() -> None:
    assert [t.classes for t in build(class_order="natural").tasks] == [(0, 1), (2, 3), (4, 5), (6, 7), (8, 9)]
    assert build(class_order=7).tasks[0].classes == (5, 8)  # RandomState(7).permutation(10): 8, 5, ...
    with pytest.raises(BadInput, match=r"'seed', 'natural', a number or a permutation of 0\.\.9; got alphabetical"):
        build(class_order="alphabetical")


@pytest.mark.parametrize("name", PAPERS)
def test_a_papers_card_without_its_data_says_where_to_get_them_and_where_to_put_them(name: str, tmp_path: Path) -> None:
    answer = call("run", f"scenario={name}", "backbone=pixels", "data_dir=nowhere", cwd=tmp_path)  # the weights apart
    path = cards()[name]["data"]["path"]
    refused(answer, f"no data at 'nowhere/{path}'", "get ", f"DATA/{path}/train/CLASS/FILE", "CLBENCH_DATA")


def test_a_folder_with_a_class_too_few_is_not_taken_for_the_papers_data(tmp_path: Path, folders: Path) -> None:
    for part in ("train", "val"):
        for folder in sorted((folders / "imagenet100" / part).iterdir())[1:]:
            shutil.copytree(folder, tmp_path / "imagenet100" / part / folder.name)
    with pytest.raises(DataMissing, match=r"holds 99 class folders .*; the card needs 100\n  get 100 classes"):
        stream("imagenet100_b0inc10-v1", tmp_path)


def test_published_figures_are_pairs_with_method_and_source() -> None:
    for name in PAPERS:
        for row in cards()[name]["reported"]:
            assert row["method"] and row["source"]
            assert "gain" in row or 0 < row["last"] < row["average"] < 100
    cub = {(r["method"], r["source"]): (r["average"], r["last"]) for r in cards()["cub_b0inc10-v1"]["reported"]}
    assert cub["SimpleCIL", "EASE Table 1"] == (92.20, 86.73)
    assert cub["SimpleCIL", "RevisitingCIL logs"] == (92.24, 86.77)
    inc10 = cards()["imagenet_a_b0inc10-v1"]["reported"]
    assert {r["source"] for r in inc10} == {"RevisitingCIL logs"}, "the paper's table has increments of 20"
