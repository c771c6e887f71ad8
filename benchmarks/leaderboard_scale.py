"""How long the leaderboard takes from a folder of 20,000 records, and how much memory. Run it with ``make benchmark``.

40 strategies on 20 scenarios with 25 seeds, five tasks each: 20,000 files of the size that a run leaves. Timed in a
process of its own: reading and checking all files, then making the tables, ranks and aggregates; then the whole of
``clbench report``, pages and figures included. Seconds are those of the processor, of which it uses one, so that other
work on the machine does not count; the clock's are printed too.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the toy records of the tests
from clbench.matrix import ScoreMatrix
from clbench.record import Record, compact_rows
from clbench.store import Store
from tests.toy_records import toy_record

N_SCENARIOS, N_STRATEGIES, N_TASKS = 20, 40, 5
GOAL_SECONDS, GOAL_BYTES = 30.0, 2e9
TIMED = """
import json, resource, sys, time
from pathlib import Path
begin, clock = time.process_time(), time.perf_counter()
if sys.argv[2] == "board":
    from clbench.leaderboard import make_leaderboard
    from clbench.store import Store
    reading = Store(Path(sys.argv[1])).read()
    read = time.process_time()
    board = make_leaderboard(reading.records, reading.left_out)
    parts = {"reading": read - begin, "tables": time.process_time() - read}
    assert len(reading.records) == int(sys.argv[3]), reading.left_out[:3]
else:
    from clbench.report import write_report
    write_report(Path(sys.argv[1]), Path(sys.argv[1]).parent / "out")
    parts = {"report": time.process_time() - begin}
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
total = {"total": time.process_time() - begin, "clock": time.perf_counter() - clock}
print(json.dumps(parts | total | {"peak": peak}))
"""


def records(n_seeds: int) -> Iterator[Record]:
    """No two runs alike."""
    rng = np.random.default_rng(0)
    for scenario in range(N_SCENARIOS):
        for strategy in range(N_STRATEGIES):
            for seed in range(n_seeds):
                values = rng.integers(0, 1000, size=(N_TASKS + 1, N_TASKS)) / 1000
                matrix = ScoreMatrix(values)
                yield toy_record(f"strategy_{strategy}", seed, matrix=matrix, scenario=f"stream_{scenario}-v1")


def write(root: Path, n_seeds: int) -> int:
    """Write the records as the files that runs leave; how many."""
    made = list(records(n_seeds))
    for record in made:
        folder = Store(root).folder(record)
        folder.mkdir(parents=True)
        (folder / "record.json").write_text(compact_rows(json.dumps(record.to_json(), indent=1)))
    return len(made)


def main() -> int:
    """Print what was measured; 1 where the leaderboard takes more than 30 s or 2 GB."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=25, help="25 make 20,000 records")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "records"
        n = write(root, wanted.seeds)
        found = {}
        for what in ("board", "report"):
            command = [sys.executable, "-c", TIMED, str(root), what, str(n)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            found[what] = json.loads(done.stdout)
    board, report = found["board"], found["report"]
    print(f"{n:,} records")
    print(
        f"leaderboard: reading {board['reading']:.1f} s + tables {board['tables']:.1f} s = {board['total']:.1f} s "
        f"({board['clock']:.1f} s by the clock)",
        end="",
    )
    print(f", {board['peak'] / 1e9:.2f} GB (goal: under {GOAL_SECONDS:.0f} s and {GOAL_BYTES / 1e9:.0f} GB)")
    took = f"{report['total']:.1f} s ({report['clock']:.1f} s by the clock)"
    print(f"all of clbench report: {took}, {report['peak'] / 1e9:.2f} GB")
    return int(board["total"] > GOAL_SECONDS or board["peak"] > GOAL_BYTES)


if __name__ == "__main__":
    sys.exit(main())
