"""``clbench merge`` takes other people's records in: checked, to places of our choice, overwriting nothing."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clbench.record import FILE, PREDICTIONS, load_predictions, save_predictions
from clbench.store import Store
from tests.command import Answer, call, quick, records, refused
from tests.faulty_records import another_stream, as_schema_1, copy_of, edited, lowered, set_field


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs with their kept predictions, in the folder ``theirs``."""
    cwd = tmp_path_factory.mktemp("good")
    assert quick("-m", "seed=0,1", "scenario.n_tasks=2", "records=theirs", cwd=cwd).code == 0
    return cwd / "theirs"


def merge(source: Path | str, cwd: Path, *words: str) -> Answer:
    return call("merge", source, "--into", "records", *words, cwd=cwd)


def files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def record_files(root: Path) -> dict[str, bytes]:
    return {name: content for name, content in files(root).items() if name.endswith(FILE)}


def test_records_are_taken_as_they_are_and_what_lies_beside_them_is_not(good: Path, tmp_path: Path) -> None:
    answer = merge(good, tmp_path)
    assert answer.code == 0
    assert "2 taken into records, 0 there already, 0 left out" in answer.out
    assert "not taken, since only records are: 2 predictions.npz, 2 state.safetensors" in answer.out
    assert files(tmp_path / "records") == record_files(good), "to the same places, byte for byte, and nothing else"
    assert records(tmp_path / "records") == records(good)


def test_what_is_there_already_stays_and_is_said(good: Path, tmp_path: Path) -> None:
    merge(good, tmp_path)
    before = files(tmp_path / "records")
    answer = merge(good, tmp_path, "--with-predictions")
    assert answer.code == 0
    assert "0 taken into records, 2 there already, 0 left out" in answer.out
    assert files(tmp_path / "records") == before


def test_an_older_record_of_the_same_result_is_there_already(good: Path, tmp_path: Path) -> None:
    merge(good, tmp_path)
    as_schema_1(copy_of(next(good.rglob(FILE)), tmp_path / "old", 0))
    assert "1 there already" in merge("old", tmp_path).out


def test_an_older_record_is_taken_as_it_is(good: Path, tmp_path: Path) -> None:
    path = copy_of(next(good.rglob(FILE)), tmp_path / "old", 0)
    as_schema_1(path)
    assert merge("old", tmp_path).code == 0
    (taken,) = (tmp_path / "records").rglob(FILE)
    assert taken.read_bytes() == path.read_bytes()


def test_the_same_run_with_another_result_is_named_and_the_one_that_is_there_stays(good: Path, tmp_path: Path) -> None:
    merge(good, tmp_path)
    before = files(tmp_path / "records")
    path = copy_of(next(good.rglob(FILE)), tmp_path / "odd", 0)
    edited(path, lowered)
    answer = merge("odd", tmp_path)
    refused(answer, f"{path.relative_to(tmp_path)} is the run of records/", "with another result", code=1)
    assert files(tmp_path / "records") == before


def test_two_results_of_one_run_are_both_left_out(good: Path, tmp_path: Path) -> None:
    paths = [copy_of(next(good.rglob(FILE)), tmp_path / "odd", number) for number in range(2)]
    edited(paths[0], lowered)
    answer = merge("odd", tmp_path)
    assert answer.code == 1
    assert [line.split()[2] for line in answer.err.splitlines()] == [str(p.relative_to(tmp_path)) for p in paths]
    assert not records(tmp_path / "records")


def test_of_two_results_of_one_run_from_two_machines_one_is_taken_and_the_other_is_there(
    good: Path, tmp_path: Path
) -> None:
    paths = [copy_of(next(good.rglob(f"seed0-*/{FILE}")), tmp_path / "two", number) for number in range(2)]
    edited(paths[0], lowered)
    edited(paths[0], set_field("another", "environment", "processor"))
    answer = merge("two", tmp_path)
    assert "1 taken into records, 1 there already, 0 left out" in answer.out
    assert records(tmp_path / "records") == records(tmp_path / "two" / "copies")[-1:], "as the folder itself is read"


def test_a_failed_record_of_a_run_that_is_there_adds_nothing_and_a_finished_one_is_named(
    good: Path, tmp_path: Path
) -> None:
    done = next(good.rglob(f"seed0-*/{FILE}"))
    for folder in ("done", "both"):
        copy_of(done, tmp_path / folder, 0)
    for folder in ("failed", "both"):
        path = copy_of(done, tmp_path / folder, 1)
        edited(path, _failed)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert merge(tmp_path / "done", tmp_path / "a").code == 0
    assert "0 taken into records, 1 there already, 0 left out" in merge(tmp_path / "failed", tmp_path / "a").out
    assert merge(tmp_path / "failed", tmp_path / "b").code == 0
    refused(merge(tmp_path / "done", tmp_path / "b"), "with status failed: remove that one to take this", code=1)
    answer = merge(tmp_path / "both", tmp_path)
    assert "1 taken into records, 1 there already, 0 left out" in answer.out
    assert [r.status for r in records(tmp_path / "records")] == ["ok"]


def _failed(data: dict[str, Any]) -> None:
    data |= {"status": "failed", "reason": "boom", "result": {}, "costs": [], "curves": {}}


def test_the_streams_of_what_is_there_are_right_however_many_come(good: Path, tmp_path: Path) -> None:
    merge(good, tmp_path)
    for threads in range(2, 5):
        path = copy_of(next(good.rglob(f"seed1-*/{FILE}")), tmp_path / "odd", threads)
        edited(path, another_stream)
        edited(path, set_field(threads, "identity", "execution", "threads"))
    answer = merge("odd", tmp_path)
    assert answer.code == 1
    assert answer.err.count("but their streams differ") == 3
    assert len(records(tmp_path / "records")) == 2


