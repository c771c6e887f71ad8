"""``clbench targets``: the stored semantic targets of a card's classes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from clbench.data import load_source
from clbench.data.cache import cache_folder
from clbench.errors import BadInput, unknown
from clbench.places import cards
from clbench.targets import check_names, extend, make_table, read_table, table_name


def run_targets(card: str, encoder: str, template: str, out: Path | None) -> int:
    """Encode the names of a card's classes and put the rows into the table ``out`` (default: the cache folder's)."""
    if card not in cards():
        raise unknown("scenario", card, cards())
    names = load_source(dict(cards()[card]["data"]), Path(os.environ.get("CLBENCH_DATA", "data"))).class_names
    check_names(names)
    made = make_table(names, encoder, template)
    if out is not None and out.exists() and not read_table(out).like(made):
        raise BadInput(
            f"'{out}' holds targets of another encoder, template or weights than those asked for "
            f"({encoder}, '{template}'); give another --out, or delete it to make it anew"
        )
    path = out or cache_folder() / "targets" / f"{table_name(encoder, template)}.safetensors"
    extend(made, path)
    n_rows, size = made.rows.shape
    sys.stdout.write(f"{n_rows} targets of {size} numbers ({encoder}, template '{template}') are in {path}\n")
    return 0
