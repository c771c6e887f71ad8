"""The papers' cards, on small folders laid out like the data that their users bring."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
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
PRETRAINED = [name for name in PAPERS if "backbone" in cards()[name]]
SCRATCH = {  # classes by task, and the input, of the cards for networks that are trained from the start
    "cifar100_10tasks-v1": ([10] * 10, (3, 32, 32)),
    "cifar100_20tasks-v1": ([5] * 20, (3, 32, 32)),
    "cifar100_overlapping-v1": ([10] * 7, (3, 32, 32)),
    "cifar100_superclasses-v1": ([5] * 20, (3, 32, 32)),
    "five_datasets-v1": ([10] * 5, (3, 32, 32)),
    "miniimagenet_20tasks-v1": ([5] * 20, (3, 84, 84)),
    "permuted_mnist_10tasks-v1": ([10] * 10, (1, 28, 28)),
    "tinyimagenet_40tasks-v1": ([5] * 40, (3, 64, 64)),
}
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
    n_classes = {data["path"]: data["n_classes"] for name in PAPERS for data in folders_of(name)}
    for path, n in n_classes.items():
        half = "val" if path in ("imagenet100", "tinyimagenet") else "test"
        for c in range(n):
            for number, part in enumerate(("train", half)):
                folder = root / path / part / f"n{c:08}"
                folder.mkdir(parents=True)
                (folder / "0.jpg").write_bytes(photographs[2 * c + number])
    return root


def folders_of(name: str) -> list[dict[str, Any]]:
    """The folders of images that a card reads."""
    data = cards()[name]["data"]
    return list(data.get("of", [data]))


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))


def stream(name: str, folders: Path, seed: int = 0, **changes: Any) -> TaskStream:
    return Scenario.from_card({**cards()[name], **changes}).build(Seeds.of(seed), folders)


def test_the_cards_of_the_papers_are_there() -> None:
    assert len(PRETRAINED) == 8
    assert sorted([*PRETRAINED, *SCRATCH]) == PAPERS
    assert all("fingerprint" not in cards()[name] for name in PAPERS), "the data are the user's"


@pytest.mark.parametrize("name", PRETRAINED)
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


@pytest.mark.parametrize("name", SCRATCH)
def test_a_card_for_networks_trained_from_the_start_has_its_tasks_its_input_and_labels(
    name: str, folders: Path
) -> None:
    made, (sizes, shape) = stream(name, folders), SCRATCH[name]
    assert made.spec.protocol == "task-incremental" and made.spec.inputs == {"image": shape}
    assert [len(t.classes) for t in made.tasks] == sizes
    assert all(len(t.train) == len(t.test) == len(t.classes) for t in made.tasks), "the official split is kept"
    drawn = name == "permuted_mnist_10tasks-v1"
    assert (stream(name, folders, seed=1).fingerprint != made.fingerprint) is drawn, "the papers' order for every seed"


def test_the_superclasses_the_overlapping_and_the_data_sets_are_those_of_the_papers(folders: Path) -> None:
    superclasses = stream("cifar100_superclasses-v1", folders).tasks
    assert superclasses[0].classes == (4, 30, 55, 72, 95), "beaver, dolphin, otter, seal, whale"
    assert superclasses[14].classes == (2, 11, 35, 46, 98), "baby, boy, girl, man, woman"
    assert superclasses[19].classes == (41, 69, 81, 85, 89), "lawn mower, rocket, streetcar, tank, tractor"
    starts = [0, 5, 10, 20, 25, 30, 40]
    overlapping = stream("cifar100_overlapping-v1", folders).tasks
    assert [t.classes for t in overlapping] == [tuple(range(k, k + 10)) for k in starts]
    names = [t.name for t in stream("five_datasets-v1", folders).tasks]
    assert names == ["CIFAR-10", "MNIST", "SVHN", "Fashion-MNIST", "notMNIST"]
    order = np.random.RandomState(37).permutation(100)
    mini = stream("miniimagenet_20tasks-v1", folders).tasks
    assert [set(t.classes) for t in mini] == [set(part) for part in np.split(order, 20)]


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
    several, path = "of" in cards()[name]["data"], folders_of(name)[0]["path"]
    place = f"DATA/{'NAME' if several else path}/train/CLASS/FILE"
    refused(answer, f"no data at 'nowhere/{path}'", "get ", place, "CLBENCH_DATA")


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
            if name in SCRATCH:
                assert set(row) <= {"method", "source", "heads", "accuracy", "backward_transfer"}
                assert 0 < row["accuracy"] < 100 and -100 < row.get("backward_transfer", 0) < 100
                assert ("heads" in row) is (name == "permuted_mnist_10tasks-v1"), "one head and many never mix"
            else:
                assert "gain" in row or 0 < row["last"] < row["average"] < 100
    cub = {(r["method"], r["source"]): (r["average"], r["last"]) for r in cards()["cub_b0inc10-v1"]["reported"]}
    assert cub["SimpleCIL", "EASE Table 1"] == (92.20, 86.73)
    assert cub["SimpleCIL", "RevisitingCIL logs"] == (92.24, 86.77)
    inc10 = cards()["imagenet_a_b0inc10-v1"]["reported"]
    assert {r["source"] for r in inc10} == {"RevisitingCIL logs"}, "the paper's table has increments of 20"
    cifar = {(r["method"], r["source"]): r for r in cards()["cifar100_10tasks-v1"]["reported"]}
    assert cifar["CUBER", "CUBER Table 1"]["backward_transfer"] == 0.13
    assert cifar["GPM", "WSN Table 2"]["accuracy"] == 73.18 != cifar["GPM", "CUBER Table 1"]["accuracy"]
    digits = {(r["method"], r["heads"]): r["accuracy"] for r in cards()["permuted_mnist_10tasks-v1"]["reported"]}
    assert (digits["GPM", "one"], digits["GPM", "per task"]) == (93.91, 94.96)
