"""From a folder of records to the pages of a leaderboard: Markdown, JSON and one self-contained HTML file."""

from __future__ import annotations

import json
import os
from pathlib import Path

from clbench.errors import BadInput, RecordError
from clbench.leaderboard import make_leaderboard
from clbench.report.export import to_json
from clbench.report.html import to_html
from clbench.report.markdown import to_markdown
from clbench.store import Reading, Store

__all__ = ["write_report"]


def write_report(records_root: Path, out: Path) -> Reading:
    """Write ``leaderboard.md``, ``.json`` and ``.html`` from a folder of records; the same records, the same bytes.

    Returns what was read, with the records left out and why. Raises ``RecordError`` when there is no record at
    all, ``BadInput`` when ``out`` cannot be written.
    """
    reading = Store(records_root).read()
    if not reading.records and not reading.left_out:
        raise RecordError(f"no record under '{records_root}'; make some with: clbench run scenario=...")
    prefix = "" if records_root == Path() else f"{records_root}{os.sep}"
    board = make_leaderboard(reading.records, [text.replace(prefix, "") for text in reading.left_out])
    pages = {
        "leaderboard.md": to_markdown(board),
        "leaderboard.json": json.dumps(to_json(board), indent=1, ensure_ascii=False, allow_nan=False) + "\n",
        "leaderboard.html": to_html(board),
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, text in pages.items():
            (out / name).write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise BadInput(f"cannot write the report to '{out}': {error.strerror or error}") from error
    return reading
