"""Studies: a sweep with a name that can be stopped and gone on with, and whose results are published."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from clbench.record import FILE
from tests.command import Answer, call, quick, records, refused
from tests.test_sweep import RAISES, unlucky

STUDY = """
purpose: Two strategies on digits, the smallest study there is.
cpu_minutes: 1
jobs: 1
sweeps:
  - [scenario=split_digits-v1, 'strategy=naive,replay', 'seed=range(2)', trainer.epochs=1, model.width=32]
"""


def study(cwd: Path, *words: str, name: str = "tiny.yaml") -> Answer:
    return call("study", name, "--out", "out", *words, cwd=cwd)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Answer]:
    cwd = tmp_path_factory.mktemp("study")
    (cwd / "tiny.yaml").write_text(STUDY)
    return cwd, study(cwd)


def test_a_study_runs_and_publishes_its_records_and_its_report(tiny: tuple[Path, Answer]) -> None:
    cwd, answer = tiny
    assert answer.code == 0, answer.err
    assert "study tiny: 4 runs, 0 done already; about 1 min for the rest in 1 process" in answer.out
    assert "[4/4, 0 min left]" in answer.out
    seconds = [float(s) for s in re.findall(r"average accuracy [\d.]+, ([\d.]+) CPU s", answer.out)]
    total = re.search(r"these 4 runs took ([\d.]+) CPU minutes", answer.out)
    assert len(seconds) == 4 and total is not None
    assert float(total[1]) == pytest.approx(sum(seconds) / 60, abs=0.06), "rounded to a tenth of a minute"
    pages = [f"leaderboard.{kind}" for kind in ("csv", "html", "json", "md", "tex")]
    assert sorted(p.name for p in (cwd / "out").iterdir()) == [*pages, "records"]
    assert {p.name for p in (cwd / "out" / "records").rglob("*") if p.is_file()} == {FILE}, "no kept predictions"
    published = {(r.names["strategy"], r.seed) for r in records(cwd / "out" / "records")}
    assert published == {("naive", 0), ("naive", 1), ("replay", 0), ("replay", 1)}
    assert len(list((cwd / "runs" / "tiny").rglob("predictions.npz"))) == 4, "they stay in the working folder"
    json.loads((cwd / "out" / "leaderboard.json").read_text())


def test_a_second_call_does_nothing_and_changes_no_byte(tiny: tuple[Path, Answer]) -> None:
    cwd, _ = tiny
    before = {p: p.read_bytes() for p in (cwd / "out").rglob("*") if p.is_file()}
    again = study(cwd)
    assert again.code == 0
    assert "4 runs, 4 done already; about 0 min" in again.out
    assert "average accuracy" not in again.out and "CPU minutes" not in again.out
    assert {p: p.read_bytes() for p in (cwd / "out").rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("words", [("strategy=replay",), ("strategy=ewc", "keep=false")])
def test_runs_that_are_not_the_studys_are_not_replaced(words: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(STUDY)
    assert quick(*words, cwd=tmp_path).code == 0
    before = {p for p in (tmp_path / "records").rglob("*") if p.is_file()}
    refused(call("study", "tiny.yaml", "--out", ".", cwd=tmp_path), "would be replaced", "which is not of this study")
    assert {p for p in (tmp_path / "records").rglob("*") if p.is_file()} == before


def test_a_study_is_not_published_into_the_folder_that_it_works_in(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(STUDY)
    for words in (("--out", "runs/tiny"), ("--out", ".", "--records", "records")):
        refused(call("study", "tiny.yaml", *words, cwd=tmp_path), "name another --out")


def test_what_a_study_asks_for_in_addition_is_measured(tmp_path: Path) -> None:
    small = STUDY.replace("naive,replay", "naive").replace("range(2)", "range(1)")
    (tmp_path / "tiny.yaml").write_text(small)
    assert study(tmp_path).code == 0
    (tmp_path / "tiny.yaml").write_text(small.replace("model.width=32", "model.width=32, probe_every=3"))
    assert "1 runs, 0 done already" in study(tmp_path).out
    (record,) = records(tmp_path / "out" / "records")
    assert record.curves["every"] == 3


def test_no_process_at_all_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(STUDY)
    refused(study(tmp_path, "--jobs", "0"), "--jobs must be a whole number from 1 on; got 0")


def test_a_dry_run_gives_the_estimate_and_runs_nothing(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(STUDY)
    answer = study(tmp_path, "--dry-run")
    assert answer.code == 0
    assert "4 runs, 0 done already; about 1 min" in answer.out
    assert not records(tmp_path)
    assert not (tmp_path / "out").exists()


def test_published_records_are_gone_on_from_unless_everything_is_to_be_measured_here(
    tiny: tuple[Path, Answer],
) -> None:
    cwd, _ = tiny
    adopted = study(cwd, "--records", "elsewhere")
    assert "4 done already" in adopted.out
    fresh = study(cwd, "--records", "anew", "--fresh", "--jobs", "2")
    assert fresh.code == 0
    assert "0 done already" in fresh.out
    assert "4 of 4 results are bit-identical to those committed before" in fresh.out


def test_a_study_in_which_a_run_fails_ends_with_code_1_and_a_report_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "luck.py").write_text(RAISES)
    common = "scenario=split_digits-v1, 'seed=range(2)', trainer.epochs=1, model.width=32"
    (tmp_path / "mixed.yaml").write_text(
        "purpose: One run fails, one is skipped, the others end.\ncpu_minutes: 1\njobs: 1\nsweeps:\n"
        f"  - [{common}, strategy._target_=luck.Raises, +strategy.unlucky={unlucky(1)}]\n"
        "  - [scenario=labelled_digits-v1, strategy=icarl, trainer.epochs=1]\n"
    )
    answer = study(tmp_path, name="mixed.yaml")
    assert answer.code == 1
    assert "failed (ZeroDivisionError: this strategy had bad luck" in answer.out
    assert "skipped" in answer.out
    assert {(r.status, r.seed) for r in records(tmp_path / "out" / "records")} == {
        ("ok", 0),
        ("failed", 1),
        ("skipped", 0),
    }
    assert "1 of 2" in (tmp_path / "out" / "leaderboard.md").read_text()

    again = study(tmp_path, name="mixed.yaml")
    assert again.code == 1
    assert "3 runs, 2 done already" in again.out, "only what failed is tried again"


def test_a_run_whose_process_is_killed_takes_no_other_along(tmp_path: Path) -> None:
    killed = RAISES.replace("raise ZeroDivisionError", "import os, signal; os.kill(os.getpid(), signal.SIGKILL); raise")
    (tmp_path / "doom.py").write_text(killed)
    (tmp_path / "doomed.yaml").write_text(
        "purpose: The second of five runs is killed, as for want of memory.\ncpu_minutes: 1\njobs: 2\nsweeps:\n"
        "  - [scenario=split_digits-v1, 'seed=range(5)', trainer.epochs=1, model.width=32, "
        f"strategy._target_=doom.Raises, +strategy.unlucky={unlucky(1)}]\n"
    )
    answer = study(tmp_path, name="doomed.yaml")
    assert answer.code == 1
    assert answer.out.count("its process was killed; was there memory enough?") == 1
    assert {(r.status, r.seed) for r in records(tmp_path / "out" / "records")} == {("ok", s) for s in (0, 2, 3, 4)}
    assert "[5/5, 0 min left]" in answer.out


INTERRUPTIBLE = """
import signal, sys
from clbench.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background is started without
sys.exit(main(["study", "tiny.yaml", "--out", "out"]))
"""


def test_a_study_that_is_interrupted_ends_at_once_and_goes_on_later(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(STUDY.replace("range(2)", "range(200)"))
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", INTERRUPTIBLE]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=pipe, stderr=pipe, text=True)
    assert process.stdout is not None
    lines = [process.stdout.readline(), process.stdout.readline()]
    process.send_signal(signal.SIGINT)
    try:
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert lines[1].startswith("[1/400"), lines
    assert process.returncode == 130
    assert "interrupted; the same command goes on from the last finished task" in err
    done = len(records(tmp_path / "runs"))
    assert 1 <= done < 100
    (tmp_path / "tiny.yaml").write_text(STUDY.replace("range(2)", "range(1)").replace("naive,replay", "naive"))
    assert "1 runs, 1 done already" in study(tmp_path).out


def test_an_interruption_while_a_line_is_printed_ends_a_study_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(line: str) -> None:
        if line.startswith("[1/"):
            raise KeyboardInterrupt

    (tmp_path / "tiny.yaml").write_text(STUDY.replace("range(2)", "range(30)"))
    monkeypatch.setattr("clbench.cli.study._say", interrupted)
    assert study(tmp_path).code == 130
    assert 1 <= len(records(tmp_path / "runs")) < 30


def test_a_study_without_a_single_record_ends_with_code_1_and_says_why(tmp_path: Path) -> None:
    (tmp_path / "none.yaml").write_text(
        "purpose: The data are missing.\ncpu_minutes: 1\njobs: 1\n"
        "sweeps: [[scenario=split_cifar10_5k-v1, strategy=naive, data_dir=nowhere]]\n"
    )
    answer = study(tmp_path, name="none.yaml")
    assert answer.code == 1, answer.err
    assert "no data at 'nowhere/cifar10_jpeg.zip'" in answer.out
    assert "nothing to report" in answer.out


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("purpose: None.\njobs: 1\n", ["lacks: cpu_minutes, sweeps", "it needs purpose, cpu_minutes, jobs and sweeps"]),
        ("purpose: [", ["not readable YAML"]),
        (
            "purpose: x\ncpu_minutes: 1\njobs: 1\nsweeps: [[scenario=split_digit-v1]]\n",
            ["did you mean 'split_digits-v1'"],
        ),
        ("purpose: x\ncpu_minutes: long\njobs: 1\nsweeps: []\n", ["long"]),
        ("purpose: x\ncpu_minutes: 1\njobs: 0\nsweeps: []\n", ["needs jobs >= 1 and finite cpu_minutes; got 0, 1.0"]),
    ],
    ids=["lacking", "not YAML", "unknown scenario", "not a number", "no process"],
)
def test_a_bad_study_is_refused_in_words(text: str, parts: list[str], tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    refused(study(tmp_path, name="bad.yaml"), *parts)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("{title: x, of: {strategy: naive}, against: {strategy: replay}, measured: [forgeting]}", "'forgeting'"),
        ("{title: x, of: {strategy: naive}, against: {strategy: replay}, mesured: [forgetting]}", "got 'mesured'"),
        ("naive", "a comparison needs title, of and against; got 'naive'"),
    ],
)
def test_a_comparison_that_cannot_be_made_is_refused_before_the_first_run(
    asked: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "wrong.yaml").write_text(f"{STUDY}comparisons:\n  - {asked}\n")
    refused(study(tmp_path, name="wrong.yaml"), message)
    assert not list(tmp_path.rglob(FILE))
