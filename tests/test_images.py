"""Image folders and zips: read like one another, decoded once, refused in words."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from clbench.cards import Scenario
from clbench.data import images
from clbench.data.cache import cached
from clbench.errors import BadInput, DataMissing
from clbench.places import cards
from clbench.seeds import Seeds
from clbench.stream import TaskStream
from tests.toy_streams import build, pixels


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CLBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def draw(root: Path, groups: Mapping[str, int], size: int = 8, seed: int = 0) -> Path:
    """Write so many small pictures into each folder."""
    rng = np.random.default_rng(seed)
    for folder, n in groups.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        for k in range(n):
            Image.fromarray(rng.integers(0, 256, (size, size, 3), dtype=np.uint8)).save(root / folder / f"{k:03}.png")
    return root


def zipped(root: Path) -> Path:
    target = root.with_suffix(".zip")
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(root.rglob("*.png"), reverse=True):  # the order inside does not matter
            archive.write(path, path.relative_to(root).as_posix())
    return target


PETS = {"cat": 8, "dog": 8, "eel": 8, "fox": 8}


def from_folder(root: Path, layout: str = "class", **fields: Any) -> TaskStream:
    size = fields.pop("size", None)
    data = {"source": "folder", "path": root.name, "layout": layout, "size": size}
    return build(data_dir=root.parent, data=data, **{"n_tasks": 2, **fields})


def test_a_folder_and_a_zip_of_the_same_images_give_the_same_stream(own_cache: Path, tmp_path: Path) -> None:
    root = draw(tmp_path / "pets", PETS)
    one, other = from_folder(root), from_folder(zipped(root))
    assert one.fingerprint == other.fingerprint
    for a, b in zip(one.tasks, other.tasks, strict=True):
        assert torch.equal(pixels(a), pixels(b))
        assert a.class_names == b.class_names
    picture = Image.open(root / one.tasks[0].class_names[0] / "000.png")
    expected = torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 255
    everything = torch.cat([pixels(one.tasks[0]), pixels(one.tasks[0], "test")])
    assert any(torch.allclose(image, expected) for image in everything)


def test_another_pixel_or_another_name_is_another_fingerprint(own_cache: Path, tmp_path: Path) -> None:
    base = from_folder(draw(tmp_path / "a", PETS)).fingerprint
    assert from_folder(draw(tmp_path / "b", PETS, seed=1)).fingerprint != base
    renamed = draw(tmp_path / "c", PETS)
    (renamed / "cat" / "000.png").rename(renamed / "cat" / "0000.png")
    assert from_folder(renamed).fingerprint != base
    assert from_folder(draw(tmp_path / "d", PETS)).fingerprint == base


def test_official_train_and_test_folders_are_the_split(own_cache: Path, tmp_path: Path) -> None:
    groups = {f"{half}/{pet}": n for half, n in (("train", 5), ("test", 2)) for pet in PETS}
    stream = from_folder(draw(tmp_path / "pets", groups), "split/class")
    assert [len(t.train) for t in stream.tasks] == [10, 10]
    assert [len(t.test) for t in stream.tasks] == [4, 4]
    assert {int(r) for t in stream.tasks for r in t.test.index} == set(range(8))  # "test/..." sorts first


def test_one_task_per_domain_folder(own_cache: Path, tmp_path: Path) -> None:
    groups = {f"{style}/{pet}": 4 for style in ("photo", "sketch", "clay") for pet in PETS}
    root = draw(tmp_path / "pets", groups)
    stream = from_folder(root, "domain/class", rule="domain", n_tasks=3, protocol="domain-incremental")
    assert [t.name for t in stream.tasks] == ["clay", "photo", "sketch"]
    assert all(t.class_names == tuple(PETS) for t in stream.tasks)
    fields: dict[str, Any] = {"rule": "domain", "n_tasks": 3, "protocol": "domain-incremental", "domain_order": "seed"}
    drawn = [from_folder(root, "domain/class", seeds=seed, **fields) for seed in range(4)]
    assert len({tuple(t.name for t in each.tasks) for each in drawn}) > 1
    with pytest.raises(BadInput, match="3 domains"):
        from_folder(root, "domain/class", rule="domain", n_tasks=2, protocol="domain-incremental")


def test_images_are_resized_only_where_the_card_says_so(own_cache: Path, tmp_path: Path) -> None:
    root = draw(tmp_path / "pets", PETS)
    draw(tmp_path / "pets", {"cat": 1}, size=6)
    with pytest.raises(DataMissing, match="give the card a size"):
        from_folder(root)
    assert from_folder(root, size=4).spec.inputs == {"image": (3, 4, 4)}


def test_a_missing_wrong_empty_or_broken_folder_says_what_was_expected(own_cache: Path, tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match="CLBENCH_DATA"):
        from_folder(tmp_path / "nowhere")
    root = draw(tmp_path / "pets", PETS)
    with pytest.raises(DataMissing, match="split/class/FILE"):
        from_folder(root, "split/class")
    with pytest.raises(BadInput, match="unknown layout"):
        from_folder(root, "klass")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataMissing, match="no image files"):
        from_folder(tmp_path / "empty")
    with pytest.raises(DataMissing, match="one class only"):
        from_folder(draw(tmp_path / "cats", {"cat": 3}))
    (root / "cat" / "000.png").write_bytes(b"not a picture")
    with pytest.raises(DataMissing, match=r"cat/000\.png.*cannot be decoded"):
        from_folder(root)
    (tmp_path / "torn.zip").write_bytes(b"PK\x03\x04")
    with pytest.raises(DataMissing, match="cannot be read as a zip"):
        from_folder(tmp_path / "torn.zip")


def test_images_are_decoded_once(own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = draw(tmp_path / "pets", PETS)
    first = from_folder(root)

    def never(*given: object) -> dict[str, np.ndarray[Any, Any]]:
        raise AssertionError("decoded again")

    monkeypatch.setattr(images, "_decode", never)
    assert from_folder(root).fingerprint == first.fingerprint
    entry = next(path for path in (own_cache / "arrays").iterdir() if path.is_dir())
    assert isinstance(cached(entry.name, dict)["images"], np.memmap)
    draw(root, {"cat": 9}, seed=2)  # other files are other data
    with pytest.raises(AssertionError, match="decoded again"):
        from_folder(root)


def test_of_two_processes_that_need_the_same_images_one_decodes_them(own_cache: Path, tmp_path: Path) -> None:
    draw(tmp_path / "pets", PETS)
    code = f"""
