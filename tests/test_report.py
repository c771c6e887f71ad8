"""The report, through real records: what it ranks, what it shows, and that it hides nothing."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clbench.errors import BadInput, RecordError
from clbench.leaderboard import Leaderboard, make_leaderboard
from clbench.matrix import ScoreMatrix
from clbench.record import Record, write_record
from clbench.report import write_report
from clbench.statistics import estimate
from clbench.store import Store

FILES = ("leaderboard.md", "leaderboard.json", "leaderboard.html")
SCENARIO = "split_toy-v1"


def toy_matrix(final: float, seed: int, n_tasks: int = 3) -> ScoreMatrix:
    """Learned at 0.9, forgotten down to ``final`` at the end, a little different from seed to seed."""
    values = np.full((n_tasks + 1, n_tasks), 0.1)
    for i in range(1, n_tasks + 1):
        values[i, :i] = final
        values[i, i - 1] = 0.9
    return ScoreMatrix(values + 0.01 * seed)


def toy_record(strategy: str = "replay", seed: int = 0, final: float = 0.5, **changes: Any) -> Record:
    scenario = changes.pop("scenario", SCENARIO)
    matrix = changes.pop("matrix", None) or toy_matrix(final, seed)
    names = {"scenario": scenario, "strategy": strategy, "model": "mlp", "trainer": "sgd"} | changes.pop("names", {})
    masked = ScoreMatrix(matrix.values, name="task_masked_accuracy")
    result = {
        "fingerprint": changes.pop("fingerprint", f"{scenario}-{seed}"),
        "matrices": {m.name: m.to_json() for m in (matrix, masked)},
        "counts": [{"state_bytes": 2_500_000, "stored_samples": 40}] * matrix.n_tasks,
        "tasks": [],
    }
    card = {"name": scenario, "summary": "A toy.", "protocol": "class-incremental", "n_tasks": matrix.n_tasks}
    content: dict[str, Any] = {
        "identity": {"names": names, "seeds": {"order": seed, "split": seed}, "more": changes.pop("more", 0)},
        "names": names,
        "seed": seed,
        "status": "ok",
        "card": card | {"licence": "CC0", "citation": "Nobody, 2026", "notes": ""},
        "result": result,
        "costs": [{"train_seconds": 1.5}] * matrix.n_tasks,
        "environment": {"python": "3.11"},
        "command": f"clbench run strategy={strategy} seed={seed}",
    } | changes
    if content["status"] != "ok":
        content |= {"result": {}, "costs": []}
    return Record(**content)


def store(root: Path, *records: Record) -> Path:
    for record in records:
        write_record(Store(root).folder(record), record)
    return root


def several(strategy: str, final: float, seeds: int = 3, **changes: Any) -> list[Record]:
    return [toy_record(strategy, seed, final, **changes) for seed in range(seeds)]


@pytest.fixture
def pages(tmp_path: Path) -> Callable[..., tuple[str, dict[str, Any], str]]:
    """Writes records and their report; gives the three pages back, the second one parsed."""

    def write(*records: Record) -> tuple[str, dict[str, Any], str]:
        write_report(store(tmp_path / "records", *records), tmp_path / "out")
        md, data, html = ((tmp_path / "out" / name).read_text(encoding="utf-8") for name in FILES)
        return md, json.loads(data), html

    return write


Pages = Callable[..., tuple[str, dict[str, Any], str]]


def entry(board: Leaderboard, label: str) -> Any:
    return next(e for table in board.tables for e in table.entries if e.label == label)


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
    assert shown == [("cumulative", None, "reference"), ("replay", 1, None), ("naive", 2, None)]


def test_equal_means_share_a_rank() -> None:
    board = make_leaderboard([*several("a", 0.6), *several("b", 0.6), *several("c", 0.2)])
    assert [e.rank for e in board.official[0].entries] == [1, 1, 3]


def test_a_missing_seed_shows_and_costs_the_rank(pages: Pages) -> None:
    md, data, html = pages(*several("naive", 0.2, seeds=5), *several("replay", 0.6, seeds=4))
    row = next(e for e in data["scenarios"][0]["entries"] if e["label"] == "replay")
    assert (row["rank"], row["missing"], row["unranked_because"]) == (None, [4], "incomplete: not ranked")
    for page in (md, html):
        assert "4 of 5 seeds" in page
        assert "5 of 5 seeds" in page
        assert "incomplete: not ranked" in page
        assert "replay, seed 4: no record" in page


def test_a_failed_record_is_visible_with_its_reason_and_never_averaged(pages: Pages) -> None:
    failed = toy_record("replay", 2, status="failed", reason="NonFiniteLoss: the loss is\n nan")
    md, data, html = pages(*several("naive", 0.2), *several("replay", 0.6, seeds=2), failed)
    row = next(e for e in data["scenarios"][0]["entries"] if e["label"] == "replay")
    mean = row["values"]["average_accuracy.gem2017"]
    assert mean["n"] == 2
    assert mean["mean"] == pytest.approx(np.mean(mean["per_seed"]))
    assert mean["half_width"] is None
    assert row["failed"] == [{"seed": 2, "reason": "failed: NonFiniteLoss: the loss is nan"}]
    for page in (md, html):
        assert "replay, seed 2: failed: NonFiniteLoss: the loss is nan" in page
        assert "2 of 3 seeds" in page


def test_an_entry_that_failed_with_every_seed_still_has_a_row(pages: Pages) -> None:
    md, data, html = pages(*several("naive", 0.2), *several("broken", 0.5, status="failed", reason="boom"))
    row = data["scenarios"][0]["entries"][-1]
    assert (row["label"], row["values"]["average_accuracy.gem2017"]["mean"]) == ("broken", None)
    assert "0 of 3 seeds" in md
    assert "0 of 3 seeds" in html


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
    assert (row["rank"], row["values"]["average_accuracy.gem2017"]["half_width"]) == (None, None)
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


def test_an_undefined_metric_is_a_dash_and_null_and_never_zero(pages: Pages) -> None:
    values = np.full((4, 3), np.nan)
    values[3] = 0.9
    records = several("joint", 0.9, reference=True, matrix=ScoreMatrix(values), costs=[])
    md, data, _ = pages(*records)
    found = data["scenarios"][0]["entries"][0]["values"]
    assert found["average_accuracy.gem2017"]["mean"] == pytest.approx(0.9)
    for column in ("forgetting.rwalk2018", "backward_transfer.gem2017", "train_seconds"):
        assert found[column] == {"mean": None, "half_width": None, "n": 3, "per_seed": [None, None, None]}
    row = next(line for line in md.splitlines() if line.startswith("| — | joint"))
    assert row.split(" | ")[3:10] == ["90.0 ± 0.0", "—", "—", "—", "—", "—", "—"]
    assert row.endswith("| 40 | 2.50 | — |")


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


class Resources(HTMLParser):
    """Collects what a page would load, its ids, and the text alternatives of its pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.ids: list[str] = []
        self.labels: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = {name: value or "" for name, value in attrs}
        self.loaded += [known[name] for name in ("src", "href", "xlink:href", "srcset", "data") if name in known]
        self.ids += [known["id"]] if "id" in known else []
        if tag == "svg":
            assert known["role"] == "img"
            self.labels.append(known["aria-label"])


