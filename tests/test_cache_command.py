"""The feature cache on the command line: what ``clbench run`` takes from it and ``clbench cache`` does with it."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from clbench.data.cache import cached
from clbench.data.features import FEATURES, KEY, Entry, name_of, stored_features
from tests.command import Answer, call, only, records, refused, start
from tests.few_images import N_IMAGES, few_images
from tests.toy_features import ROWS, WHOLE, Counted, N, _shorten, flip

RUN = ("model=features", "strategy=naive", "trainer.epochs=1")


@dataclass(frozen=True)
class Filled:
    """A cache that two processes have filled together, and how they ended."""

    cache: Path
    words: list[str]
    records: Path
    answers: list[Answer]

    def run(self, *words: str, cwd: Path) -> Answer:
        return call("run", *self.words, *RUN, f"records={cwd / 'records'}", *words, cwd=cwd)

    @property
    def entry(self) -> Path:
        (folder,) = (p for p in (self.cache / "features").iterdir() if p.is_dir())
        return folder


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Filled:
    root = tmp_path_factory.mktemp("filled")
    words = few_images(root / "few")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLBENCH_CACHE", str(root / "cache"))
        both = [start("run", *words, *RUN, f"seed={seed}", f"records={root / 'records'}", cwd=root) for seed in (0, 1)]
        ends = [process.communicate(timeout=120) for process in both]
    answers = [Answer(process.returncode, *end) for process, end in zip(both, ends, strict=True)]
    return Filled(root / "cache", words, root / "records", answers)


@pytest.fixture
def at(filled: Filled, monkeypatch: pytest.MonkeyPatch) -> Filled:
    """The filled cache, in use."""
    monkeypatch.setenv("CLBENCH_CACHE", str(filled.cache))
    return filled


def test_two_runs_started_together_on_an_empty_cache_forward_each_image_once(at: Filled) -> None:
    assert [answer.code for answer in at.answers] == [0, 0], at.answers
    forwards = [record.environment["frozen_forwards"] for record in records(at.records)]
    assert sum(forwards) == N_IMAGES
    assert any("frozen features of 256 of 256 samples" in answer.err for answer in at.answers)


def test_a_second_run_forwards_nothing_and_its_accuracies_are_those_of_features_computed_anew(
    at: Filled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert at.run("seed=2", cwd=tmp_path / "..").code == 0
    cached = only(tmp_path.parent / "records")
    monkeypatch.setenv("CLBENCH_CACHE", str(tmp_path / "empty"))
    assert at.run("seed=2", cwd=tmp_path).code == 0
    anew = only(tmp_path / "records")
    assert cached.environment["frozen_forwards"] == 0
    assert anew.environment["frozen_forwards"] == N_IMAGES
    assert cached.result == anew.result


def test_the_key_names_everything_that_features_depend_on(at: Filled) -> None:
    key = json.loads((at.entry / KEY).read_text())
    assert set(key) == {"backbone", "code", "content", "device", "dtype", "transform", "weights"}
    assert key["backbone"]["variant"] == 0 and len(key["weights"]) == len(key["content"]) == 64
    assert key["dtype"] == "float32" and "(x - 127) / 128" in key["transform"]


def test_verify_finds_a_flipped_byte_and_the_next_run_computes_that_chunk_only(at: Filled, tmp_path: Path) -> None:
    before = np.array(np.load(at.entry / FEATURES))
    flip(at.entry / FEATURES, 128 + 4 * 1280 * 200)
    found = call("cache", "verify", cwd=tmp_path)
    assert found.code == 1 and "rows 128-255 are not what was computed" in found.out and at.entry.name in found.out
    assert call("cache", "verify", cwd=tmp_path).code == 0, "it has been taken out"
    assert "128 of 256" in call("cache", "list", cwd=tmp_path).out
    assert at.run("seed=3", cwd=tmp_path).code == 0
    assert only(tmp_path / "records").environment["frozen_forwards"] == 128
    assert np.array_equal(np.load(at.entry / FEATURES), before)


def test_a_run_finds_a_flipped_byte_by_itself(at: Filled, tmp_path: Path) -> None:
    flip(at.entry / FEATURES, 128 + 4 * 1280 * 10)
    assert at.run("seed=4", cwd=tmp_path).code == 0
    assert only(tmp_path / "records").environment["frozen_forwards"] == 128
    assert call("cache", "verify", cwd=tmp_path).code == 0


def test_list_shows_what_is_kept(at: Filled, tmp_path: Path) -> None:
    answer = call("cache", "list", cwd=tmp_path)
    assert answer.code == 0
    (line,) = (line for line in answer.out.splitlines() if "EfficientNetLite" in line)
    assert line.startswith(at.entry.name[:16])
    assert all(word in line for word in ("variant=0", "cpu", "256 of 256", "1280", "ago"))
    assert any("content, images" in line and "3 x 32 x 32" in line for line in answer.out.splitlines())
    assert "2 entries" in answer.out.splitlines()[-1]


def old(folder: Path, days: float) -> None:
    for path in (folder, *folder.iterdir()):
        os.utime(path, (time.time() - days * 86400,) * 2)


def test_prune_deletes_what_has_not_been_used_for_so_many_days(home: Path, tmp_path: Path) -> None:
    kept, gone = ({"entry": k} for k in range(2))
    for key in (kept, gone):
        stored_features(key, N, [ROWS], Counted())
        old(home / name_of(key), 31)
    stored_features(kept, N, [ROWS], Counted())  # used today
    answer = call("cache", "prune", cwd=tmp_path)
    assert answer.code == 0 and f"deleted features {name_of(gone)}: " in answer.out and "31 days ago" in answer.out
    assert not (home / name_of(gone)).exists()
    assert Entry.read(home / name_of(kept)) is not None
    old(home / name_of(kept), 3)
    assert "0 entries deleted" in call("cache", "prune", "--older-than", 4, cwd=tmp_path).out
    assert "1 entries deleted" in call("cache", "prune", "--older-than", 2, cwd=tmp_path).out
    assert not list(home.iterdir()), "neither entries nor locks"


def test_a_leftover_that_cannot_be_deleted_is_named_and_the_rest_is_cleared(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (".draft-a", "b.lock"):
        path = home / name
        path.mkdir(parents=True) if name.startswith(".") else path.touch()
        os.utime(path, (time.time() - 2 * 86400,) * 2)

    def refuse(path: Path, **_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("shutil.rmtree", refuse)
    answer = call("cache", "prune", "--older-than", 1, cwd=tmp_path)
    assert answer.code == 0
    assert f"'{home / '.draft-a'}', a leftover, cannot be deleted: Permission denied" in answer.out
    assert [path.name for path in home.iterdir()] == [".draft-a"]


def test_prune_takes_names_or_everything_and_leaves_what_it_does_not_know(home: Path, tmp_path: Path) -> None:
    for k in range(3):
        stored_features({"entry": k}, N, [ROWS], Counted())
    (home / "mine").mkdir()
    (home / "mine" / "thesis.txt").write_text("not yours")
    refused(call("cache", "prune", "nonsense", cwd=tmp_path), "unknown entry of the cache 'nonsense'", "known: ")
    assert call("cache", "prune", name_of({"entry": 1})[:10], cwd=tmp_path).code == 0
    assert not (home / name_of({"entry": 1})).exists() and (home / name_of({"entry": 2})).exists()
    assert call("cache", "prune", "--all", cwd=tmp_path).code == 0
    assert [p.name for p in home.iterdir()] == ["mine"]
    verified = call("cache", "verify", cwd=tmp_path)
    assert verified.code == 0 and f"{home / 'mine'} is not an entry of the cache, and left alone" in verified.out


def test_prune_does_not_take_an_entry_from_the_process_that_writes_it(home: Path, tmp_path: Path) -> None:
    Counted().stored()
    with FileLock(f"{home / name_of(WHOLE)}.lock"):
        refused(call("cache", "prune", "--all", cwd=tmp_path), "is being written by another process")
    assert Entry.read(home / name_of(WHOLE)) is not None


@pytest.mark.parametrize("damage", ["cut off", "flipped byte"])
def test_verify_names_an_entry_that_cannot_be_read_and_damaged_arrays(home: Path, tmp_path: Path, damage: str) -> None:
    Counted().stored()
    (home / name_of(WHOLE) / KEY).write_text("{")
    arrays = home.parent / "arrays" / "pictures"
    cached("pictures", lambda: {"images": np.zeros((10, 3, 8, 8), np.uint8)})
    if damage == "cut off":
        _shorten(arrays / "images.npy")
    else:
        flip(arrays / "images.npy", 500)
    answer = call("cache", "verify", cwd=tmp_path)
    assert answer.code == 1 and answer.out.splitlines()[-1].endswith("2 entries checked, 2 damaged")
    assert f"features {name_of(WHOLE)}: cannot be read" in answer.out
    assert "arrays pictures: images.npy is not what was written; deleted" in answer.out and not arrays.exists()


def test_an_empty_cache_is_listed_verified_and_pruned_without_a_word_too_much(home: Path, tmp_path: Path) -> None:
    for action in ("list", "verify", "prune"):
        answer = call("cache", action, cwd=tmp_path)
        assert answer.code == 0 and answer.err == "" and "0 entries" in answer.out
