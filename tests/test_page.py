"""The page in headless Chromium, used as a reader would: sorted, filtered, a run opened, a command copied."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from clbench.leaderboard import make_leaderboard
from clbench.matrix import ScoreMatrix
from clbench.record import Record
from clbench.report.html import to_html
from tests.browser import chromium, complaints, emulate, requests
from tests.toy_records import SCENARIO, several, toy_card, toy_record

OTHER = "permuted_toy-v1"


def written(folder: Path, records: list[Record]) -> Path:
    """The page of these records as a file."""
    (folder / "leaderboard.html").write_text(to_html(make_leaderboard(records)), encoding="utf-8")
    return folder / "leaderboard.html"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of two scenarios and a variant, with a reference, a failed seed and an entry of two seeds."""
    folder = tmp_path_factory.mktemp("page")
    records = [
        *several("naive", 0.2),
        *several("replay[memory=50]", 0.6),
        *several("er_ace", 0.8),
        *several("joint", 0.9, reference=True),
        *several("agem", 0.3, seeds=2),
        toy_record("agem", 2, status="failed", reason="NonFiniteLoss: the loss is nan"),
    ]
    card = toy_card(OTHER, 3) | {"protocol": "domain-incremental"}
    records += several("naive", 0.5, scenario=OTHER, card=card)
    records += several("naive", 0.2, scenario=f"{SCENARIO}[n_tasks=3]")
    return written(folder, records)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with chromium(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def page(browser: Chrome, report: Path) -> Iterator[Chrome]:
    """The page just opened; afterwards it must have complained of nothing and asked for nothing but itself."""
    browser.get("about:blank")
    complaints(browser), requests(browser)
    browser.get(report.as_uri())
    yield browser
    assert complaints(browser) == []
    asked = {url.partition("#")[0] for url in requests(browser)}
    assert asked == {report.as_uri(), "data:,"} or asked == {report.as_uri()}


def one(page: Chrome, selector: str) -> WebElement:
    return page.find_element(By.CSS_SELECTOR, selector)


def shown(page: Chrome, selector: str) -> list[WebElement]:
    """What matches and is not hidden, also where it is below the window and so not laid out yet."""
    found = page.find_elements(By.CSS_SELECTOR, selector)
    return [each for each in found if page.execute_script("return arguments[0].checkVisibility()", each)]


def labels(page: Chrome, scenario: str = SCENARIO) -> list[str]:
    """The names in a scenario's table, as they stand from top to bottom."""
    return [str(row.get_attribute("data-label")) for row in shown(page, f"[id='{scenario}'] .board tbody tr")]


def row(page: Chrome, label: str) -> WebElement:
    """A row of the first scenario's table, brought into the window."""
    found = next(r for r in shown(page, f"[id='{SCENARIO}'] .board tbody tr") if r.get_attribute("data-label") == label)
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", found)
    return found


def opened(page: Chrome, title: str) -> WebElement:
    """The dialog, as soon as it shows the run of this title."""
    wait = WebDriverWait(page, 10, poll_frequency=0.02)
    wait.until(lambda _: one(page, "dialog h2").text == title, f"the run '{title}' is not opened")
    return one(page, "dialog")


def until(page: Chrome, found: Callable[[], bool]) -> None:
    WebDriverWait(page, 10, poll_frequency=0.02).until(lambda _: found())


def heading(page: Chrome, text: str) -> WebElement:
    page.execute_script("document.querySelector('.board').scrollIntoView()")
    return next(b for b in shown(page, f"[id='{SCENARIO}'] .board thead button") if b.text.startswith(text))


def ask(page: Chrome, script: str) -> Any:
    return page.execute_script(f"return {script}")


def test_a_click_on_a_heading_sorts_and_another_turns_the_order_round(page: Chrome) -> None:
    assert labels(page) == ["er_ace", "replay[memory=50]", "agem", "naive", "joint"]
    button = heading(page, "forgetting")
    button.click()
    assert labels(page)[0] == "joint" or labels(page)[-1] == "joint"
    least_first = labels(page)
    assert least_first.index("er_ace") < least_first.index("naive")
    assert button.find_element(By.XPATH, "..").get_attribute("aria-sort") == "ascending"
    button.click()
    assert labels(page) == least_first[::-1]


def test_headings_are_reached_and_used_with_the_keyboard(page: Chrome) -> None:
    heading(page, "strategy").send_keys(Keys.ENTER)
    assert labels(page) == ["agem", "er_ace", "joint", "naive", "replay[memory=50]"]


def test_entries_without_a_rank_are_sorted_last(page: Chrome) -> None:
    heading(page, "rank").click()
    assert labels(page)[:3] == ["er_ace", "replay[memory=50]", "naive"]
    heading(page, "rank").click()
    assert labels(page)[:3] == ["naive", "replay[memory=50]", "er_ace"]


def test_typing_filters_every_table_by_strategy(page: Chrome) -> None:
    one(page, "input[name=text]").send_keys("NAI")
    assert (labels(page), labels(page, OTHER)) == (["naive"], ["naive"])
    assert one(page, ".count").text == "3 of 7 entries"
    one(page, "input[name=text]").send_keys("x")
    assert not shown(page, ".board")
    one(page, "input[name=text]").send_keys(Keys.BACKSPACE * 4)
    assert len(labels(page)) == 5


def test_protocol_variants_and_unranked_entries_can_be_left_out(page: Chrome) -> None:
    one(page, "input[name=unranked]").click()
    assert labels(page) == ["er_ace", "replay[memory=50]", "naive"]
    one(page, "input[name=variants]").click()
    assert not shown(page, "#variants")
    assert len(shown(page, ".board")) == 2
    one(page, "select[name=protocol]").send_keys("domain-incremental")
    assert len(shown(page, ".board")) == 1
    assert labels(page, OTHER) == ["naive"]


def test_columns_are_chosen(page: Chrome) -> None:
    before = len(shown(page, f"[id='{SCENARIO}'] .board thead th"))
    one(page, ".tools summary").click()
    one(page, "[data-choose=all]").click()
    everything = len(shown(page, f"[id='{SCENARIO}'] .board thead th"))
    assert everything > before
    one(page, ".choices input[data-column]").click()
    assert len(shown(page, f"[id='{SCENARIO}'] .board thead th")) == everything - 1
    one(page, "[data-choose=main]").click()
    assert len(shown(page, f"[id='{SCENARIO}'] .board thead th")) == before


def test_a_click_on_a_row_opens_its_run_and_escape_closes_it(page: Chrome) -> None:
    best = row(page, "er_ace")
    best.find_elements(By.TAG_NAME, "td")[1].click()
    dialog = opened(page, "er_ace, seed 0")
    assert ask(page, "location.hash") == f"#run-{best.get_attribute('data-run')}"
    for part in (SCENARIO, "clbench run strategy=er_ace seed=0", "clbench verify records/"):
        assert part in dialog.text
    for part in ("names.strategy", "3.11", "SHA-256", "90.0"):  # configuration, environment, identity, matrix
        assert part in dialog.text
    dialog.send_keys(Keys.ESCAPE)
    until(page, lambda: not dialog.is_displayed() and ask(page, "location.hash") == "")


def test_a_run_is_opened_with_the_keyboard_and_the_next_seed_from_there(page: Chrome) -> None:
    row(page, "naive").find_element(By.TAG_NAME, "a").send_keys(Keys.ENTER)
    opened(page, "naive, seed 0").find_element(By.LINK_TEXT, "2").send_keys(Keys.ENTER)
    opened(page, "naive, seed 2")
    page.back()
    opened(page, "naive, seed 0")


def test_a_link_to_a_run_opens_it_with_the_page_and_a_failed_one_says_why(page: Chrome, report: Path) -> None:
    failed = toy_record("agem", 2, status="failed", reason="NonFiniteLoss: the loss is nan")
    page.get("about:blank")
    page.get(f"{report.as_uri()}#run-{failed.id}")
    assert "failed: NonFiniteLoss: the loss is nan" in opened(page, "agem, seed 2").text


@pytest.mark.parametrize("clipboard", ["allowed", "refused"])
def test_the_command_that_repeats_a_run_is_copied(clipboard: str, page: Chrome) -> None:
    if clipboard == "refused":  # as some browsers do for a page opened as a file
        page.execute_script("navigator.clipboard.writeText = () => Promise.reject(new Error('no'))")
    row(page, "er_ace").find_element(By.TAG_NAME, "a").click()
    button = opened(page, "er_ace, seed 0").find_element(By.CSS_SELECTOR, "button.copy")
    button.click()
    until(page, lambda: button.text == "Copied")
    one(page, "dialog header button").click()
    text = one(page, "input[name=text]")
    text.send_keys(Keys.CONTROL, "v")
    assert text.get_attribute("value") == "clbench run strategy=er_ace seed=0"


def test_accuracy_matrices_are_drawn_when_asked_for_with_means_over_seeds(page: Chrome) -> None:
    details = one(page, f"[id='{SCENARIO}'] details.matrices")
    assert not details.find_elements(By.CSS_SELECTOR, "table")
    details.find_element(By.TAG_NAME, "summary").click()
    until(page, lambda: ask(page, f"!!document.querySelector(\"[id='{SCENARIO}'] .maps table\")"))
    figures = details.find_elements(By.TAG_NAME, "figure")
    assert [f.find_element(By.TAG_NAME, "figcaption").text for f in figures] == labels(page)
    cells = [cell.text for cell in figures[1].find_elements(By.TAG_NAME, "td")]
    assert cells[:4] == ["11.0", "11.0", "11.0", "91.0"]  # row 0, then what was learned first: mean of seeds 0, 1, 2


def test_a_stream_of_many_tasks_is_drawn_as_a_picture_that_shows_what_was_not_measured(
    tmp_path: Path, browser: Chrome
) -> None:
    values = np.full((101, 100), 0.1)
    values[1:][np.tri(100, dtype=bool)] = 0.9
    values[50:60, 50:60] = np.nan
    browser.get(written(tmp_path, several("naive", 0.2, matrix=ScoreMatrix(values))).as_uri())
    one(browser, ".board tbody a").click()
    canvas = opened(browser, "naive, seed 0").find_element(By.TAG_NAME, "canvas")
    assert [canvas.get_attribute(name) for name in ("width", "height")] == ["100", "101"]
    pixels = "[...document.querySelector('dialog canvas').getContext('2d').getImageData(0, 0, 100, 101).data]"
    image = np.array(ask(browser, pixels)).reshape(101, 100, 4)[..., :3]
    untrained, learned, missing = image[0, 0], image[100, 0], image[55, 55]
    assert learned.sum() < missing.sum() < untrained.sum()
    assert np.ptp(missing) == 0 < np.ptp(learned)  # grey, which no accuracy is
    assert (image[50:60, 50:60] == missing).all()
    assert (image[100] == learned).all() and (image[0] == untrained).all()


def test_a_phone_of_375_pixels_scrolls_tables_and_never_the_page_sideways(page: Chrome, report: Path) -> None:
    emulate(page, "setDeviceMetricsOverride", width=375, height=800, deviceScaleFactor=2, mobile=True)
    try:
        page.get("about:blank")
        page.get(report.as_uri())
        page.execute_script("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
        assert ask(page, "document.scrollingElement.scrollWidth") <= 375
        low = ask(
            page,
            "all('nav a, .tools label, input[type=search], select, summary, thead button, tbody th a').filter((e) => {"
            "const box = e.getBoundingClientRect(); return box.width && box.height < 24; }).map((e) => e.outerHTML)",
        )
        assert low == [], "targets that a finger misses"
        row(page, "er_ace").find_element(By.TAG_NAME, "a").click()
        opened(page, "er_ace, seed 0")
        assert ask(page, "document.querySelector('dialog').getBoundingClientRect().right") <= 375
        assert ask(page, "document.querySelector('dialog').scrollWidth") <= 375
    finally:
        emulate(page, "clearDeviceMetricsOverride")


def test_dark_and_print_change_the_colours_of_page_and_figures(page: Chrome) -> None:
    colour = f"getComputedStyle(document.querySelector(\"[id='{SCENARIO}'] svg text\")).fill"
    light = ask(page, colour)
    try:
        emulate(page, "setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
        assert ask(page, colour) != light
        emulate(page, "setEmulatedMedia", media="print", features=[{"name": "prefers-color-scheme", "value": "dark"}])
        assert ask(page, colour) == light
        assert not shown(page, "nav, .tools")
    finally:
        emulate(page, "setEmulatedMedia", media="", features=[])


def test_a_page_stays_light_however_many_runs_it_holds(tmp_path: Path, browser: Chrome) -> None:
    """Two thousand runs fit: a run costs the page data that is parsed when it is opened, and no element of its own."""

    def weigh(seeds: int) -> tuple[int, int]:
        page = written(tmp_path, [r for k in "ab" for r in several(k, 0.5, seeds=seeds)])
        browser.get(page.as_uri())
        return page.stat().st_size, int(ask(browser, "document.querySelectorAll('*').length"))

    (small, few), (large, many) = weigh(4), weigh(10)
    assert (large - small) / 12 < 3_000
    assert many == pytest.approx(few, abs=30)  # ticks of figures
