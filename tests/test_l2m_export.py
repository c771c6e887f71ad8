"""``clbench export l2m``: l2metrics itself reads the logs and finds the figures that clbench finds."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clbench.l2m_log import refusal
from clbench.matrix import ScoreMatrix
from clbench.metrics import metric
from clbench.metrics.l2m_terms import (
    backward_transfer,
    contrast,
    forward_transfer,
    mean_evaluation_performance,
    mean_training_performance,
    performance_maintenance,
    ratio,
    relative_performance,
    sample_efficiency,
    smooth,
)
from clbench.record import Record
from tests.command import call, quick, records, refused
from tests.toy_records import store, toy_matrix, toy_record

pytestmark = pytest.mark.xdist_group("l2metrics")  # the runs are made, and l2metrics is started, once
ORACLE = Path(sys.prefix) / "oracle"  # where the Makefile puts l2metrics
EXACT = 1e-9
PRINTED = {  # by l2metrics of a lifetime, and our metric
    "perf_recovery": "performance_recovery.l2m",
    "avg_train_perf": "mean_training_performance.l2m",
    "avg_eval_perf": "mean_evaluation_performance.l2m",
    "perf_maintenance_mrlep": "performance_maintenance.l2m_mrlep",
    "perf_maintenance_mrtlp": "performance_maintenance.l2m_mrtlp",
    "forward_transfer_ratio": "forward_transfer.l2m_ratio",
    "backward_transfer_ratio": "backward_transfer.l2m_ratio",
    "forward_transfer_contrast": "forward_transfer.l2m_contrast",
    "backward_transfer_contrast": "backward_transfer.l2m_contrast",
    "ste_rel_perf": "relative_performance.l2m",
    "sample_efficiency": "sample_efficiency.l2m",
}
OF_CURVES = {"perf_recovery", "avg_train_perf", "perf_maintenance_mrtlp", "ste_rel_perf", "sample_efficiency"}
SHORT = ("probe_every=3", "trainer.epochs=3", "trainer.batch_size=32")  # 10 samples a block: nothing is smoothed
LONG = ("probe_every=1", "probe_samples=1000", "trainer.lr=0.05", "scenario.n_tasks=3", "seed=1")  # 23 a block


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs with curves of two scenarios and their experts, and one run without."""
    folder = tmp_path_factory.mktemp("runs")
    for strategy in ("naive", "replay", "ewc", "independent", "joint"):
        assert quick(f"strategy={strategy}", "keep=false", *SHORT, cwd=folder).code == 0
    for strategy in ("naive", "independent"):
        answer = quick(f"strategy={strategy}", "keep=false", *LONG, cwd=folder, scenario="permuted_digits-v1")
        assert answer.code == 0
    assert quick("strategy=naive", "seed=2", "keep=false", cwd=folder).code == 0
    return folder


def l2metrics(logs: Path) -> dict[str, Any]:
    """What l2metrics prints of every exported lifetime, by the id of its record."""
    places = sorted({path.parents[2] for path in logs.rglob("scenario_info.json")})
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("l2metrics_oracle.py"), *places],
        env=os.environ | {"PYTHONPATH": str(ORACLE), "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return {
        json.loads((Path(folder) / "scenario_info.json").read_text())["record"]: figures
        for folder, figures in json.loads(done.stdout).items()
    }


def curves(record: Record) -> list[list[float]] | None:
    """Accuracy on each task while it was trained."""
    if not record.curves:
        return None
    n = range(1, record.matrix().n_tasks + 1)
    own = [[i for i, task in enumerate(record.curves["task"]) if task == k] for k in n]
    return [[record.curves["accuracy"][k][i] for i in when] for k, when in enumerate(own)]


def same(ours: float, theirs: float | None) -> bool:
    if theirs is None or math.isnan(theirs):
        return math.isnan(ours)
    return abs(ours - theirs) <= EXACT


