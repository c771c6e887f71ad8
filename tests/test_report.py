"""The report's pages: self-contained, the same bytes for the same records, and plain about what is missing."""

from __future__ import annotations

import base64
import io
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clbench.errors import BadInput, RecordError
from clbench.matrix import ScoreMatrix
from clbench.report import write_report
from tests.toy_records import FILES, SCENARIO, Pages, several, store, toy_matrix, toy_record


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


@pytest.mark.parametrize("rest", ["", " · some_model[width=100,depth=2] · some_trainer[batch_size=20,epochs=10]"])
def test_long_names_stand_whole_under_each_other_inside_their_figures(rest: str, pages: Pages) -> None:
    names = [f"strategy_{k}[some_option=48,epochs=3,lr=0.01]{rest}" for k in range(6)]
    _, _, html = pages(*(record for name in names for record in several(name, 0.5)))
    figures = [svg for svg in re.findall(r"<svg .*?</svg>", html, re.DOTALL) if "some_option" in svg.partition(">")[2]]
    assert len(figures) == 2  # accuracy over time, accuracy against forgetting
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
    curve, _, heat = pictures(html)
    assert numbers(curve)[: len(shown)] == shown
    assert numbers(heat) == [*shown, 0, *shown]
    marks = curve.count("<use ")  # ticks, and a marker for each number rather than for each task
    assert 2 * len(shown) <= marks < 2 * len(shown) + 15


def test_the_matrix_of_a_hundred_tasks_is_small_whole_and_shows_what_was_not_measured(pages: Pages) -> None:
    values = toy_matrix(0.2, 0, 100).values.copy()
    values[50:60, 50:60] = np.nan
    _, _, html = pages(*several("naive", 0.2, matrix=ScoreMatrix(values)))
    heat = pictures(html)[-1]
    assert len(heat) < 50_000
    (png,) = re.findall(r"data:image/png;base64,\s*([^\"]*)", heat)
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(png))).convert("RGBA")).astype(int)
    place = re.search(r'width="100" height="101" transform="matrix\((\S+) 0 0 (\S+) ', heat)
    assert place is not None
    image = image if float(place[2]) > 0 else image[::-1]
    assert image.shape == (101, 100, 4)
    assert (image[50:60, 50:60, 3] == 0).all(), "transparent: the hatched ground shows"
    assert (np.delete(image[..., 3].ravel(), np.flatnonzero(np.isnan(values))) == 255).all()
    brightness = image[..., :3].sum(axis=2)
    assert brightness[100, 99] < brightness[100, 0] < brightness[0, 0]
