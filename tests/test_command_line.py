"""The command line: what it says, what it leaves on disk, and what it does not import."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from clbench.cli import KINDS
from clbench.places import shipped
from clbench.record import FILE, Record
from clbench.session import STATE
from clbench.state import save_state
from tests.command import QUICK, Answer, call, only, quick, records, refused, spawn, start

HEAVY = ("torch", "torchvision", "avalanche", "sklearn", "hydra", "matplotlib", "pandas")
LISTED = {
    "scenarios": ("split_digits-v1", "class-incremental", "permuted_mnist5k-v1", "split_cifar10-v1"),
    "strategies": ("naive", "replay", "ewc_online", "er_ace", "icarl", "joint", "Fine-tune on each task"),
    "models": ("mlp", "cnn", "resnet18_reduced"),
    "backbones": ("lite0", "vit_b16_in21k", "minilm", "tfidf", "Apache-2.0"),
    "metrics": ("average_accuracy.gem2017", "forgetting.rwalk2018", "forward_transfer.cuber2022", "R[j,j]", "higher"),
    "datasets": ("digits", "mnist5k", "folder"),
    "studies": ("leaderboard", "CPU min"),
}


def without_heavy_imports(*words: str, cwd: Path) -> str:
    """Run the command in a fresh interpreter; fail when it imported anything heavy, else return what it printed."""
    code = (
        "import sys\nfrom clbench.cli import main\n"
        "try:\n    code = main(sys.argv[1:])\nexcept SystemExit as end:\n    code = end.code or 0\n"
        f"found = [name for name in {HEAVY} if name in sys.modules]\n"
        "assert not found, found\nsys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["run", "--help"], ["study", "--help"]], ids=" ".join)
def test_help_imports_nothing_heavy(words: list[str], tmp_path: Path) -> None:
    assert "clbench" in without_heavy_imports(*words, cwd=tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_list_gives_the_shipped_names_and_imports_neither_torch_nor_avalanche(kind: str, tmp_path: Path) -> None:
    said = without_heavy_imports("list", kind, cwd=tmp_path)
    for name in LISTED[kind]:
        assert name in said


def test_a_command_is_needed_and_the_help_is_named(tmp_path: Path) -> None:
    refused(call(cwd=tmp_path), "clbench --help")
    assert call("run", cwd=tmp_path).code == 2


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Answer]:
    """The README's first command, as a person types it."""
    cwd = tmp_path_factory.mktemp("first")
    return cwd, spawn("run", "scenario=split_digits-v1", "strategy=replay", "seed=0", cwd=cwd)


def test_a_run_prints_its_table_and_the_place_of_its_record(first: tuple[Path, Answer]) -> None:
    cwd, answer = first
    assert answer.code == 0, answer.err
    assert "replay on split_digits-v1, mlp, seed 0" in answer.out
    assert "untrained" in answer.out
    assert "after task 5" in answer.out
    assert re.search(r"average accuracy +[\d.]+ % +average_accuracy\.gem2017", answer.out)
    place = re.search(r"^record: (.+)$", answer.out, re.MULTILINE)
    assert place is not None
    assert sorted(p.name for p in (cwd / place[1]).iterdir()) == ["predictions.npz", FILE, STATE]
    assert not list(cwd.glob("records/.checkpoints/*")), "a finished run leaves no checkpoint behind"


def test_piped_output_is_plain_lines(first: tuple[Path, Answer]) -> None:
    _, answer = first
    assert "\x1b" not in answer.out + answer.err
    assert "\r" not in answer.out + answer.err
    lines = answer.err.strip().splitlines()
    assert [re.search(r"task (\d)/5 done in [\d.]+ s, accuracy [\d.]+$", line) is not None for line in lines] == [
        True
    ] * 5


def test_the_same_command_again_says_done_already_and_touches_nothing(first: tuple[Path, Answer]) -> None:
    cwd, before = first
    files = {p: p.stat().st_mtime_ns for p in cwd.rglob("*") if p.is_file()}
    again = call("run", "scenario=split_digits-v1", "strategy=replay", "seed=0", cwd=cwd)
    assert again.code == 0
    assert again.err == ""
    assert again.out.replace(" (done already)", "") == before.out
    assert "done already" in again.out
    assert {p: p.stat().st_mtime_ns for p in cwd.rglob("*") if p.is_file()} == files


