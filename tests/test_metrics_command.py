"""``clbench metrics`` and what a record holds for metrics."""

from __future__ import annotations

import contextlib
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clbench.cli.metrics_of import show_metrics
from clbench.matrix import ScoreMatrix
from clbench.measured import value
from clbench.metrics import METRICS, metric
from clbench.metrics.libraries import LIBRARIES, side_by_side
from clbench.record import FILE, Record, read_record
from clbench.report.coming_from import FIGURES
from clbench.store import Store
from tests.command import call, quick, refused
from tests.toy_records import store, toy_matrix, toy_record, watched
from tests.vectors import PAGE

ANYTIME = "anytime_accuracy.caccia2022[period=2]"


def test_every_metric_that_a_record_defines_is_printed_and_the_others_are_named_with_what_they_lack(
    tmp_path: Path,
) -> None:
    reference = toy_record("joint", reference=True, matrix=toy_matrix(0.875, 0))
    store(tmp_path / "records", toy_record(), reference)
    folder = Store(tmp_path / "records").folder(toy_record())
    answer = call("metrics", folder / FILE, "--references", tmp_path / "records", cwd=tmp_path)
    assert answer.code == 0, answer.err
    shown, rest = answer.out.split("not defined for this record")
    lacking, elsewhere = rest.split("the same words elsewhere")
    _, python_only = lacking.split("from Python only")
    assert "forgetting.iblurry2022" in python_only and "fuar.ckl2022" in python_only, "no run measures what they read"
    for id, m in METRICS.items():
        if m not in LIBRARIES:
            assert (id in shown.split()) != (id in lacking.replace(",", " ").split()), id
    line = next(line for line in shown.splitlines() if "backward_transfer.gem2017 " in line)
    assert line.split()[-5:-2] == ["-0.4000", "fraction", "higher"]
    assert "joint_gap" in shown and "no run of the reference 'independent'" in lacking
    assert "lib.pyclad.backward_transfer" in elsewhere
    for advice in ("run again with probe_every=N: ", "run again with flops=true: cumulative_train_flops"):
        assert advice in lacking


def test_a_run_with_probes_defines_the_metrics_of_training(tmp_path: Path) -> None:
    assert quick("strategy=naive", "probe_every=2", "probe_samples=30", cwd=tmp_path).code == 0
    (path,) = (tmp_path / "records").rglob(FILE)
    answer = call("metrics", path, cwd=tmp_path)
    shown = answer.out.split("not defined")[0]
    for id in (ANYTIME, "min_accuracy.delange2023", "windowed_forgetting.delange2023[w=10]", "brier_score.over_time"):
        assert id in shown
    record = read_record(path.parent)
    curves = np.array(record.curves["accuracy"])
    ends = [n for n, task in enumerate(record.curves["task"]) if [*record.curves["task"], None][n + 1] != task]
    lowest = [curves[i, ends[i] + 1 :].min() for i in range(len(ends) - 1)]
    assert value(metric("min_accuracy.delange2023"), record) == pytest.approx(np.mean(lowest))
    final = value(metric("last.iblurry2022"), record)
    assert final == pytest.approx(curves[:, -1].mean()), "all tasks are seen at the end"
    ended = [curves[: k + 1, end].mean() for k, end in enumerate(ends)]
    assert value(metric("average_accuracy_at_task_ends.iblurry2022"), record) == pytest.approx(np.mean(ended))


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("nowhere",), ("no record at 'nowhere'",)),
        (("nowhere/record.json",), ("no record at 'nowhere/record.json'",)),
        (("empty",), ("no record at 'empty'", "holds no record.json")),
        (("records",), ("'records' holds 2 records; name one, e.g. records/split_toy-v1/",)),
        (("notes.txt",), ("expected a record.json or its folder", "notes.txt")),
        (("RECORD", "--references", "notes.txt"), ("expected a folder of records", "notes.txt")),
        (("RECORD", "--references", "nowhere"), ("no records folder at 'nowhere'",)),
        ((), ("RECORD",)),
    ],
)
def test_what_is_no_record_is_said(tmp_path: Path, words: tuple[str, ...], why: tuple[str, ...]) -> None:
    record = toy_record()
    store(tmp_path / "records", record, toy_record(seed=1))
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("nothing")
    place = str(Store(tmp_path / "records").folder(record))
    refused(call("metrics", *(place if word == "RECORD" else word for word in words), cwd=tmp_path), *why)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("width", [80, 100, 120, None])