def test_the_page_is_self_contained_and_its_pictures_have_text_alternatives(pages: Pages) -> None:
    _, _, html = pages(*several("naive", 0.2), *several("replay", 0.6), *several("naive", 0.3, scenario="split_toy-v2"))
    found = Resources()
    found.feed(html)
    assert {link for link in found.loaded if not link.startswith("#")} <= {"data:,"}
    assert not re.search(r"https?://|@import|url\((?!#)", html)
    assert len(found.labels) == 3 * 2 + 1  # two pictures a scenario, and a matrix an entry
    assert any("naive" in label and "%" in label for label in found.labels)
    assert "accuracy of every task after every task" in found.labels[2]


def test_ids_on_the_page_are_unique_and_every_reference_to_one_is_met(pages: Pages) -> None:
    records = [*several("naive", 0.2), *several("replay", 0.6), *several("naive", 0.2, scenario="split_toy-v2")]
    _, _, html = pages(*records)
    found = Resources()
    found.feed(html)
    assert len(found.ids) == len(set(found.ids))
    targets = {link[1:] for link in found.loaded if link.startswith("#")} | set(re.findall(r"url\(#([^)]+)\)", html))
    assert targets <= set(found.ids)


def test_labels_and_reasons_are_text_on_the_page_and_never_markup(pages: Pages) -> None:
    failed = toy_record("<b>|x", 0, status="failed", reason="<script>alert(1)</script> a|b")
    md, _, html = pages(*several("naive", 0.2), failed)
    assert "<script>alert" not in html
    assert "&lt;b&gt;" in html
    assert r"\<script\>" in md
    assert r"a\|b" in md


