"""``clbench report``: records in, leaderboard out."""

from __future__ import annotations

import sys
from pathlib import Path


def make_report(records: Path, out: Path) -> int:
    """Write ``leaderboard.md``, ``.json`` and ``.html``; names what was left out."""
    from clbench.report import write_report

    reading = write_report(records, out)
    for line in reading.left_out:
        sys.stderr.write(f"left out: {line}\n")
    n = len(reading.records)
    sys.stdout.write(f"{n} record{'s' if n != 1 else ''} -> {out / 'leaderboard.html'} (and .md, .json)\n")
    return 0
