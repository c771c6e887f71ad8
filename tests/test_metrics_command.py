"""``clbench metrics`` and what a record holds for metrics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clbench.matrix import ScoreMatrix
from clbench.measured import value
from clbench.metrics import METRICS, metric
from clbench.metrics.libraries import LIBRARIES, side_by_side
from clbench.record import FILE, read_record
from clbench.store import Store
from tests.command import call, quick
from tests.toy_records import store, toy_matrix, toy_record
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
    for id, m in METRICS.items():
        if m not in LIBRARIES:
            assert (id in shown.split()) != (id in lacking.replace(",", " ").split()), id
    line = next(line for line in shown.splitlines() if "backward_transfer.gem2017 " in line)
    assert line.split()[-5:-2] == ["-0.4000", "fraction", "higher"]
    assert "joint_gap" in shown and "no run of the reference 'independent'" in lacking
    assert "lib.pyclad.backward_transfer" in elsewhere and "no curves" in lacking


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


@pytest.mark.parametrize(("words", "why"), [(("nowhere",), "nowhere"), ((), "RECORD")])
def test_what_is_no_record_is_said(tmp_path: Path, words: tuple[str, ...], why: str) -> None:
    answer = call("metrics", *words, cwd=tmp_path)
    assert answer.code == 2 and why in answer.err


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
