"""A record that no run left is named with the reason; the others are used, and nothing is averaged with it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from clbench.record import FILE
from clbench.store import Store
from tests.command import call, quick, records
from tests.faulty_records import (
    CARELESS,
    FAULTS,
    another_stream,
    as_schema_1,
    copy_of,
    edited,
    lowered,
    perfect,
    set_field,
)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs of one entry, as they were left."""
    cwd = tmp_path_factory.mktemp("good")
    assert quick("-m", "seed=0,1,2", "probe_every=20", "probe_samples=200", cwd=cwd).code == 0
    return cwd / "records"


def faulty(good: Path, root: Path) -> dict[str, str]:
    """The good records and one copy of the first for each fault; the paths of the copies, with what is said of each."""
    shutil.copytree(good, root, ignore=shutil.ignore_patterns("*.npz", "*.safetensors"))
    (root.parent / "outside").mkdir()
    said = {}
    for number, (make, words) in enumerate(FAULTS.values()):
        path = copy_of(next(good.rglob(f"seed0-*/{FILE}")), root, number)
        make(path)
        said[f"{path.parent.relative_to(root)}"] = words
    return said


def test_every_faulty_record_is_named_by_the_report_and_only_the_others_are_in_it(good: Path, tmp_path: Path) -> None:
    assert call("report", good, "--out", tmp_path / "plain", cwd=tmp_path).code == 0
    said = faulty(good, tmp_path / "records")
    answer = call("report", "records", "--out", "out", cwd=tmp_path)
    assert answer.code == 0
    assert answer.out.startswith("3 records ")
    lines = [line for line in answer.err.splitlines() if line.startswith("left out: ")]
    assert len(lines) == len(said) == len(FAULTS)
    for path, words in said.items():
        (line,) = [line for line in lines if path in line]
        assert words in line
    page = json.loads((tmp_path / "out" / "leaderboard.json").read_text())
    assert len(page.pop("left_out")) == len(said), "the report says so too"
    plain = json.loads((tmp_path / "plain" / "leaderboard.json").read_text())
    plain.pop("left_out")
    assert page == plain, "not a digit of a faulty record is in it"


def test_every_faulty_record_is_named_by_merge_and_only_the_others_are_taken(good: Path, tmp_path: Path) -> None:
    said = faulty(good, tmp_path / "theirs")
    answer = call("merge", "theirs", "--into", "records", cwd=tmp_path)
    assert answer.code == 1
    assert f"3 taken into records, 0 there already, {len(said)} left out" in answer.out
    lines = answer.err.splitlines()
    assert len(lines) == len(said)
    for path, words in said.items():
        (line,) = [line for line in lines if path in line]
        assert words in line
    assert records(tmp_path / "records") == records(good)
    assert not list(tmp_path.rglob("evil*")), "nothing was written where a label pointed, no code was run"


def test_a_faulty_record_is_run_again_and_replaced(good: Path, tmp_path: Path) -> None:
    shutil.copytree(good, tmp_path / "records")
    path = next((tmp_path / "records").rglob(f"seed0-*/{FILE}"))
    whole = path.read_bytes()
    CARELESS["a flipped digit"][0](path)
    answer = quick("seed=0", "probe_every=20", "probe_samples=200", cwd=tmp_path)
    assert answer.code == 0
    assert "done already" not in answer.out
    assert json.loads(path.read_bytes())["result"] == json.loads(whole)["result"]


def test_a_stream_that_differs_from_the_others_of_its_seed_is_named_with_one_of_them(
    good: Path, tmp_path: Path
) -> None:
    """The card has no fingerprint for seed 1; two records of other runs of that seed have the right one."""
    paths = [copy_of(next(good.rglob(f"seed1-*/{FILE}")), tmp_path, number) for number in range(3)]
    for threads, path in enumerate(paths, start=1):
        edited(path, set_field(threads, "identity", "execution", "threads"))
    edited(paths[2], another_stream)

    def within(path: Path) -> Path:
        return path.relative_to(tmp_path)

    reading = Store(tmp_path).read()
    assert reading.left_out == (
        f"{within(paths[2])} and {within(paths[0])} are both split_digits-v1 with seed 1, but their streams differ",
    )
    assert len(reading.records) == 2


def test_records_of_one_name_with_other_cards_contradict_each_other(good: Path, tmp_path: Path) -> None:
    paths = [copy_of(next(good.rglob(f"seed{seed}-*/{FILE}")), tmp_path, seed) for seed in range(3)]
    for seed, path in enumerate(paths):
        edited(path, set_field("mine-v1", "names", "scenario"))
        for part in ("card", "identity"):
            names = (part,) if part == "card" else (part, "scenario")
            edited(path, set_field("natural" if seed else "seed", *names, "class_order"))
    (line,) = Store(tmp_path).read().left_out
    assert line.startswith(str(paths[0].relative_to(tmp_path)))
    assert "are both mine-v1, but their cards differ" in line


def test_a_copy_of_a_record_counts_once_and_two_results_of_one_run_not_at_all(good: Path, tmp_path: Path) -> None:
    paths = [copy_of(next(good.rglob(f"seed0-*/{FILE}")), tmp_path, number) for number in range(2)]
    reading = Store(tmp_path).read()
    assert reading.left_out == ()
    names = [path.relative_to(tmp_path) for path in paths]
    assert reading.repeated == ((names[0], names[1]),)
    assert len(reading.records) == 1
    edited(paths[1], lowered)
    reading = Store(tmp_path).read()
    assert [line.split()[0] for line in reading.left_out] == [str(name) for name in names]
    assert all("are records of one run, but their results differ" in line for line in reading.left_out)
    assert not reading.records


