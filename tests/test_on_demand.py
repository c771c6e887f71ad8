"""Images of any size, decoded when they are asked for: as the papers transform them, by however many processes."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from clbench.cards import Scenario
from clbench.data import files
from clbench.data.crops import Crops
from clbench.data.rows import ResizedCrop
from clbench.errors import BadInput, DataMissing
from clbench.seeds import Seeds
from clbench.stream import Batch, Feed, TaskStream, TaskView
from tests.command import call, only
from tests.real_data import DATA
from tests.toy_streams import PROSE, pixels

AUGMENT = {"scale": [0.05, 1.0], "ratio": [0.75, 4 / 3], "flip": True}
SIZE = {"resize": 40, "crop": 32}


def put(root: Path, n: int = 10) -> Path:
    """Real photographs of four classes, enlarged to many sizes, no two alike; emoji with transparency among them."""
    with zipfile.ZipFile(DATA / "cifar10_jpeg.zip") as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".jpg") and name.startswith("train/"))
        for c in range(4):
            for k, name in enumerate(names[5000 * c : 5000 * c + n]):
                target = root / ("test" if k % 5 == 4 else "train") / f"class{c}" / f"{k}.png"
                target.parent.mkdir(parents=True, exist_ok=True)
                picture = Image.open(io.BytesIO(archive.read(name))).resize((41 + 7 * k, 95 - 5 * k + c))
                if k == 3:
                    picture.putalpha(picture.convert("L"))
                picture.save(target)
    return root


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return put(tmp_path_factory.mktemp("data") / "photographs")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))


def card(root: Path, **changes: Any) -> dict[str, Any]:
    data = {"source": "folder", "path": root.name, "layout": "split/class", "size": SIZE, "decode": "ondemand"}
    fields = {"rule": "classes", "n_tasks": 2, "protocol": "class-incremental", "class_order": "natural", **PROSE}
    return {"name": "photographs-v1", "data": {**data, **changes.pop("data", {})}, **fields, **changes}


def stream(root: Path, **changes: Any) -> TaskStream:
    return Scenario.from_card(card(root, **changes)).build(Seeds.of(0), root.parent)


def batches(made: TaskStream, size: int = 5) -> Iterator[Batch]:
    feed = Feed(lambda name, *keys: Seeds.of(0).generator(name, 1, *keys), augment=made.augment)
    return TaskView(made.tasks[0], "class-incremental", feed).batches(size)


def test_images_are_transformed_exactly_as_torchvision_does_it_in_the_papers(photographs: Path) -> None:
    from clbench.torchvision_schemas import declare_torchvision_schemas

    declare_torchvision_schemas()
    from torchvision import transforms as t

    bicubic = t.InterpolationMode.BICUBIC
    papers = t.Compose([t.Resize(40, interpolation=bicubic), t.CenterCrop(32), t.ToTensor()])
    found = pixels(stream(photographs).tasks[0])
    for row, k in enumerate([0, 1, 2, 5, 6, 7, 8]):  # by name; 3 is transparent, 4 and 9 are test images
        path = photographs / "train" / "class0" / f"{k}.png"
        expected = papers(Image.open(path).convert("RGB"))
        assert torch.equal((found[row if k < 3 else row + 1] * 255).round(), (expected * 255).round()), path


def test_decoding_on_demand_gives_the_images_that_decoding_once_gives(photographs: Path) -> None:
    later, once = stream(photographs), stream(photographs, data={"decode": "once"})
    for a, b in zip(later.tasks, once.tasks, strict=True):
        assert torch.equal(pixels(a), pixels(b)) and torch.equal(pixels(a, "test"), pixels(b, "test"))
        assert torch.equal(a.train.labels, b.train.labels)


@pytest.mark.parametrize("augment", [AUGMENT, {"crop": 4, "flip": True}, None])
def test_the_number_of_worker_processes_changes_no_bit(
    augment: Any, photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "CHUNK", 3)
    made = stream(photographs, augment=augment)
    found = []
    for workers in ("1", "2"):
        monkeypatch.setenv("LOKY_MAX_CPU_COUNT", workers)
        found.append([(b.inputs["image"], b.raw["image"], b.y) for b in batches(made, 8)])
    for one, two in zip(*found, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(one, two, strict=True))


def test_training_images_are_crops_of_the_files_and_raw_ones_are_not(
    photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    opened, read = files.opened, []

    def noted(name: str, data: bytes, grey: bool) -> Image.Image:
        read.append(name)
        return opened(name, data, grey)

    monkeypatch.setattr(files, "opened", noted)
    made = stream(photographs, augment=AUGMENT)
    plain = pixels(made.tasks[0])
    read.clear()
    seen = list(batches(made))
    assert len(read) == len(set(read)) == 16, "each file is decoded once for both"
    for batch in seen:
        assert torch.equal(batch.raw["image"], plain[batch.rows])
        assert batch.inputs["image"].shape == batch.raw["image"].shape
        assert ((batch.inputs["image"] - batch.raw["image"]).flatten(1).abs().mean(1) > 0.01).all()
    whole = next(batches(stream(photographs, augment={"scale": [1.0, 1.0], "ratio": [0.01, 100.0], "flip": False})))
    by_name = {tuple(x.flatten().tolist()) for x in plain}
    assert not by_name & {tuple(x.flatten().tolist()) for x in whole.inputs["image"]}, "not cut out of the test view"


def test_boxes_lie_inside_with_area_and_shape_as_asked_and_in_the_middle_where_none_fits() -> None:
    crops = Crops.draw(5000, np.random.default_rng(0), (0.05, 1.0), (3 / 4, 4 / 3))
    left, top, w, h = crops.boxes(60, 90).T
    assert (left >= 0).all() and (top >= 0).all() and (left + w <= 90).all() and (top + h <= 60).all()
    area, shape = w * h / 5400, w / h
    assert 0.045 < area.min() < 0.06 and 0.85 < area.max() <= 1.0
    assert shape.min() > 0.70 and shape.max() < 1.42 and abs(float(np.median(shape)) - 1) < 0.05
    assert (left == 0).any() and (left + w == 90).any()
    assert crops.boxes(10, 1000)[0].tolist() == [(1000 - 13) // 2, 0, 13, 10]
    assert all(crops.boxes(60, 90, k).tolist() == crops.boxes(60, 90)[k].tolist() for k in range(5))


def test_on_images_in_memory_a_resized_crop_is_the_box_enlarged(photographs: Path) -> None:
    images = pixels(stream(photographs).tasks[0])
    augment = ResizedCrop((0.05, 1.0))
    found = augment(images, np.random.default_rng(3))
    crops, _ = augment.draw(len(images), np.random.default_rng(3))
    for image, (left, top, w, h), crop in zip(images, crops.boxes(32, 32).tolist(), found, strict=True):
        part = image[None, :, top : top + h, left : left + w]
        expected = torch.nn.functional.interpolate(part, (32, 32), mode="bilinear", align_corners=False)[0]
        torch.testing.assert_close(crop, expected, atol=1e-5, rtol=1e-5)
    flipped = ResizedCrop((0.05, 1.0), flip=True)(images, np.random.default_rng(3))
    same = torch.tensor([torch.equal(a, b) for a, b in zip(flipped, found, strict=True)])
    assert torch.equal(flipped[~same], found[~same].flip(3)) and 0 < same.sum() < len(images)


def test_another_size_another_file_or_another_way_of_cropping_is_another_fingerprint(
    photographs: Path, tmp_path: Path
) -> None:
    other = put(tmp_path / "photographs")
    same = stream(photographs, augment=AUGMENT).fingerprint
    assert stream(other, augment=AUGMENT).fingerprint == same
    assert stream(photographs, augment={**AUGMENT, "scale": [0.1, 1.0]}).fingerprint != same
    assert stream(photographs, augment=AUGMENT, data={"size": 32}).fingerprint != same
    Image.new("RGB", (50, 50)).save(other / "train" / "class0" / "0.png")
    assert stream(other, augment=AUGMENT).fingerprint != same


@pytest.mark.parametrize(
    ("data", "augment", "message"),
    [
        ({"size": None}, None, "decode: ondemand needs a size"),
        ({"size": {"resize": 32, "crop": 40}}, None, "crop <= resize"),
        ({"size": {"resize": 32}}, None, "size must be a number of pixels, or"),
        ({"size": 0}, None, "size must be"),
        ({"decode": "on_demand"}, None, "did you mean 'ondemand'"),
        ({}, {"scal": [0.1, 1.0]}, "did you mean 'scale'"),
        ({}, {"scale": [0.0, 1.0]}, r"scale within \(0, 1\]"),
        ({}, {"scale": [0.1, 1.0], "crop": 4}, "takes crop, or scale"),
    ],
)
def test_impossible_sizes_and_crops_are_refused_with_their_reason(
    data: dict[str, Any], augment: Any, message: str, photographs: Path
) -> None:
    with pytest.raises(BadInput, match=message):
        stream(photographs, data=data, augment=augment)


def test_a_zip_is_refused_and_a_broken_file_named_when_it_is_read(tmp_path: Path) -> None:
    root = put(tmp_path / "photographs", n=5)
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for path in sorted(root.rglob("*.png")):
            archive.write(path, path.relative_to(root).as_posix())
    with pytest.raises(BadInput, match="not in a zip; unpack it"):
        stream(tmp_path / "all.zip")
    (root / "train" / "class0" / "1.png").write_bytes(b"no picture")
    with pytest.raises(DataMissing, match=r"train/class0/1\.png' cannot be decoded"):
        pixels(stream(root).tasks[0])


def test_a_run_on_images_decoded_on_demand_is_repeated_bit_by_bit(photographs: Path, tmp_path: Path) -> None:
    import yaml

    (tmp_path / "conf" / "scenario").mkdir(parents=True)
    text = yaml.safe_dump(card(photographs, augment=AUGMENT))
    (tmp_path / "conf" / "scenario" / "photographs-v1.yaml").write_text(text)
    words = ("scenario=photographs-v1", "model=features", "trainer.epochs=2", f"data_dir={photographs.parent}")
    hashes = set()
    for store in ("a", "b"):
        answer = call("run", "--config-dir", "conf", *words, f"records={store}", cwd=tmp_path)
        assert answer.code == 0, answer
        hashes.add(only(tmp_path / store).result_sha256)
    assert len(hashes) == 1