def test_the_resolved_configuration_is_shown_and_nothing_is_run(tmp_path: Path) -> None:
    answer = call(
        "run", "scenario=split_digits-v1", "strategy=ewc", "strategy.strength=7", "--cfg", "job", cwd=tmp_path
    )
    assert answer.code == 0
    assert "strength: 7" in answer.out
    assert "name: split_digits-v1" in answer.out
    assert "${" not in answer.out
    assert not list(tmp_path.iterdir())


def test_options_may_stand_between_overrides(tmp_path: Path) -> None:
    answer = call("run", "--cfg", "job", "scenario=split_digits-v1", "--config-dir", tmp_path, "seed=3", cwd=tmp_path)
    assert answer.code == 0, answer.err
    assert "seed: 3" in answer.out


def test_without_keep_only_the_record_is_written(tmp_path: Path) -> None:
    assert quick("keep=false", "records=here", cwd=tmp_path).code == 0
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == [FILE]


def test_an_override_of_the_card_makes_a_variant_with_a_name_of_its_own(tmp_path: Path) -> None:
    assert quick("scenario.n_tasks=2", cwd=tmp_path).code == 0
    record = only(tmp_path)
    assert record.names["scenario"] == "split_digits-v1[n_tasks=2]"
    assert record.matrix().n_tasks == 2


LONG = ("scenario=split_digits-v1", "strategy=replay", "model.width=64", "trainer.epochs=60")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Record:
    cwd = tmp_path_factory.mktemp("undisturbed")
    assert call("run", *LONG, cwd=cwd).code == 0
    return only(cwd)


def test_a_killed_run_goes_on_after_its_last_finished_task_to_the_same_bits(
    undisturbed: Record, tmp_path: Path
) -> None:
    process = start("run", *LONG, cwd=tmp_path)
    assert process.stderr is not None
    line = process.stderr.readline()
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    assert "task 1/5" in line
    assert process.returncode == -signal.SIGKILL
    assert not records(tmp_path), "the run was killed before its end"

    again = call("run", *LONG, cwd=tmp_path)
    assert again.code == 0
    assert "task 5/5" in again.err
    assert "task 1/5" not in again.err, "the first task is not trained again"
    assert only(tmp_path).result_sha256 == undisturbed.result_sha256
    assert not list(tmp_path.glob("records/.checkpoints/*"))


@pytest.mark.parametrize("damage", ["garbage", "empty", "foreign", "truncated"])
def test_a_damaged_checkpoint_makes_the_run_start_anew_to_the_same_result(damage: str, tmp_path: Path) -> None:
    assert quick("strategy=replay", "records=whole", cwd=tmp_path).code == 0
    whole = only(tmp_path / "whole")
    checkpoint = tmp_path / "hurt" / ".checkpoints" / f"{whole.id}.safetensors"
    checkpoint.parent.mkdir(parents=True)
    save_state(checkpoint, {"something": "else"})
    if damage != "foreign":
        checkpoint.write_bytes({"garbage": b"x" * 999, "empty": b"", "truncated": checkpoint.read_bytes()[:50]}[damage])
    again = quick("strategy=replay", "records=hurt", cwd=tmp_path)
    assert again.code == 0
    assert again.err.count("done in") == 5
    assert only(tmp_path / "hurt").result_sha256 == whole.result_sha256


def test_a_folder_of_records_becomes_a_report_in_five_formats(tmp_path: Path) -> None:
    for strategy in ("naive", "replay"):
        assert call("run", "scenario=split_digits-v1", f"strategy={strategy}", *QUICK, cwd=tmp_path).code == 0
    answer = call("report", "records", "--out", "page", cwd=tmp_path)
    assert answer.code == 0
    assert "2 records" in answer.out
    written = sorted(path.name for path in (tmp_path / "page").iterdir())
    assert written == [f"leaderboard.{kind}" for kind in ("csv", "html", "json", "md", "tex")]
    assert "replay" in (tmp_path / "page" / "leaderboard.md").read_text()


def test_the_contract_is_checked_by_one_command(tmp_path: Path) -> None:
    answer = call("check", shipped("scenarios") / "split_digits-v1.yaml", cwd=tmp_path)
    assert answer.code == 0, answer.out
    assert "keeps the contract" in answer.out
    assert answer.out.count("passed") > 3