def test_two_results_of_one_run_from_two_machines_are_both_right_and_one_counts(good: Path, tmp_path: Path) -> None:
    paths = [copy_of(next(good.rglob(f"seed0-*/{FILE}")), tmp_path, number) for number in range(2)]
    edited(paths[1], lowered)
    edited(paths[1], set_field("another", "environment", "processor"))
    reading = Store(tmp_path).read()
    names = [path.relative_to(tmp_path) for path in paths]
    assert (reading.left_out, reading.repeated) == ((), ((names[0], names[1]),))
    out = call("report", tmp_path, cwd=tmp_path).out
    assert out.startswith("1 record is of a run that another record holds too")


def test_a_copy_is_no_second_witness_of_a_stream(good: Path, tmp_path: Path) -> None:
    """A run on other data that lies in three folders outvotes nobody."""
    wrong = [copy_of(next(good.rglob(f"seed1-*/{FILE}")), tmp_path, number) for number in range(3)]
    for path in wrong:
        edited(path, another_stream)
    for threads in (2, 3):
        path = copy_of(next(good.rglob(f"seed1-*/{FILE}")), tmp_path, threads + 1)
        edited(path, set_field(threads, "identity", "execution", "threads"))
    reading = Store(tmp_path).read()
    assert len(reading.records) == 2
    (line,) = reading.left_out
    assert line.startswith(str(wrong[-1].relative_to(tmp_path))) and "their streams differ" in line


def test_a_result_of_another_machine_has_the_same_counts(good: Path, tmp_path: Path) -> None:
    paths = [copy_of(next(good.rglob(f"seed0-*/{FILE}")), tmp_path, number) for number in range(2)]
    edited(paths[1], lowered)
    edited(paths[1], set_field("another", "environment", "processor"))
    edited(paths[1], set_field(123, "result", "counts", 0, "stored_samples"))
    assert len(Store(tmp_path).read().left_out) == 2


def test_a_result_that_rounding_does_not_explain_is_not_taken_for_that_of_another_machine(
    good: Path, tmp_path: Path
) -> None:
    paths = [copy_of(next(good.rglob(f"seed0-*/{FILE}")), tmp_path, number) for number in range(2)]
    edited(paths[1], perfect)
    edited(paths[1], set_field("another", "environment", "processor"))
    reading = Store(tmp_path).read()
    assert not reading.records
    assert [line.split()[0] for line in reading.left_out] == [str(path.relative_to(tmp_path)) for path in paths]
    assert all("are records of one run, but their results differ" in line for line in reading.left_out)


def test_a_name_that_is_no_text_is_spelt_out_and_nothing_is_lost(good: Path, tmp_path: Path) -> None:
    shutil.copytree(good, tmp_path / "records")
    for name in (b"\xff", b"a\x1b[31m\nb"):
        folder = tmp_path / "records" / os.fsdecode(name)
        folder.mkdir()
        (folder / FILE).write_text("{")
    answer = call("report", "records", "--out", "out", cwd=tmp_path)
    assert answer.code == 0 and answer.out.startswith("3 records ")
    assert "\nleft out: \\udcff/record.json is truncated" in f"\n{answer.err}"
    assert "left out: a\\x1b[31m\\nb/record.json is truncated" in answer.err
    assert len(json.loads((tmp_path / "out" / "leaderboard.json").read_text())["left_out"]) == 2


def test_the_name_of_the_folder_is_in_no_page(good: Path, tmp_path: Path) -> None:
    for name in ("a", "another"):
        shutil.copytree(good, tmp_path / name)
        CARELESS["half a file"][0](next((tmp_path / name).rglob(f"seed0-*/{FILE}")))
        assert call("report", name, "--out", f"{name}-out", cwd=tmp_path).code == 0
    pages = [{p.name: p.read_bytes() for p in (tmp_path / f"{name}-out").iterdir()} for name in ("a", "another")]
    assert pages[0] == pages[1]


def test_of_two_records_of_one_run_the_one_that_holds_more_counts(good: Path, tmp_path: Path) -> None:
    paths = [copy_of(next(good.rglob(f"seed0-*/{FILE}")), tmp_path, number) for number in range(2)]
    as_schema_1(paths[1])
    assert Store(tmp_path).read().repeated == (tuple(p.relative_to(tmp_path) for p in (paths[1], paths[0])),)


def test_older_records_load_with_empty_fields_for_what_they_lack(good: Path, tmp_path: Path) -> None:
    path = copy_of(next(good.rglob(f"seed0-*/{FILE}")), tmp_path, 0)
    as_schema_1(path)
    (record,) = Store(tmp_path).read().records
    assert record.curves == {}
    assert set(record.result["matrices"]) == {"accuracy", "task_masked_accuracy"}


def test_a_folder_of_records_that_is_itself_a_link_is_read(good: Path, tmp_path: Path) -> None:
    (tmp_path / "records").symlink_to(good)
    assert len(Store(tmp_path / "records").read().records) == 3
