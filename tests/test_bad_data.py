"""Faulty data folders and stores: named, left out, nothing lost."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clbench.record import FILE, read_record
from tests.command import call, quick, records, refused

# --- data folders -----------------------------------------------------------------------------------------------

CARD = """
name: pictures-v1
summary: Pictures of a folder.
data: {source: folder, path: PATH}
rule: classes
n_tasks: 2
protocol: class-incremental
licence: CC0
citation: drawn by this test
"""


def draw(path: Path, size: tuple[int, int] = (6, 6)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(str(path))).integers(0, 255, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def classes(root: Path, n_classes: int = 2) -> None:
    for c in range(n_classes):
        for k in range(4):
            draw(root / f"class{c}" / f"{k}.png")


def make_one_class(root: Path) -> None:
    classes(root, 1)


def make_mixed_sizes(root: Path) -> None:
    classes(root)
    draw(root / "class1" / "wide.png", (6, 9))


def make_undecodable(root: Path) -> None:
    classes(root)
    (root / "class0" / "torn.png").write_bytes((root / "class0" / "0.png").read_bytes()[:60])


def make_damaged_chunk(root: Path) -> None:
    classes(root)
    data = bytearray((root / "class0" / "0.png").read_bytes())
    data[50:60] = b"\0" * 10
    (root / "class0" / "0.png").write_bytes(bytes(data))


def make_too_deep(root: Path) -> None:
    classes(root)
    draw(root / "class1" / "more" / "deep.png")


def make_file(root: Path) -> None:
    root.write_text("not a zip")


def make_empty(root: Path) -> None:
    root.mkdir()


def make_texts(root: Path) -> None:
    (root / "a").mkdir(parents=True)
    (root / "a" / "note.txt").write_text("no image")


def make_nothing(root: Path) -> None:
    assert not root.exists()


def make_damaged_zip(root: Path) -> None:
    folder = root.with_name("unzipped")
    classes(folder)
    with zipfile.ZipFile(root, "w") as archive:
        for path in sorted(folder.rglob("*.png")):
            archive.write(path, path.relative_to(folder).as_posix())
    data = bytearray(root.read_bytes())
    data[60:90] = b"\0" * 30
    root.write_bytes(bytes(data))


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (make_nothing, ["no data at", "one folder per class", "CLBENCH_DATA", "data_dir=FOLDER"]),
        (make_empty, ["holds no image files", ".png"]),
        (make_texts, ["holds no image files"]),
        (make_file, ["cannot be read as a zip of images"]),
        (make_damaged_zip, ["class0/0.png", "cannot be"]),
        (make_one_class, ["one class only ('class0')", "two are needed"]),
        (make_mixed_sizes, ["class1/wide.png", "9x6 pixels", "size: 32"]),
        (make_undecodable, ["class0/torn.png", "cannot be decoded"]),
        (make_damaged_chunk, ["class0/0.png", "cannot be decoded"]),
        (make_too_deep, ["layout 'class' expects files at class/FILE", "class1/more/deep.png"]),
    ],
    ids=lambda value: value.__name__.removeprefix("make_") if callable(value) else "",
)
def test_a_data_folder_with_a_fault_is_named_with_what_is_expected(
    make: Callable[[Path], None], parts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLBENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    make(tmp_path / "data" / "pictures")
    (tmp_path / "conf" / "scenario").mkdir(parents=True)
    (tmp_path / "conf" / "scenario" / "pictures-v1.yaml").write_text(CARD.replace("PATH", "pictures"))
    answer = quick("--config-dir", "conf", "data_dir=data", cwd=tmp_path, scenario="pictures-v1")
    refused(answer, *parts)
    assert not records(tmp_path)
    assert not list(tmp_path.glob("cache/arrays/*/*.npy")), "nothing half decoded is kept"


def test_a_shipped_card_without_its_data_says_where_they_are_looked_for(tmp_path: Path) -> None:
    answer = quick("data_dir=nowhere", cwd=tmp_path, scenario="split_cifar10_5k-v1")
    refused(answer, "no data at 'nowhere/cifar10_jpeg.zip'", "CLBENCH_DATA")


def test_a_cache_folder_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("CLBENCH_CACHE", str(tmp_path / "file" / "cache"))
    answer = quick(cwd=tmp_path, scenario="split_mnist5k-v1")
    refused(answer, "the cache folder", "cannot be written", "CLBENCH_CACHE=FOLDER")


# --- the store --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("records_folder", ["file", "file/records"])
def test_a_records_folder_that_cannot_be_written_is_named_before_any_work(records_folder: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    answer = quick(f"records={records_folder}", cwd=tmp_path)
    refused(answer, f"the records folder '{records_folder}' cannot be written", "records=FOLDER")
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_report_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    assert quick(cwd=tmp_path).code == 0
    (tmp_path / "file").write_text("in the way")
    refused(call("report", "records", "--out", "file/page", cwd=tmp_path), "cannot write the report to 'file/page'")


@pytest.fixture(scope="module")
def two_seeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cwd = tmp_path_factory.mktemp("two")
    assert quick("-m", "seed=0,1", cwd=cwd).code == 0
    return cwd


DAMAGE: dict[str, tuple[Callable[[str], str], str]] = {
    "truncated": (lambda text: text[: len(text) // 2], "truncated or not JSON"),
    "empty": (lambda text: "", "truncated or not JSON"),
    "foreign": (lambda text: '{"model": "resnet", "accuracy": 0.99}', "not a clbench record"),
    "lacking": (lambda text: text.replace('"costs"', '"coasts"'), "lacks: costs"),
    "edited": (lambda text: text.replace('"n_train": ', '"n_train": 1'), "does not match its hash"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_record_is_named_left_out_and_made_again(damage: str, two_seeds: Path, tmp_path: Path) -> None:
    shutil.copytree(two_seeds / "records", tmp_path / "records")
    path = next((tmp_path / "records").rglob(f"seed1-*/{FILE}"))
    whole = read_record(path.parent)
    change, reason = DAMAGE[damage]
    path.write_text(change(path.read_text()))

    answer = call("report", "records", cwd=tmp_path)
    assert answer.code == 0
    assert "1 record " in answer.out
    assert f"left out: {path.relative_to(tmp_path / 'records')}" in answer.err
    assert reason in answer.err
    page = (tmp_path / "records" / "leaderboard.md").read_text()
    assert reason in page, "the report says so too"

    again = quick("seed=1", cwd=tmp_path)
    assert again.code == 0
    assert "done already" not in again.out
    assert read_record(path.parent).result_sha256 == whole.result_sha256
    assert "2 records" in call("report", "records", cwd=tmp_path).out
