"""How long the report's page takes to open with 2,000 records, in headless Chromium. Run it with ``make benchmark``.

40 strategies on 10 scenarios with 5 seeds. Times are those that the browser itself notes: until the page can be used
(load event), from a click on a row to the run's part on the screen, and from a letter typed to the filtered tables.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the browser and the toy records of the tests
from clbench.leaderboard import make_leaderboard
from clbench.matrix import ScoreMatrix
from clbench.record import Record
from clbench.report.html import to_html
from tests.browser import chromium
from tests.toy_records import toy_record

N_SCENARIOS, N_STRATEGIES, N_SEEDS, N_TASKS = 10, 40, 5, 10
GOAL = 2000.0  # milliseconds
TIMED = """
const done = arguments[arguments.length - 1], begin = performance.now();
%s;
requestAnimationFrame(() => setTimeout(() => done(performance.now() - begin)));
"""
OPEN = "location.hash = document.querySelector('tr[data-run]').dataset.run.replace(/^/, 'run-'); follow()"
FILTER = (
    "const text = document.querySelector('input[name=text]'); text.value = 'strategy_1'; "
    "text.dispatchEvent(new Event('input', {bubbles: true}))"
)
SORT = "document.querySelectorAll('.board thead button')[2].click()"


def records(n_strategies: int) -> Iterator[Record]:
    """Forgetting of every degree, no two runs alike."""
    rng = np.random.default_rng(0)
    for scenario in range(N_SCENARIOS):
        for strategy in range(n_strategies):
            for seed in range(N_SEEDS):
                values = rng.integers(0, 1000, size=(N_TASKS + 1, N_TASKS)) / 1000
                values[1:] = np.where(np.tri(N_TASKS, dtype=bool), 0.5 + values[1:] * strategy / 80, values[1:])
                name = f"strategy_{strategy}[memory={50 * strategy},lr=0.01]"
                yield toy_record(name, seed, matrix=ScoreMatrix(values), scenario=f"stream_{scenario}-v1")


def main() -> int:
    """Make the page, open it a few times, print what the browser noted; 1 where it takes longer than the goal."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--strategies", type=int, default=N_STRATEGIES)
    parser.add_argument("--repeats", type=int, default=5)
    wanted = parser.parse_args()
    made = list(records(wanted.strategies))
    begin = time.perf_counter()
    text = to_html(make_leaderboard(made))
    print(f"{len(made)} records; the page is made in {time.perf_counter() - begin:.1f} s, {len(text) / 1e6:.1f} MB")
    with tempfile.TemporaryDirectory() as folder, chromium(Path(folder) / "profile") as browser:
        page = Path(folder) / "leaderboard.html"
        page.write_text(text, encoding="utf-8")
        loads = []
        for _ in range(wanted.repeats):
            browser.get("about:blank")
            browser.get(page.as_uri())
            loads.append(browser.execute_script("return performance.getEntriesByType('navigation')[0].loadEventEnd"))
        print(f"elements: {browser.execute_script('return document.querySelectorAll(`*`).length'):,}")
        shown = f"load event (median of {wanted.repeats}): {np.median(loads):.0f} ms"
        print(f"{shown}; worst {max(loads):.0f} ms; goal {GOAL:.0f} ms")
        for what, script in (("a run opens", OPEN), ("a table is sorted", SORT), ("all tables are filtered", FILTER)):
            print(f"{what}: {browser.execute_async_script(TIMED % script):.0f} ms")
            browser.execute_script("document.getElementById('run').close()")
    return 0 if np.median(loads) < GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