@pytest.fixture(scope="module")
def compared(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Record, Any, dict[str, Any]]]:
    """Every exported run, the curves of its experts, and what l2metrics says of it."""
    out = tmp_path_factory.mktemp("logs")
    answer = call("export", "l2m", "records", "--out", out, cwd=runs)
    assert answer.code == 0, answer
    stored = records(runs / "records")
    experts = {(r.names["scenario"], r.seed): curves(r) for r in stored if r.names["strategy"] == "independent"}
    found = l2metrics(out)
    lives = [r for r in stored if not r.reference]
    assert found.keys() == {r.id for r in lives} and len(lives) == 5
    alone = [experts.get((r.names["scenario"], r.seed)) for r in lives]
    return [(r, [[x] for x in a] if a else None, found[r.id]) for r, a in zip(lives, alone, strict=True)]


def test_l2metrics_agrees_with_every_figure_of_real_runs(compared: list[tuple[Record, Any, dict[str, Any]]]) -> None:
    checked = set()
    for record, experts, theirs in compared:
        for printed, id in PRINTED.items():
            ours = metric(id)(record.matrix(), blocks=curves(record), expert_blocks=experts)
            if record.curves or printed not in OF_CURVES:
                assert same(ours, theirs[printed]), (record.names, printed, ours, theirs[printed])
                checked |= {printed} if not math.isnan(ours) else set()
            else:
                assert math.isnan(ours), f"{printed}: one experience a block says nothing of training"
    assert checked == PRINTED.keys() - {"perf_recovery"}, "recovery needs a task that is trained three times"


def test_l2metrics_agrees_with_every_task_and_pair(compared: list[tuple[Record, Any, dict[str, Any]]]) -> None:
    for record, experts, theirs in compared:
        r, blocks = record.matrix().values, curves(record)
        ours: dict[str, dict[int, float]] = {
            "perf_maintenance_mrlep": performance_maintenance(r),
            "avg_eval_perf": mean_evaluation_performance(r),
        }
        if blocks and experts:
            ours |= {
                "perf_maintenance_mrtlp": performance_maintenance(r, blocks=blocks),
                "avg_train_perf": mean_training_performance(blocks),
                "ste_rel_perf": relative_performance(blocks, experts),
                "sample_efficiency": sample_efficiency(blocks, experts),
            }
        tasks = list(theirs["task_metrics"])
        for name, terms in ours.items():
            for k, task in enumerate(tasks, start=1):
                assert same(terms.get(k, math.nan), theirs["task_metrics"][task][name]), (name, task)
        for name, of in (("forward_transfer", forward_transfer), ("backward_transfer", backward_transfer)):
            for kind in (ratio, contrast):
                pairs = of(r, compare=kind)
                wanted = {
                    (tasks.index(a) + 1, tasks.index(b) + 1): values
                    for a in tasks
                    for b, values in theirs["task_metrics"][a][f"{name}_{kind.__name__}"].items()
                }
                assert pairs.keys() == wanted.keys()
                assert all(np.allclose(pairs[p], wanted[p], rtol=0, atol=EXACT) for p in pairs)


def test_the_curves_compared_are_long_enough_to_be_smoothed_and_have_one_maximum(runs: Path) -> None:
    """On a level stretch l2metrics lets rounding decide which maximum is the first; ours is the first."""
    long = [r for r in records(runs / "records") if r.names["scenario"].startswith("permuted") and r.curves]
    assert len(long) == 2
    for record in long:
        for curve in curves(record) or []:
            smoothed = np.sort(smooth(curve))
            assert len(curve) >= 15 and smoothed[-1] - smoothed[-2] > 1e-6


def test_what_is_written_is_the_format_of_l2logger(runs: Path, tmp_path: Path) -> None:
    answer = call("export", "l2m", "records", "--out", tmp_path, cwd=runs)
    assert "left out: split_digits-v1 joint seed 0" in answer.err
    assert "one experience a block, the score R[i,i]" in answer.out, "the run without curves is named"
    assert "5 lifetimes and 8 single-task experts" in answer.out
    (life,) = tmp_path.glob("split_digits-v1/*/seed0/logs/naive_seed0_*")
    assert json.loads((life / "logger_info.json").read_text()) == {
        "metrics_columns": ["performance"],
        "log_format_version": "1.1",
    }
    info = json.loads((life / "scenario_info.json").read_text())
    assert info["scenario_type"] == "condensed" and "every 3 optimiser steps" in info["learning_blocks"]
    blocks = sorted((life / "worker-default").iterdir(), key=lambda p: int(p.name.partition("-")[0]))
    assert [b.name for b in blocks] == [f"{n}-{'train' if n % 2 else 'test'}" for n in range(11)]
    rows = [line.split("\t") for b in blocks for line in (b / "data-log.tsv").read_text().splitlines()[1:]]
    assert [int(row[1]) for row in rows] == list(range(len(rows))), "experiences are counted over the whole life"
    assert {row[5] for row in rows} == {f"task{k}_splitdigitsv1seed0" for k in range(1, 6)}
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    call("export", "l2m", "records", "--out", tmp_path, cwd=runs)
    assert before == {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}, "again, byte for byte"


