"""``clbench track``: records in, runs of a tracker out."""

from __future__ import annotations

import sys
from pathlib import Path


def track_records(records: Path, tracker: str, out: Path) -> int:
    """Hand all readable records of a folder to a tracker; names what was left out."""
    from clbench.store import Store
    from clbench.trackers import check_tracker, track

    check_tracker(tracker)
    reading = Store(records).read()
    for line in reading.left_out:
        sys.stderr.write(f"left out: {line}\n")
    shown = track(tracker, reading.records, out)
    n = len(reading.records)
    sys.stdout.write(f"{n} record{'s' if n != 1 else ''} -> {out}; look with: {shown}\n")
    return 0
