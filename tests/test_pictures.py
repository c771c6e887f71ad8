"""The pictures of a scenario: who is named, what the words under them say, and that nothing is cut off or covered."""

from __future__ import annotations

import re
from typing import Any

import pytest

from clbench.leaderboard import make_leaderboard
from clbench.matrix import ScoreMatrix
from clbench.record import Record
from clbench.report.drawing import PALETTE, REST, drawing, make_room
from clbench.report.pictures import of_table
from clbench.report.placing import place_labels
from tests.toy_records import several, toy_matrix, watched

INFERENCE = "task_inference_accuracy"


def drawn(*records: Record) -> dict[str, tuple[str, str]]:
    """SVG and caption by the caption's first words."""
    (table,) = make_leaderboard(list(records)).tables
    return {re.findall("<b>(.*?)</b>", caption)[0].rstrip("."): (svg, caption) for svg, caption in of_table(table)}


def costing(size: int, name: str, final: float, **changes: Any) -> list[Record]:
    """Records of which the state takes as many bytes."""
    records = several(name, final, **changes)
    for record in records:
        record.result["counts"][:] = [{"state_bytes": size, "stored_samples": 0}] * 3
    return records


def words(svg: str) -> list[str]:
    return re.findall(r"<text[^>]*>(.*?)</text>", svg)


def test_a_reference_takes_nobody_off_the_front_and_the_words_say_so() -> None:
    found = drawn(
        *costing(2 * 10**6, "small", 0.3),
        *costing(2 * 10**6, "worse", 0.2),  # no smaller
        *costing(9 * 10**6, "large", 0.8),
        *costing(10**6, "oracle", 0.85, reference=True),
    )
    svg, caption = found["Accuracy against memory"]
    said = "<desc>References aside, no other entry is as good on both and better on one than: "
    (front,) = re.findall(f"{re.escape(said)}([^<]*)", svg)
    assert re.fullmatch(r"small \(.*\), large \(.*\)\.?", front) and "worse" not in front
    assert "no other entry is as good on both and better on one; references (hollow) do not count" in caption


def test_every_entry_on_the_front_has_its_name_in_the_picture_however_bad() -> None:
    good = [r for k in range(8) for r in costing(10**7, f"good_{k}", 0.7 + 0.01 * k)]
    svg, caption = drawn(*good, *costing(10**4, "tiny", 0.1), *costing(10**5, "poor", 0.2))["Accuracy against memory"]
    assert {"tiny", "poor", "good_7"} <= {*words(svg)}
    assert "good_0" not in words(svg)  # grey, as there are seven colours
    assert "<title>good_0" in svg
    assert "Ringed, joined and named" in caption


def test_long_names_on_the_front_are_in_the_legend() -> None:
    names = [f"er[some_long_option={k},another_one=12]" for k in range(9)]
    records = [r for k, name in enumerate(names) for r in costing(10**6 * (k + 1), name, 0.3 + 0.05 * k)]
    svg, _ = drawn(*records)["Accuracy against memory"]
    assert {*names} <= {*words(svg)}
    assert not any("other entr" in text for text in words(svg))


def test_who_infers_tasks_is_named_though_others_are_more_accurate() -> None:
    better = [r for k in range(8) for r in several(f"good_{k}", 0.7 + 0.01 * k)]
    inferring = several("detector", 0.2)
    for record in inferring:
        matrix = ScoreMatrix(record.matrix().values, INFERENCE)
        record.result["matrices"][INFERENCE] = matrix.to_json()
    found = drawn(*better, *inferring)
    assert "detector" not in words(found["Accuracy over time"][0])
    svg, caption = found["Task inference over time"]
    assert "detector" in words(svg)
    assert "grey" not in caption


def test_an_entry_has_the_same_colour_wherever_it_is_named() -> None:
    better = [r for k in range(5) for r in several(f"good_{k}", 0.7 + 0.01 * k)]
    both = watched_all(several("last", 0.2))
    found = drawn(*better, *both)
    own = PALETTE[5].lower()
    assert [c.lower() for c in PALETTE if c.lower() in found["Likelihood over time"][0]] == [own]
    assert own in found["Accuracy over time"][0]


def test_grey_is_explained_under_every_picture_that_has_it_and_nowhere_else() -> None:
    few = drawn(*watched_all([*several("a", 0.2), *several("b", 0.3)]))
    many = drawn(*watched_all([r for k in range(9) for r in several(f"m_{k}", 0.2 + 0.05 * k)]))
    assert few.keys() == many.keys() >= {"Calibration over time", "Likelihood over time"}
    assert not any("are grey" in caption for _, caption in few.values())
    assert all(("are grey" in caption) == (REST_NAME in svg) for svg, caption in many.values())
    assert "are grey" in many["Calibration over time"][1]


def test_the_others_come_last_in_the_legend_even_where_an_entry_is_called_so() -> None:
    names = ["3 other entries", *(f"m_{k}" for k in range(8))]
    svg, _ = drawn(*(r for k, name in enumerate(names) for r in several(name, 0.8 - 0.05 * k)))["Accuracy over time"]
    assert [text for text in words(svg) if "other" in text] == ["3 other entries", "2 other entries"]
    assert words(svg)[-1] == "2 other entries"


