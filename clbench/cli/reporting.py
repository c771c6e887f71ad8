"""``clbench report``: records in, leaderboard out."""

from __future__ import annotations

import sys
from pathlib import Path


def make_report(records: Path, out: Path, costs: bool = True) -> int:
    """Write the leaderboard as a page, Markdown, CSV, JSON and LaTeX; names what was left out."""
    from clbench.report import repeated, write_report

    reading = write_report(records, out, costs=costs)
    for line in reading.left_out:
        sys.stderr.write(f"left out: {line}\n")
    if text := repeated(reading):
        sys.stdout.write(f"{text}\n")
    n = len(reading.records)
    sys.stdout.write(f"{n} record{'s' if n != 1 else ''} -> {out / 'leaderboard.html'} (and .md, .csv, .json, .tex)\n")
    return 0
