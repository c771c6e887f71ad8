"""Streams made from real images: split rules, random streams, fingerprints, folders and zips, augmentation, batches."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from clbench.cards import Scenario
from clbench.data import images
from clbench.data.cache import cached
from clbench.data.rows import CropFlip
from clbench.errors import BadInput, DataMissing, TaskClosedError
from clbench.places import cards
from clbench.seeds import Seeds
from clbench.stream import Batch, Feed, Task, TaskStream, TaskView, batch_bounds

CPU = torch.device("cpu")
PROSE = {"summary": "A test.", "licence": "CC-BY-4.0", "citation": "none"}


def scenario(**fields: Any) -> Scenario:
    card = {"name": "test", "data": {"source": "digits"}, "rule": "classes", "n_tasks": 5, **PROSE, **fields}
    return Scenario.from_card({"protocol": "class-incremental", **card})


def build(seeds: Seeds | int = 0, data_dir: Path = Path("data"), **fields: Any) -> TaskStream:
    return scenario(**fields).build(Seeds.of(seeds) if isinstance(seeds, int) else seeds, data_dir)


@cache
def digits() -> TaskStream:
    return build()


def pixels(task: Task, half: str = "train") -> torch.Tensor:
    split = getattr(task, half)
    return torch.as_tensor(split.inputs["image"][torch.arange(len(split))])


# --- split rules


def test_ten_classes_in_three_tasks_are_four_three_and_three_with_none_dropped() -> None:
    stream = build(n_tasks=3)
    assert [len(t.classes) for t in stream.tasks] == [4, 3, 3]
    assert sorted(c for t in stream.tasks for c in t.classes) == list(range(10))
    assert sum(len(t.train) + len(t.test) for t in stream.tasks) == 1797


def test_explicit_increments_and_a_class_order_from_the_card_are_kept() -> None:
    order = [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]
    stream = build(n_tasks=3, increments=[5, 1, 4], class_order=order)
    assert [t.classes for t in stream.tasks] == [(5, 6, 7, 8, 9), (4,), (0, 1, 2, 3)]
    assert stream.tasks[1].class_names == ("4",)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"increments": [5, 4], "n_tasks": 2}, "sum to the 10 classes"),
        ({"increments": [10, 0], "n_tasks": 2}, "positive"),
        ({"increments": [5, 5], "n_tasks": 3}, "are 2 tasks, but n_tasks is 3"),
        ({"class_order": [0, 1, 2]}, "permutation of 0..9"),
        ({"class_order": [0] * 10}, "permutation of 0..9"),
        ({"n_tasks": 11}, "at most 10"),
        ({"n_tasks": 0}, "at least 1"),
        ({"rule": "clases"}, "did you mean 'classes'"),
        ({"rule": "domain"}, "needs data with domains"),
        ({"rule": "instances", "n_tasks": 100}, "fewer than n_tasks"),
        ({"test_fraction": 1.0}, "between 0 and 1"),
        ({"subset": {"train": 101}}, "multiple of the 10 classes"),
        ({"subset": {"train": 100000}}, "has only"),
        ({"data": {"source": "digit"}}, "did you mean 'digits'"),
        ({"data": {"source": "digits", "size": 3}}, "does not take these options"),
        ({"normalise": {"mean": [0.1, 0.2], "std": [1.0, 1.0]}}, "one per channel"),
    ],
)
def test_an_impossible_card_is_refused_with_its_reason(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        build(**fields)


def test_a_card_with_an_unknown_or_missing_field_or_protocol_names_it() -> None:
    with pytest.raises(BadInput, match="did you mean 'n_tasks'"):
        scenario(n_task=3)
    with pytest.raises(BadInput, match="lacks: name, summary"):
        Scenario.from_card({"protocol": "class-incremental"})
    with pytest.raises(BadInput, match="did you mean 'task-incremental'"):
        scenario(protocol="task-incremental-ish")


def test_permutation_moves_the_same_pixels_of_every_image_and_leaves_the_first_task_alone() -> None:
    stream = build(rule="permutation", n_tasks=3, protocol="domain-incremental")
    first, second, third = (pixels(t) for t in stream.tasks)
    assert not torch.equal(first, second)
    assert not torch.equal(second, third)
    torch.testing.assert_close(first.flatten(1).sort(1).values, second.flatten(1).sort(1).values)
    assert all(torch.equal(t.train.labels, stream.tasks[0].train.labels) for t in stream.tasks)
    columns, moved = first.flatten(1).T, second.flatten(1).T  # a pixel's values over all images move as one
    known = {column.numpy().tobytes() for column in columns}
    assert {column.numpy().tobytes() for column in moved} == known
    assert {column.numpy().tobytes() for column in pixels(stream.tasks[1], "test").flatten(1).T} == {
        column.numpy().tobytes() for column in pixels(stream.tasks[0], "test").flatten(1).T
    }


def test_rotation_turns_by_equal_steps() -> None:
    stream = build(rule="rotation", n_tasks=4, max_degrees=360, protocol="domain-incremental")
    assert [t.name for t in stream.tasks] == ["0 degrees", "90 degrees", "180 degrees", "270 degrees"]
    upright, quarter = pixels(stream.tasks[0]), pixels(stream.tasks[1])
    turned = torch.rot90(upright, 1, dims=(2, 3))
    assert (quarter - turned).abs().mean() < 0.01
    assert len(digits().tasks[0].classes) == 2
    assert stream.tasks[0].classes == tuple(range(10))


def test_instances_deal_all_rows_out_to_tasks_of_the_same_classes() -> None:
    stream = build(rule="instances", n_tasks=4, protocol="domain-incremental")
    rows = np.concatenate([np.concatenate([t.train.index, t.test.index]) for t in stream.tasks])
    assert sorted(rows.tolist()) == list(range(1797))
    for task in stream.tasks:
        assert task.classes == tuple(range(10))
        counts = torch.bincount(task.train.labels)
        assert counts.max() - counts.min() <= 6


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"n_tasks": 3},
        {"rule": "permutation", "protocol": "domain-incremental"},
        {"rule": "rotation", "protocol": "domain-incremental"},
        {"rule": "instances", "protocol": "domain-incremental"},
        {"data": {"source": "mnist5k"}, "subset": {"train": 1000, "test": 500}},
    ],
)
def test_no_training_row_of_any_task_is_a_test_row_of_any(fields: dict[str, Any]) -> None:
    stream = build(**fields)
    train = {int(r) for t in stream.tasks for r in t.train.index}
    test = {int(r) for t in stream.tasks for r in t.test.index}
    assert not train & test
    if fields.get("rule", "classes") in ("classes", "instances"):
        for one, other in combinations(stream.tasks, 2):
            assert not set(one.train.index) & set(other.train.index)
    if "subset" in fields:
        assert (len(train), len(test)) == (1000, 500)


# --- random streams and fingerprints


def split_of(stream: TaskStream) -> tuple[set[int], set[int]]:
    train = {int(r) for t in stream.tasks for r in t.train.index}
    return train, {int(r) for t in stream.tasks for r in t.test.index}


def test_the_order_seed_changes_the_order_of_classes_and_not_the_split_of_rows() -> None:
    base, other = build(Seeds()), build(Seeds(order=1))
    assert [t.classes for t in base.tasks] != [t.classes for t in other.tasks]
    assert split_of(base) == split_of(other)


def test_the_split_seed_changes_the_rows_and_not_the_order_of_classes() -> None:
    base, other = build(Seeds()), build(Seeds(split=1))
    assert [t.classes for t in base.tasks] == [t.classes for t in other.tasks]
    assert split_of(base) != split_of(other)


def test_seeds_of_training_leave_the_stream_alone() -> None:
    assert build(Seeds(init=1, shuffle=2, augment=3, strategy=4)).fingerprint == digits().fingerprint


def test_streams_of_one_seed_are_independent_and_repeat() -> None:
    seeds = Seeds.of(3)
    draws = [seeds.generator(s).random() for s in ("order", "split", "init", "shuffle", "augment", "strategy")]
    assert len(set(draws)) == 6
    assert seeds.generator("shuffle", 1, "train", 2).random() == seeds.generator("shuffle", 1, "train", 2).random()
    assert seeds.generator("shuffle", 1, "train", 2).random() != seeds.generator("shuffle", 1, "fisher", 2).random()
    assert 0 <= seeds.integer("init", "model") < 2**63


def test_building_uses_no_global_random_state() -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index]  # noqa: NPY002
    build(rule="permutation", protocol="domain-incremental")
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()  # type: ignore[index]  # noqa: NPY002


@pytest.mark.parametrize(
    "changed",
    [
        {"test_fraction": 0.3},
        {"n_tasks": 2},
        {"class_order": [2, 1, 0, 3, 4, 5, 6, 7, 8, 9]},
        {"normalise": {"mean": [0.1], "std": [1.0]}},
        {"protocol": "task-incremental"},
        {"rule": "rotation"},
        {"augment": {"crop": 1, "flip": True}},
        {"data": {"source": "mnist5k"}},
    ],
)
def test_the_fingerprint_changes_with_what_is_measured(changed: dict[str, Any]) -> None:
    base: dict[str, Any] = {"class_order": list(range(10))}
    assert build(**{**base, **changed}).fingerprint != build(**base).fingerprint


def test_the_fingerprint_does_not_change_with_prose_and_repeats() -> None:
    assert build(summary="Another.", notes="More.").fingerprint == digits().fingerprint == build().fingerprint


@pytest.mark.parametrize("name", ["split_digits-v1", "permuted_mnist5k-v1"])
def test_an_official_card_gives_the_stream_its_fingerprint_says(name: str) -> None:
    assert Scenario.from_card(cards()[name]).build(Seeds.of(0)).fingerprint == cards()[name]["fingerprint"]


# --- image folders and zips


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
        pytest.skip(f"no cifar10_jpeg.zip in {folder}; set CLBENCH_DATA")
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


# --- augmentation


def images_of_digits(n: int = 32) -> torch.Tensor:
    return pixels(digits().tasks[0])[:n]


def test_crop_and_flip_keep_the_shape_and_follow_the_generator() -> None:
    augment, x = CropFlip(2, flip=True), images_of_digits()
    one, again, other = (augment(x, np.random.default_rng(s)) for s in (0, 0, 1))
    assert one.shape == x.shape
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert torch.equal(x, images_of_digits())  # what came in is left alone


def test_flip_mirrors_about_half_of_the_images_and_changes_nothing_else() -> None:
    x = images_of_digits(180)
    y = CropFlip(0, flip=True)(x, np.random.default_rng(0))
    mirrored = [torch.equal(b, a.flip(-1)) for a, b in zip(x, y, strict=True)]
    untouched = [torch.equal(b, a) for a, b in zip(x, y, strict=True)]
    assert all(m or u for m, u in zip(mirrored, untouched, strict=True))
    assert 0.35 < sum(mirrored) / len(x) < 0.65


def test_crop_shifts_by_at_most_its_padding_and_fills_with_zeros() -> None:
    x = torch.arange(1, 17.0).reshape(1, 1, 4, 4)
    padded = torch.nn.functional.pad(x, [1] * 4)
    windows = [padded[0, 0, r : r + 4, c : c + 4] for r in range(3) for c in range(3)]
    seen = set()
    for seed in range(60):
        y = CropFlip(1, flip=False)(x, np.random.default_rng(seed))[0, 0]
        seen.add(next(k for k, window in enumerate(windows) if torch.equal(window, y)))
    assert seen == set(range(9))


def test_a_batch_holds_the_raw_and_the_augmented_view_and_raw_is_the_data() -> None:
    stream = build(augment={"crop": 1, "flip": True})
    view = view_of(stream)
    for batch in view.batches(16):
        assert torch.equal(batch.raw["image"], view.data.take(batch.rows)["image"])
        assert batch.inputs["image"].shape == batch.raw["image"].shape
        assert not torch.equal(batch.inputs["image"], batch.raw["image"])
        stored = batch.augmented({**batch.raw, "y": batch.y}, np.random.default_rng(0))
        assert not torch.equal(stored["image"], batch.raw["image"])
        assert torch.equal(stored["y"], batch.y)
    plain = next(view_of().batches(16))
    assert plain.inputs["image"] is plain.raw["image"]
    assert torch.equal(plain.augmented(plain.raw, np.random.default_rng(0))["image"], plain.raw["image"])


# --- batches


def view_of(
    stream: TaskStream | None = None,
    shuffle: int = 0,
    position: dict[str, tuple[int, int]] | None = None,
    index: int = 1,
) -> TaskView:
    stream = stream or digits()
    seeds = Seeds(shuffle=shuffle)
    feed = Feed(
        lambda name, *keys: seeds.generator(name, index, *keys),
        CPU,
        stream.augment,
        position={} if position is None else position,
    )
    return TaskView(stream.tasks[index - 1], stream.spec.protocol, feed)


def flat(batches: Iterator[Batch]) -> list[tuple[int, int, bytes, bytes]]:
    return [(b.epoch, b.step, b.rows.numpy().tobytes(), b.inputs["image"].numpy().tobytes()) for b in batches]


def test_every_sample_comes_once_an_epoch_in_another_order_each_time() -> None:
    view = view_of()
    orders: dict[int, list[int]] = {}
    for batch in view.batches(32, epochs=3):
        orders.setdefault(batch.epoch, []).extend(batch.rows.tolist())
        assert torch.equal(batch.y, view.data.labels[batch.rows])
    assert set(orders) == {1, 2, 3}
    assert all(sorted(order) == list(range(len(view.data))) for order in orders.values())
    assert len({tuple(order) for order in orders.values()}) == 3


def test_equal_seeds_give_equal_batches_and_other_seeds_and_phases_others() -> None:
    base = flat(view_of().batches(32, 2))
    assert flat(view_of().batches(32, 2)) == base
    assert flat(view_of(shuffle=1).batches(32, 2)) != base
    assert flat(view_of().batches(32, 2, phase="fisher")) != base


def test_a_remainder_of_one_joins_the_batch_before_it() -> None:
    assert batch_bounds(7, 3) == [(0, 3), (3, 7)]
    assert batch_bounds(8, 3) == [(0, 3), (3, 6), (6, 8)]
    assert batch_bounds(1, 3) == [(0, 1)]
    assert batch_bounds(0, 3) == []
    view = view_of()
    sizes = [len(b.y) for b in view.batches(len(view.data) - 1)]
    assert sizes == [len(view.data)]


def test_the_last_batch_of_an_epoch_says_so() -> None:
    marks = [(b.step, b.last) for b in view_of().batches(100, 2)]
    per_epoch = len(marks) // 2
    assert [m[1] for m in marks] == ([False] * (per_epoch - 1) + [True]) * 2
    assert [m[0] for m in marks] == list(range(1, per_epoch + 1)) * 2


@pytest.mark.parametrize("taken", [1, 3, 9, 10])
def test_a_new_view_goes_on_exactly_from_the_saved_position(taken: int) -> None:
    stream = build(augment={"crop": 1, "flip": True})
    whole = flat(view_of(stream).batches(32, 3))
    assert len(whole) > 10
    position: dict[str, tuple[int, int]] = {}
    batches = view_of(stream, position=position).batches(32, 3)
    done = flat(next(batches) for _ in range(taken))
    interrupted = dict(position)  # as the harness saves it while the strategy has batch number ``taken`` in its hands
    rest = flat(view_of(stream, position=interrupted).batches(32, 3))
    assert done == whole[:taken]
    assert rest == whole[taken - 1 :]  # that batch was handed out, but its step may not have been made


def test_a_finished_phase_yields_nothing_and_another_phase_starts_fresh() -> None:
    view = view_of()
    assert len(flat(view.batches(32, 2))) > 0
    assert flat(view.batches(32, 2)) == []
    assert len(flat(view.batches(32, 2, phase="second"))) > 0
    assert len(flat(view.batches(32, 3))) == len(flat(view_of().batches(32, 1)))  # one epoch more was asked for


def test_a_closed_view_raises_whatever_is_asked_of_it() -> None:
    view = view_of()
    running, stored = view.batches(32), view.samples()
    next(running)
    view.close()
    for ask in (
        lambda: view.data,
        lambda: view.samples(),
        lambda: next(view.batches(32, phase="other")),
        lambda: next(running),
        lambda: next(view.batches(32, phase="stored", samples=stored)),
    ):
        with pytest.raises(TaskClosedError, match="train_task"):
            ask()
    assert view.classes == digits().tasks[0].classes


def test_given_samples_are_iterated_instead_with_their_extra_rows() -> None:
    view = view_of()
    samples = view.samples() | {"logits": torch.randn(len(view.data), 4)}
    chosen = {name: rows[:50] for name, rows in samples.items()}
    seen = []
    for batch in view.batches(16, samples=chosen):
        assert torch.equal(batch.extras["logits"], chosen["logits"][batch.rows])
        assert torch.equal(batch.inputs["image"], chosen["image"][batch.rows])
        assert torch.equal(batch.y, chosen["y"][batch.rows])
        assert set(batch.extras) == {"logits", "label"}
        seen += batch.rows.tolist()
    assert sorted(seen) == list(range(50))


def test_samples_are_copies_with_the_task_label_where_there_is_one() -> None:
    view = view_of()
    view.samples()["y"].fill_(99)
    view.samples()["image"].fill_(99)
    assert view.data.labels.max() < 10
    assert float(view.samples()["image"].max()) <= 1
    assert set(view.samples()["label"].tolist()) == {0}
    labelled = view_of(build(protocol="task-incremental"), index=2)
    assert labelled.label == 2
    assert set(labelled.samples()["label"].tolist()) == {2}
    assert view.label is None
    assert view.last is None


def test_nonsense_sizes_are_refused() -> None:
    with pytest.raises(BadInput, match="size >= 1"):
        next(view_of().batches(0))
    assert flat(view_of().batches(10, epochs=0)) == []


def test_iterating_uses_no_global_random_state() -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index]  # noqa: NPY002
    flat(view_of(build(augment={"crop": 1, "flip": True})).batches(32, 2))
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()  # type: ignore[index]  # noqa: NPY002


def test_what_does_not_fit_in_memory_stays_where_it_is_and_gives_the_same_rows() -> None:
    split = digits().tasks[0].train
    small = split.on(CPU)
    large = split.on(CPU, limit_bytes=10)
    assert isinstance(small.inputs["image"], torch.Tensor)
    assert not isinstance(large.inputs["image"], torch.Tensor)
    rows = torch.tensor([5, 2, 2])
    assert torch.equal(small.take(rows)["image"], large.take(rows)["image"])
    with pytest.raises(BadInput, match="no labels"):
        _ = replace(split, y=None).labels