def test_runs_that_are_no_lifetime_are_refused_or_named_and_left_out(tmp_path: Path) -> None:
    holed = toy_matrix(0.5, 0).values.copy()
    holed[2, 0] = np.nan
    bad = [
        toy_record("joint", reference=True),
        toy_record("independent", reference=True),
        toy_record("ewc", status="failed", reason="NonFiniteLoss: it diverged"),
        toy_record("lwf", matrix=ScoreMatrix(holed)),
    ]
    store(tmp_path / "bad", *bad)
    refused(
        call("export", "l2m", "bad", "--out", "logs", cwd=tmp_path),
        *("nothing to export", "several tasks in one block", "probe_every=N", "it diverged", "R[2, 1] is missing"),
    )
    assert not (tmp_path / "logs").exists()
    store(tmp_path / "bad", toy_record("naive"))
    answer = call("export", "l2m", "bad", "--out", "logs", cwd=tmp_path)
    assert answer.code == 0 and answer.err.count("left out: ") == 4
    assert "1 lifetimes and 0 single-task experts" in answer.out
    refused(call("export", "l2m", "nowhere", "--out", "logs", cwd=tmp_path), "no records folder")


PROBES = {"every": 1, "samples": 10, "task": [1, 2, 3], "step": [1, 1, 1], "accuracy": [[0.5, 0.6, 0.7]] * 3}


def test_a_matrix_with_holes_is_no_lifetime_and_the_sentence_counts_them() -> None:
    values = toy_matrix(0.5, 0).values.copy()
    for cell, said in (((2, 0), "lacks R[2,1]; every block"), ((3, 1), "lacks 2 cells, R[2,1] first; every block")):
        values[cell] = np.nan
        assert said in str(refusal(toy_record(matrix=ScoreMatrix(values.copy()))))


def test_an_expert_probed_at_another_spacing_is_left_out_with_what_to_do(tmp_path: Path) -> None:
    life = toy_record("naive", curves=PROBES | {"every": 5})
    store(tmp_path / "records", life, toy_record("independent", reference=True, curves=PROBES))
    answer = call("export", "l2m", "records", "--out", "logs", cwd=tmp_path)
    assert "probed every 1 steps, the run every 5: run it again with probe_every=5" in answer.err
    assert "1 lifetimes and 0 single-task experts" in answer.out


def test_exporting_again_leaves_nothing_of_before(tmp_path: Path) -> None:
    """Neither another run's lives and experts, nor what l2metrics stored of these."""
    for n in (0, 1):
        alone = toy_record("independent", reference=True, more=n, curves=PROBES)
        store(tmp_path / str(n), toy_record("naive", more=n, curves=PROBES), alone)
        answer = call("export", "l2m", str(n), "--out", "logs", cwd=tmp_path)
        assert "1 lifetimes and 3 single-task experts" in answer.out, answer.err
        (place,) = (tmp_path / "logs").glob("*/*/*")
        assert len(list(place.rglob("scenario_info.json"))) == 4 and not (place / "taskinfo" / "a.pickle").exists()
        (place / "taskinfo").mkdir(exist_ok=True)
        (place / "taskinfo" / "a.pickle").touch()
        (place / "notes.txt").touch()
    assert (place / "notes.txt").exists(), "what is someone else's stays"


def test_two_records_of_the_experts_of_one_place_are_ambiguous_and_named(tmp_path: Path) -> None:
    several = [toy_record("independent", reference=True, more=n, curves=PROBES) for n in (0, 1)]
    store(tmp_path / "records", toy_record("naive"), *several)
    answer = call("export", "l2m", "records", "--out", "logs", cwd=tmp_path)
    assert answer.code == 0 and "2 records of it share model, trainer and seed" in answer.err
    assert "1 lifetimes and 0 single-task experts" in answer.out
