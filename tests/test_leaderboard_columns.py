"""Columns: what some record has is shown, what none has is not, and what depends on the machine comes last."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from clbench.columns import MACHINE
from clbench.entries import Table
from clbench.leaderboard import make_leaderboard
from clbench.record import Record
from clbench.store import Store
from tests.toy_records import entry, several, store, toy_record, watched

ON_DEMAND = (
    "expected_calibration_error.last",
    "negative_log_likelihood.last",
    "brier_score.last",
    "min_accuracy.delange2023",
    "worst_case_accuracy.delange2023",
    "windowed_forgetting.delange2023[w=10]",
    "windowed_plasticity.delange2023[w=10]",
    "area_under_accuracy.iblurry2022",
    "peak_parameters.nevis2022",
    "cumulative_train_flops.nevis2022",
    "evaluate_seconds",
    "peak_memory_bytes",
)


def table(*records: Record) -> Table:
    return make_leaderboard(records).official[0]


def test_calibration_probes_and_compute_have_columns_where_a_run_measured_them() -> None:
    plain, more = several("naive", 0.2), [watched(record) for record in several("replay", 0.6)]
    assert not {c.id for c in table(*plain).columns} & {*ON_DEMAND}
    board = make_leaderboard([*plain, *more])
    columns = {column.id: column for column in board.official[0].columns}
    assert {*ON_DEMAND} <= {*columns}
    assert not any(columns[id].main for id in ON_DEMAND)
    for id in ON_DEMAND:
        assert all(map(math.isnan, entry(board, "naive").values[id])), id
        assert not any(map(math.isnan, entry(board, "replay").values[id])), id
    assert "energy_joules" not in columns  # no machine of these could tell


def test_figures_of_probes_and_calibration_are_those_of_the_definition() -> None:
    values = entry(make_leaderboard([watched(record) for record in several("replay", 0.6)]), "replay").values
    assert values["expected_calibration_error.last"] == pytest.approx(
        [(0.6 + 0.6 + 0.9 + 0.03 * k) / 12 for k in range(3)]
    )
    assert values["negative_log_likelihood.last"] == pytest.approx([0.3 - 0.01 * k for k in range(3)])
    lowest = 0.6  # of the first and of the second task, after their own training
    assert values["min_accuracy.delange2023"] == pytest.approx([lowest + 0.01 * k for k in range(3)])
    assert values["cumulative_train_flops.nevis2022"] == (3e9,) * 3


def test_columns_that_depend_on_the_machine_come_last_and_the_others_are_the_same_on_another_one() -> None:
    records = [watched(record) for record in several("replay", 0.6)]
    slower = [replace(r, costs=[c | {"train_seconds": 9.0} for c in r.costs]) for r in records]
    here, there = table(*records), table(*slower)
    marked = [column.machine for column in here.columns]
    assert marked == sorted(marked)
    assert {c.id for c in here.columns if c.machine} == {*MACHINE} - {"energy_joules"}
    for column in here.columns:
        same = here.entries[0].values[column.id] == there.entries[0].values[column.id]
        assert same != (column.id == "train_seconds")


def test_the_accuracy_among_a_tasks_own_classes_stands_beside_the_plain_one() -> None:
    ids = [column.id for column in table(*several("naive", 0.2)).columns]
    assert ids[:2] == ["average_accuracy.gem2017", "task_masked.average_accuracy.gem2017"]


def test_other_names_for_the_same_seeds_change_no_figure() -> None:
    records = [*several("replay", 0.6, seeds=5), *several("naive", 0.2, seeds=5)]
    records += several("cumulative", 0.8, seeds=5, reference=True)
    renamed = [
        replace(r, seed=seed, identity=r.identity | {"seeds": dict.fromkeys(r.identity["seeds"], seed)})
        for r in records
        for seed in [(4, 2, 0, 3, 1)[r.seed]]
    ]
    board, other = make_leaderboard(records), make_leaderboard(renamed)
    assert board.official[0].standing == other.official[0].standing
    for one, same in zip(board.official[0].entries, other.official[0].entries, strict=True):
        assert (one.label, one.rank, one.unranked_because) == (same.label, same.rank, same.unranked_because)
        for column in board.official[0].columns:
            assert repr(one.estimate(column.id)) == repr(same.estimate(column.id)), column.id
            assert sorted(map(repr, one.values[column.id])) == sorted(map(repr, same.values[column.id]))


def test_a_run_in_two_studies_counts_once_by_the_record_that_holds_more(tmp_path: Path) -> None:
    old, new = several("replay", 0.6), [watched(record) for record in several("replay", 0.6)]
    store(tmp_path / "first" / "records", *old)
    store(tmp_path / "second" / "records", *new)
    reading = Store(tmp_path).read()
    assert (len(reading.records), len(reading.repeated), reading.left_out) == (3, 3, ())
    found = entry(make_leaderboard(reading.records), "replay")
    assert (found.rank, found.seeds) == (1, (0, 1, 2))
    assert not math.isnan(found.values["brier_score.last"][0])
    store(tmp_path / "third" / "records", toy_record("replay", 1, 0.5))  # the same run with another result
    reading = Store(tmp_path).read()
    assert len(reading.left_out) == 3  # all records of that run
    assert all("seed1" in text and "but their results differ" in text for text in reading.left_out)
    assert entry(make_leaderboard(reading.records), "replay").seeds == (0, 2)