def test_forgetting_against_plasticity_needs_two_entries_and_has_titles_on_its_axes() -> None:
    assert "Forgetting against plasticity" not in drawn(*several("a", 0.2))
    svg, _ = drawn(*several("a", 0.2), *several("b", 0.3))["Forgetting against plasticity"]
    assert {"learning accuracy (%)", "forgetting (points)"} <= {*words(svg)}


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ((2000, 4 * 10**7), {"0.01", "0.1", "1", "10"}),
        ((10**6, 8 * 10**6), {"1", "2", "5"}),
        ((10**6, 1_100_000), set()),
    ],
)
def test_an_axis_of_costs_is_numbered_as_its_span_allows(sizes: tuple[int, int], expected: set[str]) -> None:
    svg, _ = drawn(*costing(sizes[0], "a", 0.2), *costing(sizes[1], "b", 0.8))["Accuracy against memory"]
    texts = words(svg)
    shown = texts[: texts.index("state (MB, logarithmic)")]
    assert expected <= {*shown}
    assert 2 <= len(shown) <= 8
    assert not {"0.02", "0.05"} & {*shown}


def test_accuracies_fill_their_axis() -> None:
    svg, _ = drawn(*several("a", 0.86, matrix=toy_matrix(0.86, 0)))["Accuracy over time"]
    texts = words(svg)
    ticks = [float(text) for text in texts[texts.index("tasks trained") + 1 :] if re.fullmatch(r"[\d.]+", text)]
    assert 80 <= min(ticks) < max(ticks) <= 96


@pytest.mark.parametrize("ends", [(-0.06, 0.06), (85.0, 101.5), (0.0, 1.0), (97.31, 97.34)])
def test_neither_ticks_nor_title_of_the_vertical_axis_are_cut(ends: tuple[float, float]) -> None:
    with drawing() as (figure, axes):
        axes.set(ylabel="accuracy over tasks so far (%)", ylim=ends)
        make_room(figure, axes)
        box = axes.get_tightbbox()
        assert box is not None
        assert box.x0 >= 0


def test_labels_stay_inside_the_axes_apart_from_each_other_and_off_the_front() -> None:
    names = ["a_label_that_is_very_long", "another_label_as_long", "short", "third_label_in_the_corner"]
    with drawing() as (_, axes):
        axes.set(xlim=(0, 1), ylim=(0, 1))
        places = [(0.99, 0.98), (0.98, 0.99), (0.985, 0.97), (0.01, 0.01)]
        steps = [(0.01, 0.01), (0.985, 0.01), (0.985, 0.97)]
        place_labels(axes, [(*at, name) for at, name in zip(places, names, strict=True)], needed=4, steps=steps)
        frame, boxes = axes.get_window_extent(), [text.get_window_extent() for text in axes.texts]
        assert [text.get_text() for text in axes.texts] == names
        assert all(frame.x0 <= b.x0 and b.x1 <= frame.x1 and frame.y0 <= b.y0 and b.y1 <= frame.y1 for b in boxes)
        assert not any(a.overlaps(b) for k, a in enumerate(boxes) for b in boxes[:k])
        bottom, right = axes.transData.transform((0.5, 0.01))[1], axes.transData.transform((0.985, 0.5))[0]
        assert all(not b.y0 < bottom < b.y1 and not b.x0 < right < b.x1 for b in boxes)


def test_where_there_is_no_room_only_the_needed_names_are_there() -> None:
    crowd = [(0.5 + 0.001 * k, 0.5, f"a_name_of_some_length_{k}") for k in range(40)]
    with drawing(height=1.6) as (_, axes):
        axes.set(xlim=(0, 1), ylim=(0, 1))
        place_labels(axes, crowd, needed=3)
        shown = [text.get_text() for text in axes.texts]
    assert shown[:3] == [name for _, _, name in crowd[:3]]
    assert len(shown) < 40


def test_labels_beside_points_stand_on_the_pages_colour_and_stay_text() -> None:
    svg, _ = drawn(*several("a", 0.2), *several("b", 0.3))["Forgetting against plasticity"]
    halo = r'<g style="paint-order: stroke; stroke: var\(--page\); stroke-width: [\d.]+px">\s*<text[^>]*>(\w)</text>'
    assert re.findall(halo, svg) == ["b", "a"]
    assert 'id="halo"' not in svg


@pytest.mark.parametrize("page", ["#ffffff", "#14181c"])
def test_colours_stand_out_from_the_light_and_the_dark_page(page: str) -> None:
    def luminance(colour: str) -> float:
        parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    for colour in (*PALETTE, REST):
        low, high = sorted((luminance(colour), luminance(page)))
        assert (high + 0.05) / (low + 0.05) >= 3, colour


REST_NAME = "<title>m_0"  # in pictures where it is grey; a point with a colour has a tooltip too, but m_0 is the worst


def watched_all(records: list[Record]) -> list[Record]:
    return [watched(record) for record in records]