def test_a_place_taken_by_a_damaged_record_is_not_overwritten(good: Path, tmp_path: Path) -> None:
    merge(good, tmp_path)
    path = next((tmp_path / "records").rglob(FILE))
    path.write_text("{")
    answer = merge(good, tmp_path)
    refused(answer, "is taken by no readable record", code=1)
    assert path.read_text() == "{"


def test_a_card_that_does_not_ship_is_taken_and_said(good: Path, tmp_path: Path) -> None:
    path = copy_of(next(good.rglob(FILE)), tmp_path / "own", 0)
    edited(path, set_field("mine-v1", "names", "scenario"))
    edited(path, set_field(None, "card", "fingerprint"))
    answer = merge("own", tmp_path)
    assert answer.code == 0
    assert "card 'mine-v1' does not ship with this clbench" in answer.out
    assert (tmp_path / "records" / "mine-v1").is_dir()


# --- kept predictions -------------------------------------------------------------------------------------------


def test_kept_predictions_come_along_where_they_are_asked_for(good: Path, tmp_path: Path) -> None:
    answer = merge(good, tmp_path, "--with-predictions")
    assert answer.code == 0
    assert "not taken, since only records are: 2 state.safetensors" in answer.out
    assert {Path(name).name for name in files(tmp_path / "records")} == {FILE, PREDICTIONS}
    assert not {name for name in files(tmp_path / "records") if files(good)[name] != files(tmp_path / "records")[name]}


def predicted_otherwise(kept: dict[str, Any]) -> None:
    kept["predicted"] = kept["predicted"] * 0 + kept["y"]
    kept["confidence"] = kept["confidence"] * 0 + 0.9


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (predicted_otherwise, "they give another accuracy than R[0, 1]"),
        (lambda kept: kept.update(truth=kept["truth"] / 2), "they give another"),
        (lambda kept: kept.update(probe=kept["probe"][::-1]), "they are not of"),
        (lambda kept: kept.pop("squares"), "they lack: squares"),
    ],
    ids=["other predictions", "other probabilities", "other probes", "missing"],
)
def test_predictions_of_something_else_keep_their_record_out(
    change: Any, words: str, good: Path, tmp_path: Path
) -> None:
    shutil.copytree(good, tmp_path / "theirs")
    path = next((tmp_path / "theirs").rglob(f"seed1-*/{PREDICTIONS}"))
    kept = load_predictions(path.parent)
    change(kept)
    save_predictions(path, kept)
    answer = merge("theirs", tmp_path, "--with-predictions")
    refused(answer, "has predictions that do not belong to it", words, code=1)
    assert [record.seed for record in records(tmp_path / "records")] == [0]


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


def test_nothing_of_a_record_runs_when_it_is_taken_read_or_reported(good: Path, tmp_path: Path) -> None:
    """Pickles in the place of predictions and of the state, and code's names in the record, are data at most."""
    shutil.copytree(good, tmp_path / "theirs")
    evil = tmp_path / "evil"
    pickled = pickle.dumps(Evil(evil))
    for number, path in enumerate(sorted((tmp_path / "theirs").rglob(FILE))):
        target = {"_target_": "os.system", "command": f"touch {evil}", "__reduce__": [f"touch {evil}"]}
        edited(path, set_field(target, "identity", "strategy", "parameters"))
        edited(path, set_field("os.system", "identity", "strategy", "target"))
        edited(path, set_field("mine", "names", "strategy"))
        (path.parent / "state.safetensors").write_bytes(pickled)
        (path.parent / PREDICTIONS).write_bytes(pickled)
        if number:
            with (path.parent / PREDICTIONS).open("wb") as file:
                np.savez(file, predicted=np.array([Evil(evil)], dtype=object))
    assert len(Store(tmp_path / "theirs").read().records) == 2
    assert (
        merge("theirs", tmp_path, "--with-predictions").err.count("do not belong to it: the arrays cannot be read") == 2
    )
    assert merge("theirs", tmp_path).code == 0
    assert len(Store(tmp_path / "records").read().records) == 2
    assert not evil.exists()


# --- predictions, and paths that lead elsewhere -----------------------------------------------------------------


def test_predictions_that_claim_more_than_there_is_memory_keep_their_record_out(good: Path, tmp_path: Path) -> None:
    shutil.copytree(good, tmp_path / "theirs")
    path = next((tmp_path / "theirs").rglob("predictions.npz"))
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**13,)})
    with zipfile.ZipFile(path, "w") as arrays:
        arrays.writestr("predicted.npy", header.getvalue() + b"\0" * 64)
    answer = merge("theirs", tmp_path, "--with-predictions")
    assert answer.code == 1
    assert "the arrays cannot be read" in answer.err and "1 taken" in answer.out


def test_a_label_with_a_path_in_its_overrides_stays_in_the_folder(good: Path, tmp_path: Path) -> None:
    path = copy_of(next(good.rglob(FILE)), tmp_path / "odd", 0)
    label = json.loads(path.read_text())["names"]["scenario"]
    edited(path, set_field(f"{label[:-1]},data.path=../../../up]", "names", "scenario"))
    assert merge("odd", tmp_path).code == 0
    (folder,) = (tmp_path / "records").iterdir()
    assert folder.name == f"{label[:-1]},data.path=.._.._.._up]"
