"""Probes during training: what they give, and that they change nothing."""

from __future__ import annotations

import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clbench.checkpoint import Checkpoint
from clbench.loop import Progress
from clbench.measured import inputs, value
from clbench.metrics import metric
from clbench.record import Record
from clbench.state import State
from tests.command import QUICK, only, quick, refused, start
from tests.toy_records import toy_matrix, toy_record

OFTEN = ("probe_every=3", "probe_samples=20")


def probed(folder: Path, *words: str, scenario: str = "split_digits-v1") -> tuple[Record, Record]:
    """The same run without and with probes."""
    for name, extra in (("plain", ()), ("probed", OFTEN)):
        answer = quick(*words, *extra, f"records={name}", "keep=false", cwd=folder, scenario=scenario)
        assert answer.code == 0, answer
    return only(folder / "plain"), only(folder / "probed")


@pytest.mark.parametrize(
    ("strategy", "scenario"),
    [
        ("ewc", "split_digits-v1"),
        ("icarl", "split_digits-v1"),
        ("derpp", "permuted_digits-v1"),
        ("packnet", "labelled_digits-v1"),
        ("supsup_inferred", "split_digits-v1"),
        ("trgp", "labelled_digits-v1"),
        ("wsn", "labelled_digits-v1"),
    ],
)
def test_probing_in_the_middle_of_training_changes_no_bit_of_the_result(
    tmp_path: Path, strategy: str, scenario: str
) -> None:
    plain, watched = probed(tmp_path, f"strategy={strategy}", scenario=scenario)
    assert watched.result_sha256 == plain.result_sha256
    assert watched.id == plain.id
    assert not plain.curves
    assert watched.curves


def test_a_curve_begins_before_the_first_batch_and_ends_after_the_last(tmp_path: Path) -> None:
    _, record = probed(tmp_path, "strategy=replay")
    curves, steps = record.curves, [count["steps"] for count in record.result["counts"]]
    assert (curves["every"], curves["samples"]) == (3, 20)
    assert len(curves["accuracy"]) == 5
    assert {len(curves[name]) for name in ("task", "step")} == {len(column) for column in curves["accuracy"]}
    for task, n_steps in enumerate(steps, start=1):
        own = [step for t, step in zip(curves["task"], curves["step"], strict=True) if t == task]
        assert own == [*range(0, n_steps, 3), n_steps]
    assert all(score * 20 == pytest.approx(round(score * 20)) for column in curves["accuracy"] for score in column)


def test_probes_on_all_test_samples_meet_the_score_matrix_at_the_end_of_each_task(tmp_path: Path) -> None:
    assert quick("probe_every=100", "probe_samples=100000", cwd=tmp_path).code == 0
    record = only(tmp_path)
    last = [n for n, task in enumerate(record.curves["task"]) if [*record.curves["task"], 9][n + 1] != task]
    at_ends = np.array(record.curves["accuracy"])[:, last].T
    np.testing.assert_array_equal(at_ends, record.matrix().trained)


def test_metrics_over_training_are_defined_where_there_are_probes_and_nowhere_else(tmp_path: Path) -> None:
    plain, watched = probed(tmp_path, "strategy=naive", "trainer.epochs=5")
    names = ("min_accuracy", "worst_case_accuracy", "windowed_forgetting", "windowed_plasticity")
    for m in (metric(f"{name}.delange2023" + ("[w=10]" if "windowed" in name else "")) for name in names):
        assert np.isnan(value(m, plain)), m.id
        assert 0 <= value(m, watched) <= 1, m.id
    assert value(metric("windowed_forgetting.delange2023[w=10]"), watched) > 0.5, "plain training forgets all"
    assert value(metric("min_accuracy.delange2023"), watched) < 0.1


def test_the_model_at_the_end_of_a_task_counts_once_though_it_is_scored_again_before_the_next() -> None:
    curves = {"every": 1, "samples": 20, "task": [1, 1, 1, 2, 2, 2], "step": [0, 1, 2, 0, 1, 2]}
    before, after = [0.1, 0.3, 0.5], [0.4, 0.9, 0.8]  # with the next task's classes among the candidates 0.4
    record = replace(
        toy_record(matrix=toy_matrix(0.8, 0, n_tasks=2)), curves=curves | {"accuracy": [before + after] * 2}
    )
    read = inputs(record)
    assert read["curves"][0].tolist() == [0.1, 0.3, 0.5, 0.9, 0.8]
    assert (read["steps"].tolist(), read["ends"].tolist()) == ([0, 1, 2, 1, 2], [2, 4])
    assert read["curve"].tolist() == [0.3, 0.5, 0.9, 0.8], "without the untrained model"
    assert read["curve_ends"].tolist() == [1, 3]
    assert value(metric("min_accuracy.delange2023"), record) == 0.8
    assert [block.tolist() for block in read["blocks"]] == [[before, after][k] for k in range(2)]