def test_ids_and_numbers_are_never_cut(tmp_path: Path, width: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    record = watched(toy_record())
    place = Store(store(tmp_path, record)).folder(record)
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    out: Any = io.StringIO() if width is None else Terminal()
    with contextlib.redirect_stdout(out):
        assert show_metrics(place, None) == 0
    words = out.getvalue().split()
    assert "…" not in out.getvalue()
    assert {m.id for m in LIBRARIES if m.reads == ("R",)} <= set(words)
    for m in METRICS.values():
        if m not in LIBRARIES and not np.isnan(value(m, record)) and "caccia" not in m.id:
            assert m.id in words, m.id
    assert words.count("-0.4000") > 1, "a number beside the id"
    assert ("average accuracy over samples" in out.getvalue()) == (width in (120, None)), "titles go first"


def expert(record: Record, **changes: Any) -> Record:
    alone = watched(toy_record("independent", reference=True, more=str(changes)))
    return replace(alone, curves=record.curves | changes)


def test_an_expert_that_was_probed_otherwise_gives_no_number_but_what_to_do(tmp_path: Path) -> None:
    record = watched(toy_record())
    alike, finer, smaller = expert(record), expert(record, every=1), expert(record, samples=50)
    relative = metric("relative_performance.l2m")
    assert value(relative, record, expert=alike) == 1.0
    assert np.isnan(value(relative, record, expert=finer)) and np.isnan(value(relative, record, expert=smaller))
    for n, (runs, why) in enumerate(
        [
            ([finer], "probed every 1 steps, the run every 5: run it again with probe_every=5: "),
            ([smaller], "probed on 50 samples of a task, the run on 100: run it again with probe_samples=100: "),
            ([alike, replace(alike, identity=smaller.identity)], "2 runs of 'independent' here, one is needed: "),
            ([], "no run of the reference 'independent' (see --references): "),
        ]
    ):
        folder = store(tmp_path / str(n), record, *runs)
        answer = call("metrics", Store(folder).folder(record), "--references", folder, cwd=tmp_path)
        shown, lacking = answer.out.split("not defined for this record")
        assert why in lacking and "relative_performance.l2m" not in shown
    folder = store(tmp_path / "both", record, alike, finer)
    answer = call("metrics", Store(folder).folder(record), "--references", folder, cwd=tmp_path)
    assert "relative_performance.l2m" in answer.out.split("not defined")[0], "of two the one that fits"


def test_a_reference_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    assert quick("records=all", cwd=tmp_path).code == 0
    assert quick("strategy=joint", "records=all", cwd=tmp_path).code == 0
    own, joint = (next((tmp_path / "all").rglob(f"{name}/**/{FILE}")) for name in ("naive", "joint"))
    joint.write_text("{")
    answer = call("metrics", own, "--references", "all", cwd=tmp_path)
    assert answer.code == 0
    assert f"left out: {joint.relative_to(tmp_path / 'all')} is truncated" in answer.err


def test_every_figure_of_another_library_can_be_had_of_a_record() -> None:
    for figure in FIGURES:
        assert not np.isnan(value(metric(figure.id), toy_record())), figure.id


def test_areas_under_curves_are_those_worked_by_hand() -> None:
    """Probes at steps 0..3 of task 1 and 0..1 of task 2; the last is the score after the task."""
    curves = {
        "every": 1,
        "samples": 8,
        "task": [1, 1, 1, 1, 2, 2],
        "step": [0, 1, 2, 3, 0, 1],
        "accuracy": [[0.0, 0.25, 0.5, 1.0, 1.0, 0.5], [0.125, 0.125, 0.25, 0.25, 0.25, 0.75]],
    }
    record = toy_record(matrix=toy_matrix(0.5, 0, n_tasks=2), curves=curves)
    early = [(0.0 + 0.25) / 2, (0.25 + 0.75) / 2]  # after 0 and 1 mini-batches of each
    assert value(metric("learning_curve_area.agem2019[beta=0]"), record) == early[0]
    assert value(metric("learning_curve_area.agem2019[beta=1]"), record) == sum(early) / 2
    assert value(metric("learning_curve_area.agem2019_code[beta=1]"), record) == sum(early) / 2
    assert np.isnan(value(metric("learning_curve_area.agem2019[beta=2]"), record)), "task 2 has but one mini-batch"
    area = (0.25 + 0.5 + 1.0 + (0.5 + 0.75) / 2) / 4  # step 0 is no evaluation of the stream
    assert value(metric("area_under_accuracy.iblurry2022"), record) == area


def test_numbers_have_three_or_four_significant_digits(tmp_path: Path) -> None:
    record = toy_record(final=0.9, costs=[{"train_seconds": 1.1e-5}] * 3)
    counts = [count | {"state_bytes": 12345678901, "parameters": 340258} for count in record.result["counts"]]
    record = replace(record, result=record.result | {"counts": counts})
    answer = call("metrics", Store(store(tmp_path, record)).folder(record), cwd=tmp_path)
    shown = {line.split()[0]: line.split()[1] for line in answer.out.splitlines() if len(line.split()) > 2}
    assert shown["state_bytes"] == "1.235e+10" and shown["peak_parameters.nevis2022"] == "340,258"
    assert shown["train_seconds"] == "3.3e-05"
    assert shown["backward_transfer.gem2017"] == shown["forgetting.rwalk2018"] == "0", "and no sign before it"


def test_the_list_of_metrics_says_their_bounds(tmp_path: Path) -> None:
    lines = call("list", "metrics", cwd=tmp_path).out.splitlines()
    starts = {line.split()[0]: line.split()[1:6] for line in lines if line.strip() and line[0] != " "}
    assert starts["lib.mammoth.forgetting_run"] == ["lower", "fraction", "0", "to", "1"]
    assert starts["performance_recovery.l2m"][2:] == ["-∞", "to", "∞"]


def test_a_failed_run_has_no_metrics(tmp_path: Path) -> None:
    failed = toy_record(status="failed", reason="KeyError: 3")
    answer = call("metrics", Store(store(tmp_path, failed)).folder(failed), cwd=tmp_path)
    assert answer.code == 2 and "KeyError: 3" in answer.err


def test_the_variants_of_one_matrix_lie_side_by_side() -> None:
    """The table of the reference page for its matrix v4."""
    v4 = next(vector for vector in PAGE if vector["id"] == "v4")
    matrix = ScoreMatrix(np.array(v4["matrix"]))
    rows = side_by_side(matrix)
    found = {row.id: (row.quantity, row.by, row.value) for row in rows}
    assert len(found) == len(rows), "every id once"
    assert found["lib.coda_prompt.forgetting"][:2] == ("forgetting", "CODA-Prompt")
    shared = found.keys() & v4["expected"].keys()
    assert len(shared) > 20
    for id in shared - {"average_accuracy.micro", "average_incremental_accuracy.icarl2017_micro"}:
        assert found[id][2] == pytest.approx(v4["expected"][id], abs=1e-9), id
    libraries = {row.by for row in rows}
    wanted = "Avalanche mammoth PyCIL Continuum FACIL LibContinual pyCLAD CODA-Prompt FusionBench Renate BeGin CL-Gym"
    assert libraries >= set(wanted.split())
    assert np.isnan(found["average_accuracy.micro"][2]), "without the sizes of the test sets"
    assert side_by_side(matrix, np.array([100, 50, 200, 50]))[1].value == pytest.approx(0.6875)
    order = [row.quantity for row in rows]
    assert order == sorted(order, key=order.index), "one quantity after the other"
