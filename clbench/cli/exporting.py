"""``clbench export``: records in, logs of another tool out."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from clbench.errors import RecordError

SHOWN = 3  # folders whose commands are printed, and lifetimes that are named


def export_l2m(records: Path, out: Path) -> int:
    """Write the lifetimes of a folder of records as l2metrics reads them; names what was left out."""
    from clbench.l2m_log import NO_CURVES, export
    from clbench.store import Store

    reading = Store(records).read()
    done = export(reading.records, out)
    left_out = [*reading.left_out, *done.left_out]
    if not (done.lifetimes or done.experts):
        shown = left_out or [f"'{records}' holds no records"]
        raise RecordError("nothing to export\n  " + "\n  ".join([*shown[:5], *(["..."] if len(shown) > 5 else [])]))
    for line in left_out:
        sys.stderr.write(f"left out: {line}\n")
    if bare := done.without_curves:
        named = "; ".join([*bare[:SHOWN], *(["..."] if len(bare) > SHOWN else [])])
        sys.stdout.write(f"{len(bare)} of {len(done.lifetimes)} lifetimes have {NO_CURVES}\n  {named}\n")
    places = sorted({folder.parent.parent for folder in done.lifetimes})
    experts = {folder.parent.parent for folder in done.experts}
    if places:
        sys.stdout.write("l2metrics 3.1.0 (it wants numpy < 2) reads them with, for example:\n")
    for place in places[:SHOWN]:
        sys.stdout.write("".join(f"  {line}\n" for line in _commands(place, place in experts)))
    sys.stdout.write(f"{len(done.lifetimes)} lifetimes and {len(done.experts)} single-task experts -> {out}\n")
    return 0


def _commands(place: Path, has_experts: bool) -> list[str]:
    """How l2metrics reads one ``L2DATA`` folder: experts first."""
    from clbench.l2m_log import COLUMN

    start = f"L2DATA={shlex.quote(str(place))} python -m l2metrics -R -p {COLUMN} -n none -g none"
    store = [f"{start} -s a -l {shlex.quote(str(place / 'experts'))}"] if has_experts else []
    return [*store, f"{start} -m both -t both -l {shlex.quote(str(place / 'logs'))}"]