import time
from pathlib import Path
from clbench.data import images, load_source
decode = images._decode
def slowly(*given):
    Path({str(tmp_path)!r}, "decoded-" + str(time.time_ns())).touch()
    time.sleep(1.0)
    return decode(*given)
images._decode = slowly
source = load_source({{"source": "folder", "path": "pets", "layout": "class"}}, Path({str(tmp_path)!r}))
print(len(source), source.content)
"""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    both = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(2)
    ]
    answers = {process.communicate(timeout=60)[0] for process in both}
    assert len(answers) == 1
    assert answers.pop().startswith("32 ")
    assert len(list(tmp_path.glob("decoded-*"))) == 1


def test_a_cache_folder_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("CLBENCH_CACHE", str(tmp_path / "file"))
    with pytest.raises(BadInput, match="CLBENCH_CACHE"):
        from_folder(draw(tmp_path / "pets", PETS))


def cifar() -> Path:
    shared = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("CLBENCH_DATA", shared))
    if not (folder / "cifar10_jpeg.zip").exists():
        pytest.fail(f"no cifar10_jpeg.zip in {folder}; set CLBENCH_DATA to the folder that holds it")
    return folder


def test_the_cifar_zip_gives_the_stream_of_its_card() -> None:
    card = cards()["split_cifar10_5k-v1"]
    stream = Scenario.from_card(card).build(Seeds.of(0), cifar())
    assert stream.fingerprint == card["fingerprint"]
    assert sum(len(t.train) for t in stream.tasks) == 5000
    few = pixels(replace(stream.tasks[0], train=stream.tasks[0].test))
    assert few.shape[1:] == (3, 32, 32)
    assert few.mean().abs() < 0.5  # normalised
    assert 0.7 < float(few.std()) < 1.4
