"""The leaderboard: what is ranked, what is shown apart, and that nothing is averaged away."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from clbench.leaderboard import make_leaderboard
from clbench.matrix import ScoreMatrix
from clbench.record import Record
from clbench.report import write_report
from clbench.statistics import estimate
from tests.toy_records import FILES, SCENARIO, Pages, entry, several, store, toy_record


def test_the_t_interval_of_three_seeds_is_the_known_one_and_two_seeds_have_none() -> None:
    three = estimate([0.5, 0.6, 0.7])
    assert three.half_width == pytest.approx(4.302653 * 0.1 / math.sqrt(3))
    assert math.isnan(estimate([0.5, 0.6]).half_width)
    assert estimate([0.5, 0.6]).mean == pytest.approx(0.55)


def test_a_nan_among_the_seeds_is_not_averaged_away() -> None:
    assert math.isnan(estimate([0.5, math.nan, 0.7]).mean)


def test_the_same_records_give_the_same_bytes_whatever_the_order_they_were_written_in(tmp_path: Path) -> None:
    records = [*several("replay", 0.6), *several("naive", 0.2), *several("joint", 0.9, reference=True)]
    for name, order in (("a", records), ("b", records), ("c", records[::-1])):
        write_report(store(tmp_path / name / "records", *order), tmp_path / name / "out")
    for file in FILES:
        first = (tmp_path / "a" / "out" / file).read_bytes()
        assert (tmp_path / "b" / "out" / file).read_bytes() == first
        assert (tmp_path / "c" / "out" / file).read_bytes() == first
        assert str(tmp_path).encode() not in first


def test_the_leaderboard_does_not_depend_on_the_order_of_records() -> None:
    records = [*several("replay", 0.6), *several("naive", 0.2), *several("naive", 0.3, more=1)]
    assert [e.label for e in make_leaderboard(records).tables[0].entries] == [
        e.label for e in make_leaderboard(records[::-1]).tables[0].entries
    ]


def test_entries_are_ranked_by_average_accuracy_and_references_are_not() -> None:
    board = make_leaderboard(
        [*several("naive", 0.2), *several("replay", 0.6), *several("cumulative", 0.8, reference=True)]
    )
    shown = [(e.label, e.rank, e.unranked_because) for e in board.official[0].entries]
    assert shown == [("replay", 1, None), ("naive", 2, None), ("cumulative", None, "reference")]


def test_equal_means_share_a_rank() -> None:
    board = make_leaderboard([*several("a", 0.6), *several("b", 0.6), *several("c", 0.2)])
    assert [e.rank for e in board.official[0].entries] == [1, 1, 3]


def test_a_missing_seed_shows_and_costs_the_rank(pages: Pages) -> None:
    md, data, html = pages(*several("naive", 0.2, seeds=5), *several("replay", 0.6, seeds=4))
    row = next(e for e in data["scenarios"][0]["entries"] if e["label"] == "replay")
    assert (row["rank"], row["missing"], row["unranked_because"]) == (None, [4], "incomplete: not ranked")
    for page in (md, html):
        assert "4 of 5" in page
        assert "5 of 5" in page
        assert "incomplete: not ranked" in page
        assert "replay, seed 4: no record" in page


def test_a_failed_record_is_visible_with_its_reason_and_never_averaged(pages: Pages) -> None:
    failed = toy_record("replay", 2, status="failed", reason="NonFiniteLoss: the loss is\n nan")
    md, data, html = pages(*several("naive", 0.2), *several("replay", 0.6, seeds=2), failed)
    row = next(e for e in data["scenarios"][0]["entries"] if e["label"] == "replay")
    mean = row["values"]["average_accuracy.gem2017"]
    assert mean["n"] == 2
    assert mean["mean"] == pytest.approx(np.mean(mean["per_seed"]))
    assert (mean["low"], mean["high"], mean["method"]) == (None, None, "none")
    assert row["failed"] == [{"seed": 2, "reason": "failed: NonFiniteLoss: the loss is nan"}]
    for page in (md, html):
        assert "replay, seed 2: failed: NonFiniteLoss: the loss is nan" in page
        assert "2 of 3" in page


def test_an_entry_that_failed_with_every_seed_still_has_a_row(pages: Pages) -> None:
    md, data, html = pages(*several("naive", 0.2), *several("broken", 0.5, status="failed", reason="boom"))
    row = data["scenarios"][0]["entries"][-1]
    assert (row["label"], row["values"]["average_accuracy.gem2017"]["mean"]) == ("broken", None)
    assert "0 of 3" in md
    assert "0 of 3" in html


def test_a_skipped_strategy_is_named_with_its_reason_and_has_no_row(pages: Pages) -> None:
    skipped = several("icarl", 0.5, status="skipped", reason="does not support domain-incremental")
    md, data, html = pages(*several("naive", 0.2), *skipped)
    assert [e["label"] for e in data["scenarios"][0]["entries"]] == ["naive"]
    assert data["scenarios"][0]["skipped"] == [{"label": "icarl", "reason": "does not support domain-incremental"}]
    assert md.count("icarl: skipped: does not support domain-incremental") == 1
    assert html.count("icarl: skipped: does not support domain-incremental") == 1


def test_fewer_than_three_seeds_give_no_interval_and_no_rank(pages: Pages) -> None:
    md, data, _ = pages(*several("naive", 0.2, seeds=2))
    row = data["scenarios"][0]["entries"][0]
    assert (row["rank"], row["values"]["average_accuracy.gem2017"]["low"]) == (None, None)
    assert "fewer than 3 seeds: not ranked" in md
    assert " ± " not in "".join(line for line in md.splitlines() if line.startswith("|"))


def test_truncated_and_foreign_records_are_named_relative_to_the_root_and_left_out(tmp_path: Path) -> None:
    root = store(tmp_path / "records", *several("naive", 0.2))
    for name, text in (("cut", '{"schema": 1, "id'), ("foreign", '{"accuracy": 1}')):
        (root / name).mkdir()
        (root / name / "record.json").write_text(text)
    reading = write_report(root, tmp_path / "out")
    assert len(reading.left_out) == 2
    data = json.loads((tmp_path / "out" / "leaderboard.json").read_text())
    assert [text.split()[0] for text in data["left_out"]] == ["cut/record.json", "foreign/record.json"]
    for file in FILES:
        page = (tmp_path / "out" / file).read_text()
        assert "foreign/record.json is not a clbench record" in page
        assert str(tmp_path) not in page
    assert data["scenarios"][0]["entries"][0]["rank"] == 1


def test_two_records_of_one_seed_with_different_streams_are_both_left_out_and_named(pages: Pages) -> None:
    odd = toy_record("replay", 1, fingerprint="another stream")
    md, data, html = pages(*several("naive", 0.2), odd)
    assert [e["label"] for e in data["scenarios"][0]["entries"]] == ["naive"]
    assert data["scenarios"][0]["entries"][0]["seeds"] == [0, 2]
    assert len(data["left_out"]) == 2  # one line for each of the two
    for page in (md, data["left_out"][0], html):
        assert f"{SCENARIO}/naive/mlp/seed1-" in page
        assert f"{SCENARIO}/replay/mlp/seed1-" in page


def test_variants_of_a_scenario_are_listed_apart_from_the_official_card(pages: Pages) -> None:
    variant = f"{SCENARIO}[n_tasks=10]"
    md, data, html = pages(*several("naive", 0.2), *several("naive", 0.2, scenario=variant))
    assert [(t["scenario"], t["variant"]) for t in data["scenarios"]] == [(SCENARIO, False), (variant, True)]
    assert md.index(f"## {SCENARIO}\n") < md.index("# Variants") < md.index(f"## {variant}")
    assert html.index(f'id="{SCENARIO}"') < html.index('id="variants"') < html.index(f'id="{SCENARIO}-n_tasks-10"')


def test_other_parameters_make_another_entry_and_equal_labels_are_told_apart() -> None:
    records = [*several("replay", 0.6), *several("replay", 0.4, more=1), *several("replay[memory=50]", 0.5)]
    labels = [e.label for e in make_leaderboard(records).official[0].entries]
    assert labels[1] == "replay[memory=50]"
    assert labels[0] == f"replay #{records[0].entry[:6]}"
    assert labels[2] == f"replay #{records[3].entry[:6]}"


def test_the_model_is_part_of_the_label_where_there_are_several() -> None:
    records = [*several("naive", 0.6), *several("naive", 0.4, names={"model": "cnn"})]
    assert [e.label for e in make_leaderboard(records).official[0].entries] == ["naive · mlp", "naive · cnn"]


def test_several_records_of_one_seed_are_not_ranked() -> None:
    again = toy_record("naive", 1, identity={"names": "other", "seeds": 99}, names={"strategy": "naive"})
    again = Record(**{**vars(again), "identity": {**toy_record("naive", 1).identity, "seeds": 99}})
    board = make_leaderboard([*several("naive", 0.2), again])
    assert entry(board, "naive").unranked_because == "several records of one seed: not ranked"


def test_intransigence_pairs_every_run_with_the_cumulative_run_of_its_seed() -> None:
    board = make_leaderboard([*several("naive", 0.2), *several("cumulative", 0.8, reference=True)])
    assert entry(board, "naive").values["intransigence.rwalk2018"] == pytest.approx((0.0, 0.0, 0.0))
    alone = make_leaderboard(
        [*several("naive", 0.2), *several("cumulative", 0.8, reference=True, names={"model": "cnn"})]
    )
    assert all(map(math.isnan, entry(alone, "naive · mlp").values["intransigence.rwalk2018"]))


def test_the_gain_over_learning_alone_has_a_column_where_a_finished_run_learned_each_task_alone() -> None:
    id, alone = "forward_transfer.cuber2022", several("independent", 0.8, reference=True)
    board = make_leaderboard([*several("naive", 0.2, matrix=diagonal(0.75)), *alone])
    assert entry(board, "naive").values[id] == pytest.approx([-0.15, -0.16, -0.17])
    assert entry(board, "independent").values[id] == pytest.approx([0.0] * 3)
    ids = [column.id for column in board.tables[0].columns]
    assert ids.index(id) == ids.index("forward_transfer.gem2017") + 1
    failed = several("independent", 0.8, reference=True, status="failed", reason="boom")
    for others in ([], failed, several("independent", 0.8), several("cumulative", 0.8, reference=True)):
        assert id not in [c.id for c in make_leaderboard([*several("naive", 0.2), *others]).tables[0].columns]


def test_the_gain_over_learning_alone_minus_that_of_another_method_is_the_gap_of_their_diagonals() -> None:
    records = [*several("gpm", 0.7, matrix=diagonal(0.75)), *several("cuber", 0.7, matrix=diagonal(0.875))]
    board = make_leaderboard([*records, *several("independent", 0.8, reference=True)])
    one, other = (entry(board, name).values["forward_transfer.cuber2022"] for name in ("cuber", "gpm"))
    assert np.subtract(one, other) == pytest.approx([0.125] * 3)  # what the paper prints


def diagonal(learned: float, n_tasks: int = 3) -> ScoreMatrix:
    values = np.full((n_tasks + 1, n_tasks), 0.1)
    np.fill_diagonal(values[1:], learned)
    return ScoreMatrix(values)


def test_growth_from_task_to_task_has_columns_in_tables_of_many_tasks_only(pages: Pages) -> None:
    def long(n_tasks: int) -> list[Record]:
        records = several("naive", 0.2, matrix=diagonal(0.9, n_tasks), scenario=f"split_{n_tasks}-v1")
        for record in records:
            record.result["counts"] = [
                {"state_bytes": 500_000 + (k > 0) * 400_000 + 2_500 * k, "stored_samples": 0} for k in range(n_tasks)
            ]
            record.costs[:] = [{"train_seconds": 9.0}, *({"train_seconds": 2.0 + k} for k in range(n_tasks - 1))]
        return records

    md, data, _ = pages(*long(19), *long(20))
    few, many = data["scenarios"]
    assert many["columns"][-4:] == ["state_bytes", "state_bytes_growth", "train_seconds", "train_seconds_ratio"]
    assert not {"state_bytes_growth", "train_seconds_ratio"} & {*few["columns"]}
    values = many["entries"][0]["values"]
    assert values["state_bytes_growth"]["mean"] == pytest.approx(2_500)
    assert values["train_seconds_ratio"]["mean"] == pytest.approx(10)
    assert next(line for line in md.splitlines()[::-1] if line.startswith("| 1 |")).endswith(
        "| 0.948 | 2.50 | 218 | 10.00 |"
    )
    assert "state growth per task (kB)" in md


def test_growth_is_open_where_a_count_is_missing() -> None:
    records = several("naive", 0.2, matrix=diagonal(0.9, 20), costs=[{"train_seconds": 1.0}])
    records[0].result["counts"] = records[0].result["counts"][:-1]
    values = entry(make_leaderboard(records), "naive").values
    assert math.isnan(values["state_bytes_growth"][0]) and values["state_bytes_growth"][1] == 0
    assert all(map(math.isnan, values["train_seconds_ratio"]))


def test_an_undefined_metric_is_a_dash_and_null_and_never_zero(pages: Pages) -> None:
    values = np.full((4, 3), np.nan)
    values[0], values[3] = 0.1, 0.9
    unknown: list[dict[str, None]] = [{"train_seconds": None}] * 3
    records = several("joint", 0.9, reference=True, matrix=ScoreMatrix(values), costs=unknown)
    md, data, _ = pages(*records)
    found = data["scenarios"][0]["entries"][0]["values"]
    assert found["average_accuracy.gem2017"]["mean"] == pytest.approx(0.9)
    for column in ("forgetting.rwalk2018", "backward_transfer.gem2017", "train_seconds"):
        nothing = {"mean": None, "low": None, "high": None, "n": 3, "method": "none", "per_seed": [None, None, None]}
        assert found[column] == nothing
    row = next(line for line in md.splitlines() if line.startswith("| — | joint"))
    assert row.split(" | ")[3:8] == ["90.0 ± 0.0", "90.0 ± 0.0", "—", "—", "—"]
    assert row.endswith("| 2.50 | — |")


def test_the_task_masked_column_is_there_under_class_incremental_only() -> None:
    def ids(protocol: str) -> list[str]:
        record = toy_record()
        record.card["protocol"] = protocol
        return [c.id for c in make_leaderboard([record]).official[0].columns]

    assert "task_masked.average_accuracy.gem2017" in ids("class-incremental")
    assert "task_masked.average_accuracy.gem2017" not in ids("task-incremental")


def test_every_column_says_its_id_and_its_definition(pages: Pages) -> None:
    md, data, html = pages(*several("naive", 0.2))
    for id, column in data["columns"].items():
        assert f"`{id}`" in md
        assert column["formula"] in md
        assert id in html.replace("<wbr>", "")
        assert column["source"]
