"""The committed results: rebuilt without changing a byte, repeated in their smallest cell, and as the field expects."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import clbench
from clbench.cli.study import compared, load_study
from clbench.places import names
from clbench.record import same_result
from clbench.report import write_report
from clbench.store import Store

ROOT = Path(__file__).resolve().parent.parent
STUDIES = sorted(p.parent for p in (ROOT / "reports").glob("*/records"))
FILES = [f"leaderboard.{kind}" for kind in ("html", "md", "csv", "json", "tex")]
REFERENCES = {"joint", "cumulative", "independent"}


def test_the_main_study_is_committed() -> None:
    assert ROOT / "reports" / "leaderboard" in STUDIES


@pytest.mark.parametrize("folder", STUDIES, ids=lambda p: p.name)
def test_rebuilding_a_committed_report_changes_no_byte(folder: Path, tmp_path: Path) -> None:
    reading = write_report(folder / "records", tmp_path)
    assert reading.left_out == ()
    assert not list((folder / "records").rglob("*.npz"))
    for name in FILES:
        same = (tmp_path / name).read_bytes() == (folder / name).read_bytes()
        assert same, name  # without the differences, which take minutes to work out
    study = load_study(folder.name)
    if study.comparisons:
        assert compared(study, reading.records) == (folder / "comparisons.md").read_text(encoding="utf-8")


def test_the_leaderboard_of_all_committed_records_comes_out_again_byte_for_byte(tmp_path: Path) -> None:
    reading = write_report(ROOT / "reports", tmp_path)
    assert reading.left_out == ()
    n_files = sum(len(list(study.rglob("record.json"))) for study in STUDIES)
    assert len(reading.records) + len(reading.repeated) == n_files
    for name in FILES:
        same = (tmp_path / name).read_bytes() == (ROOT / "reports" / name).read_bytes()
        assert same, name


def test_every_strategy_that_can_answer_a_digits_card_was_run_with_ten_seeds_and_mnist5k_with_five() -> None:
    data = json.loads((ROOT / "reports" / "leaderboard.json").read_text())
    run: dict[tuple[str, str], list[set[int]]] = defaultdict(list)
    skipped: set[tuple[str, str]] = set()
    for table in data["scenarios"]:
        for e in table["entries"]:
            seeds = {*e["seeds"], *(failed["seed"] for failed in e["failed"])}
            run[table["scenario"], e["strategy"].partition("[")[0]].append(seeds)
        skipped |= {(table["scenario"], some["label"].partition(" · ")[0]) for some in table["skipped"]}
    asked: dict[tuple[str, str], set[int]] = defaultdict(set)
    for study in ("leaderboard", "digits", "mnist5k"):
        for overrides in load_study(study).runs():
            words = dict(override.split("=", 1) for override in overrides)
            asked[words["scenario"], words["strategy"]].add(int(words["seed"]))
    assert skipped < asked.keys(), "what does not support a protocol is listed with that reason"
    for (scenario, strategy), seeds in [item for item in asked.items() if item[0] not in skipped]:
        assert any(own >= seeds for own in run[scenario, strategy]), (scenario, strategy)
        assert len(seeds) == (5 if "mnist5k" in scenario else 10), (scenario, strategy)
    cards = {name for name in names("scenario") if name.endswith(("digits-v1", "mnist5k-v1", "mnist5k_20-v1"))}
    assert {scenario for scenario, _ in asked} == cards
    on_a_backbone = {s for s in names("strategy") if s.startswith(("adam_", "ease", "ranpac_tuned"))}
    assert {strategy for _, strategy in asked} == {*names("strategy")} - on_a_backbone


def test_the_smallest_cell_of_the_main_study_comes_out_again(tmp_path: Path) -> None:
    committed = next(
        r
        for r in Store(ROOT / "reports" / "leaderboard" / "records").read().records
        if (r.names["scenario"], r.names["strategy"], r.seed) == ("split_digits-v1", "replay", 0)
    )
    again = clbench.run("split_digits-v1", "replay", seed=0, records=tmp_path)
    assert again.id == committed.id
    assert again.result["fingerprint"] == committed.result["fingerprint"]
    if again.environment["processor"] == committed.environment["processor"]:
        assert same_result(again, committed)
    gap = np.abs(again.matrix().values - committed.matrix().values)
    assert gap.max() < 0.1  # another processor rounds otherwise: a few samples may fall the other way


def mean(scenario: str, strategy: str, metric: str) -> float:
    value = _board()[scenario][strategy]["values"][metric]["mean"]
    assert isinstance(value, float)
    return value


def _board() -> dict[str, dict[str, Any]]:
    data = json.loads((ROOT / "reports" / "leaderboard" / "leaderboard.json").read_text())
    return {t["scenario"]: {e["label"]: e for e in t["entries"]} for t in data["scenarios"]}


ACCURACY, FORGETTING = "average_accuracy.gem2017", "forgetting.rwalk2018"


def test_the_main_study_has_five_seeds_of_at_least_eight_strategies_on_six_scenarios() -> None:
    board = _board()
    assert len(board) == 6
    for entries in board.values():
        assert len(set(entries) - REFERENCES) >= 8
        assert set(entries) >= REFERENCES
        assert all(len(entry["seeds"]) == 5 for entry in entries.values())


@pytest.mark.parametrize(("scenario", "joint"), [("split_digits-v1", 0.95), ("split_mnist5k-v1", 0.93)])
def test_class_incremental_results_are_where_the_field_finds_them(scenario: str, joint: float) -> None:
    assert mean(scenario, "naive", ACCURACY) == pytest.approx(0.2, abs=0.03)
    assert mean(scenario, "naive", FORGETTING) > 0.8
    assert mean(scenario, "joint", ACCURACY) > joint
    for strategy in ("replay", "derpp", "er_ace"):
        assert 0.6 < mean(scenario, strategy, ACCURACY) < mean(scenario, "joint", ACCURACY)


@pytest.mark.parametrize("scenario", ["permuted_digits-v1", "permuted_mnist5k-v1"])
@pytest.mark.parametrize("strategy", ["ewc", "si", "replay"])
def test_regularisation_and_replay_forget_less_than_naive_on_permuted_pixels(scenario: str, strategy: str) -> None:
    assert mean(scenario, strategy, FORGETTING) < mean(scenario, "naive", FORGETTING)
