"""The report's pages: self-contained, the same bytes for the same records, and plain about what is missing."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from clbench.errors import BadInput, RecordError
from clbench.leaderboard import make_leaderboard
from clbench.metrics import METRICS
from clbench.metrics.libraries import LIBRARIES
from clbench.report import coming_from, write_report
from clbench.report.export import to_json
from clbench.report.html import to_html
from clbench.report.markdown import to_markdown
from tests.command import call
from tests.toy_records import SCENARIO, Pages, several, store, toy_card, toy_matrix, toy_record


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
    assert len(found.labels) == 4 + 1  # over time, and where there are two entries plasticity and two costs
    assert html.count("<desc>") == len(found.labels)
    assert re.search(r"<desc>At the end: replay [\d.]+ ± [\d.]+; naive [\d.]+ ± [\d.]+\.</desc>", html)


def test_ids_on_the_page_are_unique_and_every_reference_to_one_is_met(pages: Pages) -> None:
    records = [*several("naive", 0.2), *several("replay", 0.6), *several("naive", 0.2, scenario="split_toy-v2")]
    _, _, html = pages(*records)
    found = Resources()
    found.feed(html)
    assert len(found.ids) == len(set(found.ids))
    targets = {link[1:] for link in found.loaded if link.startswith("#")} | set(re.findall(r"url\(#([^)]+)\)", html))
    runs = {target.removeprefix("run-") for target in targets if target.startswith("run-")}
    assert len(runs) == 3  # a link for each row, to a run that the page draws when it is opened
    assert runs < set(re.findall(r"[0-9a-f]{12}", html[html.index('id="run-index"') :].partition("</script>")[0]))
    assert {target for target in targets if not target.startswith("run-")} <= set(found.ids)


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
    one_task = toy_matrix(0.2, 0, n_tasks=1)
    md, data, html = pages(*several("naive", 0.2, matrix=one_task), *several("replay", 0.2, matrix=one_task))
    assert data["scenarios"][0]["entries"][0]["values"]["forgetting.rwalk2018"]["mean"] is None
    assert "Forgetting against plasticity" not in html
    assert "90.0 ± 0.0" in md


def test_two_entries_that_forget_are_drawn_against_each_other(pages: Pages) -> None:
    _, _, html = pages(*several("naive", 0.2), *several("replay", 0.4))
    assert "Forgetting against plasticity" in html


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
    assert html.count(">replay[lr=0.00012345]</text>") == 4
    assert html.count(">$a$ #b2</text>") == 4


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
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def contents(folder: Path) -> dict[str, bytes]:
    found = {path.name: path.read_bytes() for path in folder.glob("leaderboard.*")}
    assert sorted(found) == [f"leaderboard.{kind}" for kind in ("csv", "html", "json", "md", "tex")]
    return found


def test_another_hash_seed_locale_and_time_zone_change_no_byte(tmp_path: Path) -> None:
    root = store(tmp_path / "records", *several("naive", 0.2), *several("replay", 0.6))
    write_report(root, tmp_path / "here")
    code = "import sys; from pathlib import Path; from clbench.report import write_report;"
    code += "write_report(Path(sys.argv[1]), Path(sys.argv[2]))"
    there = {"PYTHONHASHSEED": "7", "LC_ALL": "C", "TZ": "Asia/Tokyo", "PYTHONUTF8": "0"}
    subprocess.run([sys.executable, "-c", code, root, tmp_path / "there"], check=True, env=os.environ | there)
    assert contents(tmp_path / "here") == contents(tmp_path / "there")


def test_without_costs_the_boards_of_two_machines_are_the_same_bytes(tmp_path: Path) -> None:
    fast: dict[str, Any] = {"costs": [{"train_seconds": 1.0}] * 3, "environment": {"processor": "a"}}
    slow: dict[str, Any] = {"costs": [{"train_seconds": 9.0}] * 3, "environment": {"processor": "b"}}
    for name, machine in (("fast", fast), ("slow", slow)):
        store(tmp_path / name / "records", *several("naive", 0.2, **machine), *several("replay", 0.6, **machine))
        for out, flags in (("costs", ()), ("plain", ("--without-costs",))):
            assert call("report", "records", "--out", out, *flags, cwd=tmp_path / name).code == 0
    assert contents(tmp_path / "fast" / "costs") != contents(tmp_path / "slow" / "costs")
    plain = contents(tmp_path / "fast" / "plain")
    assert plain == contents(tmp_path / "slow" / "plain")
    assert b"train_seconds" not in plain["leaderboard.json"]
    assert b"state_bytes" in plain["leaderboard.json"]


def test_the_csv_has_a_row_for_every_entry_and_column_at_full_precision(tmp_path: Path) -> None:
    write_report(store(tmp_path / "records", *several("naive", 0.2), *several("a,b", 0.6, seeds=2)), tmp_path)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "leaderboard.csv").read_text())))
    data = json.loads((tmp_path / "leaderboard.json").read_text())
    (table,) = data["scenarios"]
    assert len(rows) == len(table["entries"]) * len(table["columns"])
    for row in rows:
        entry = next(e for e in table["entries"] if e["label"] == row["label"])
        value = entry["values"][row["metric"]]
        for name in ("mean", "low", "high"):
            assert row[name] == ("" if value[name] is None else repr(value[name]))
        assert (int(row["n"]), row["interval"]) == (value["n"], value["method"])
    assert {row["interval"] for row in rows if row["label"] == "a,b"} == {"none"}


def test_the_latex_table_is_whole_escaped_and_puts_references_below_a_rule(tmp_path: Path) -> None:
    records = [*several("er_ace[lr=5%]", 0.8), *several("naive", 0.2), *several("joint", 0.9, reference=True)]
    write_report(store(tmp_path / "records", *records), tmp_path)
    text = (tmp_path / "leaderboard.tex").read_text()
    assert r"er\_ace[lr=5\%]" in text
    assert not re.search(
        r"(?<!\\)[_%&#](?![^\n]*\\\\$)", re.sub(r"^%.*$", "", text, flags=re.MULTILINE).replace(" & ", " ")
    )
    body = text[text.index(r"\midrule") : text.index(r"\bottomrule")].split(r"\midrule")
    assert ["joint" in part for part in body] == [False, False, True]
    best = next(line for line in text.splitlines() if line.startswith("1 & "))
    assert re.search(r"\$\\mathbf\{8[\d.]+\} \\pm [\d.]+\$", best)
    heads = next(line for line in text.splitlines() if line.startswith("rank & "))
    assert {line.count(" & ") for line in text.splitlines() if line.endswith(r"\\")} == {heads.count(" & ")}
    for part in ("$n = 3$ seeds", "Student t", r"average\_accuracy.gem2017", r"\begin{tabular}{rlr"):
        assert part in text


def test_intervals_of_many_seeds_are_shown_with_both_ends(pages: Pages) -> None:
    md, data, html = pages(*(toy_record("naive", seed, matrix=toy_matrix(0.2, seed % 7)) for seed in range(12)))
    value = data["scenarios"][0]["entries"][0]["values"]["average_accuracy.gem2017"]
    assert value["method"] == "bootstrap"
    shown = f"{100 * value['mean']:.1f} [{100 * value['low']:.1f}, {100 * value['high']:.1f}]"
    assert shown in md
    assert shown in html


def test_figures_that_papers_report_stand_beside_the_measured_ones(tmp_path: Path) -> None:
    reported = [{"method": "GPM", "accuracy": 72.5, "source": "CUBER Table 1"}, {"method": "HAT", "accuracy": 70}]
    card = toy_card(SCENARIO, 3) | {"reported": reported}
    board = make_leaderboard(several("naive", 0.2, card=card))
    assert to_json(board)["scenarios"][0]["reported"] == reported
    assert "| GPM | 72.5 | CUBER Table 1 |" in to_markdown(board)
    assert "| HAT | 70 | — |" in to_markdown(board)
    assert re.search(r'<th scope="row">GPM</th><td class="n">72.5</td><td class="n">CUBER Table 1</td>', to_html(board))


def test_calibration_is_drawn_over_time_where_runs_have_it() -> None:
    records = several("naive", 0.2)
    assert "Calibration over time" not in to_html(make_leaderboard(records))
    for record in records:
        values = record.matrix().to_json() | {"name": "expected_calibration_error", "higher_is_better": False}
        record.result["matrices"]["expected_calibration_error"] = values
    html = to_html(make_leaderboard(records))
    assert "Calibration over time" in html
    assert "calibration error (%)" in html  # and task by task in the run's own part


def test_the_page_for_those_who_come_from_other_libraries_is_up_to_date() -> None:
    committed = Path(__file__).parent.parent / "reports" / "coming_from.md"
    assert committed.read_text(encoding="utf-8") == coming_from.to_markdown()
    known = {m.id for m in (*METRICS.values(), *LIBRARIES)}
    assert {figure.id for figure in coming_from.FIGURES} <= known
    values = {id: numbers for _, _, id, numbers in coming_from.variants()}
    assert values["lib.avalanche.forgetting"] == ["0.2167", "−0.1000"]
    assert values["lib.mammoth.forgetting_run"] == ["0.2167", "0.2000"]


@pytest.mark.parametrize("rest", ["", " · some_model[width=100,depth=2] · some_trainer[batch_size=20,epochs=10]"])
def test_long_names_stand_whole_under_each_other_inside_their_figures(rest: str, pages: Pages) -> None:
    names = [f"strategy_{k}[some_option=48,epochs=3,lr=0.01]{rest}" for k in range(6)]
    _, _, html = pages(*(record for name in names for record in several(name, 0.5)))
    figures = [svg for svg in re.findall(r"<svg .*?</svg>", html, re.DOTALL) if "some_option" in svg]
    assert len(figures) == 4  # over time, plasticity, two costs
    for svg in figures:
        width, height = map(float, re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)[0])
        places = re.findall(r'(?:x="|translate\()([-\d.]+)(?:" y="| )([-\d.]+)[^>]*>strategy_', svg)
        assert len(places) == len(names) == len({y for _, y in places})
        assert all(0 < float(x) < width / 2 and 0 < float(y) < height for x, y in places)


def pictures(html: str) -> list[str]:
    return re.findall(r"<svg .*?</svg>", html, re.DOTALL)


def numbers(svg: str) -> list[int]:
    return [int(text) for text in re.findall(r">(\d+)</text>", svg)]


@pytest.mark.parametrize(("n_tasks", "shown"), [(12, list(range(1, 13))), (100, [20, 40, 60, 80, 100])])
def test_twelve_tasks_are_all_numbered_and_a_hundred_thinned_out(n_tasks: int, shown: list[int], pages: Pages) -> None:
    _, _, html = pages(*several("naive", 0.2, matrix=toy_matrix(0.2, 0, n_tasks)))
    curve = pictures(html)[0]
    assert numbers(curve)[: len(shown)] == shown
    marks = curve.count("<use ")  # ticks, and a marker for each number rather than for each task
    assert 2 * len(shown) <= marks < 2 * len(shown) + 15


def test_of_many_entries_the_best_of_each_strategy_is_named_and_the_others_have_tooltips(pages: Pages) -> None:
    names = [f"{name}[lr={k}]" for name in ("er", "ewc", "si") for k in range(5)]
    _, _, html = pages(*(r for k, name in enumerate(names) for r in several(name, 0.3 + 0.01 * k)))
    curve = pictures(html)[0]
    assert re.findall(r">((?:er|ewc|si)\[lr=\d\])</text>", curve) == ["si[lr=4]", "ewc[lr=4]", "er[lr=4]"]
    assert sorted(re.findall(r"<title>(.*?)</title>", curve)) == sorted(
        {*names} - {"si[lr=4]", "ewc[lr=4]", "er[lr=4]"}
    )
    assert "12 other entries" in curve


def test_entries_that_none_beats_on_both_accuracy_and_cost_are_joined(pages: Pages) -> None:
    records = [*several("small", 0.3), *several("large", 0.8), *several("bad", 0.2)]
    for record in records:
        size = {"small": 1_000_000, "large": 9_000_000, "bad": 5_000_000}[record.names["strategy"]]
        record.result["counts"][:] = [{"state_bytes": size, "stored_samples": 0}] * 3
    _, _, html = pages(*records)
    assert re.search(r"than: small \([\d.]+ %, 1 MB\), large \(", html)