def test_a_task_learned_without_a_step_has_one_evaluation() -> None:
    curves = {"every": 1, "samples": 20, "task": [1, 2, 2], "step": [0, 0, 1], "accuracy": [[0.7, 0.6, 0.5]] * 2}
    read = inputs(replace(toy_record(matrix=toy_matrix(0.8, 0, n_tasks=2)), curves=curves))
    assert read["curves"][0].tolist() == read["curve"].tolist() == [0.7, 0.5]
    assert read["ends"].tolist() == read["curve_ends"].tolist() == [0, 1]


def test_a_run_that_was_killed_goes_on_with_the_curves_it_had(tmp_path: Path) -> None:
    words = ("run", "scenario=split_digits-v1", "strategy=ewc", *QUICK, "trainer.epochs=6", *OFTEN)
    assert quick("strategy=ewc", "trainer.epochs=6", *OFTEN, "records=whole", cwd=tmp_path).code == 0
    process = start(*words, "records=parts", cwd=tmp_path)
    for _ in range(600):
        if process.poll() is not None or list((tmp_path / "parts").rglob(".checkpoints/*.safetensors")):
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert quick("strategy=ewc", "trainer.epochs=6", *OFTEN, "records=parts", cwd=tmp_path).code == 0
    assert only(tmp_path / "parts").curves == only(tmp_path / "whole").curves


def test_a_run_that_is_done_again_for_its_operations_keeps_its_curves_and_predictions(tmp_path: Path) -> None:
    assert quick(*OFTEN, cwd=tmp_path).code == 0
    before = only(tmp_path)
    assert "done already" not in quick("flops=true", "keep=false", cwd=tmp_path).out
    after = only(tmp_path)
    assert after.curves == before.curves and after.result == before.result
    assert all(cost["train_flops"] > 0 for cost in after.costs)
    assert len(list(tmp_path.rglob("predictions.npz"))) == 1
    assert "done already" in quick(*OFTEN, "flops=true", cwd=tmp_path).out


def test_a_run_that_fails_when_it_is_measured_again_stays_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert quick(cwd=tmp_path).code == 0
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    monkeypatch.setattr(Checkpoint, "save", _full)
    assert quick("flops=true", cwd=tmp_path).code == 1
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def _full(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_run_that_goes_on_with_other_probes_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = Checkpoint.save

    def stopping(self: Checkpoint, progress: Progress, state: State) -> None:
        save(self, progress, state)
        if progress.tasks_done == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "save", stopping)
    assert quick("probe_every=3", cwd=tmp_path).code == 130
    monkeypatch.setattr(Checkpoint, "save", save)
    answer = quick("probe_every=2", cwd=tmp_path)
    assert answer.code == 0 and answer.err.count("done in") == 5
    record = only(tmp_path)
    own = [step for t, step in zip(record.curves["task"], record.curves["step"], strict=True) if t == 1]
    n_steps = record.result["counts"][0]["steps"]
    assert own == [*range(0, n_steps, 2), n_steps]


def test_a_finished_run_without_probes_is_run_again_when_they_are_asked_for(tmp_path: Path) -> None:
    assert quick(cwd=tmp_path).code == 0
    assert "done already" not in quick(*OFTEN, cwd=tmp_path).out
    assert "done already" in quick(*OFTEN, cwd=tmp_path).out
    assert "done already" in quick(cwd=tmp_path).out, "what has more than is asked for is done"


def test_a_reference_whose_rows_mean_nothing_is_not_probed(tmp_path: Path) -> None:
    assert quick("strategy=joint", *OFTEN, cwd=tmp_path).code == 0
    assert only(tmp_path).curves == {}
    assert "done already" in quick("strategy=joint", *OFTEN, cwd=tmp_path).out


@pytest.mark.parametrize("word", ["probe_every=0", "probe_every=often", "probe_samples=-1", "flops=perhaps"])
def test_a_setting_that_is_none_is_refused_before_any_work(tmp_path: Path, word: str) -> None:
    words = (word,) if "every" in word or "flops" in word else ("probe_every=1", word)
    refused(quick(*words, cwd=tmp_path), word.partition("=")[0])
    assert not list(tmp_path.rglob("record.json"))