def test_records_that_all_failed_still_make_a_report(pages: Pages) -> None:
    md, _, html = pages(*several("naive", 0.2, status="failed", reason="boom"))
    assert "failed: boom" in md
    assert "<svg" not in html


def test_a_stream_of_one_task_has_no_forgetting_and_no_picture_of_it(pages: Pages) -> None:
    md, data, html = pages(*several("naive", 0.2, matrix=toy_matrix(0.2, 0, n_tasks=1)))
    assert data["scenarios"][0]["entries"][0]["values"]["forgetting.rwalk2018"]["mean"] is None
    assert "against forgetting" not in html
    assert "90.0 ± 0.0" in md


def test_the_overview_marks_what_is_not_ranked_and_puts_references_last(pages: Pages) -> None:
    md, _, _ = pages(*several("naive", 0.2), *several("a", 0.2, seeds=2), *several("b", 0.9, reference=True))
    overview = md[md.index("## Overview") : md.index(f"## {SCENARIO}")]
    assert [line.split(" | ")[0] for line in overview.splitlines() if line.startswith("| ")] == [
        "| strategy",
        "| a",
        "| naive",
        "| b (reference)",
    ]
    assert re.search(r"\| a \| [\d.]+\\\* \|", overview)


def test_numbers_inside_labels_survive_the_tidying_of_pictures(pages: Pages) -> None:
    _, _, html = pages(*several("replay[lr=0.00012345]", 0.2), *several("$a$ #b2", 0.2))
    assert html.count(">replay[lr=0.00012345]</text>") == 2
    assert html.count(">$a$ #b2</text>") == 2


def test_a_folder_without_records_and_an_unwritable_place_are_errors_in_words(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="no records folder"):
        write_report(tmp_path / "nothing", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RecordError, match="no record under"):
        write_report(tmp_path / "empty", tmp_path / "out")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BadInput, match="cannot write the report"):
        write_report(store(tmp_path / "records", toy_record()), tmp_path / "file")


def test_a_report_needs_neither_torch_nor_avalanche_nor_a_display(tmp_path: Path) -> None:
    root = store(tmp_path / "records", *several("naive", 0.2))
    code = (
        "import sys; from pathlib import Path; from clbench.report import write_report;"
        "write_report(Path(sys.argv[1]), Path(sys.argv[2]));"
        "bad = {'torch', 'avalanche', 'matplotlib.pyplot'} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code, str(root), str(tmp_path / "out")], check=True)


def test_the_users_matplotlib_settings_change_nothing(tmp_path: Path) -> None:
    import matplotlib as mpl

    root = store(tmp_path / "records", *several("naive", 0.2))
    write_report(root, tmp_path / "a")
    with mpl.rc_context({"font.size": 20, "axes.grid": False}):
        write_report(root, tmp_path / "b")
        assert mpl.rcParams["font.size"] == 20
    assert (tmp_path / "a" / FILES[2]).read_bytes() == (tmp_path / "b" / FILES[2]).read_bytes()
    shutil.rmtree(tmp_path / "b")
