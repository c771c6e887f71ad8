"""Emoji in two drawing styles, with the names of what they show."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from clbench.data.images import decoded, list_files, locate
from clbench.data.sources import Source
from clbench.errors import BadInput, DataMissing

ARCHIVE = "emoji48.zip"
STYLES = ("google", "twitter")


def emoji(
    data_dir: Path, label: Literal["category", "subcategory"] = "category", min_size: int = 1, size: int | None = None
) -> Source:
    """Every emoji drawn by Google and by Twitter, 48 x 48 pixels: domains are styles, units are emoji.

    ``label``: its category (9) or subcategory (98). ``min_size``: classes of fewer emoji are left out. ``size``: pixels
    to resize to. Subcategories come in groups, their categories.

    Source: emoji-datasource-google and emoji-datasource-twitter 16.0.0 (names: Unicode CLDR).
    """
    if label not in ("category", "subcategory"):
        raise BadInput(f"label of the emoji must be category or subcategory; got '{label}'")
    root = locate(data_dir, ARCHIVE, "a zip with google/FILE.png, twitter/FILE.png and classes.json")
    names, read, stamp = list_files(root)
    try:
        listed = json.loads(read("classes.json"))
        labels = {e["image"]: str(e[label]) for e in listed}
        above = {str(e[label]): str(e["category"]) for e in listed}
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise DataMissing(
            f"{root}: no readable classes.json with 'image', 'category', '{label}' of every emoji"
        ) from error
    counts = Counter(labels.values())
    files = sorted(file for file, name in labels.items() if counts[name] >= min_size)
    classes = sorted({labels[file] for file in files})
    pictures = [f"{style}/{file}" for style in STYLES for file in files]
    if absent := sorted(set(pictures) - set(names)):
        raise DataMissing(f"{root} lacks {len(absent)} of its pictures, the first '{absent[0]}'")
    key = hashlib.sha256(json.dumps([str(root), stamp, pictures, size]).encode()).hexdigest()[:32]
    images, content = decoded(key, pictures, read, size)
    unit = np.tile(np.arange(len(files)), len(STYLES))
    y = np.array([classes.index(labels[file]) for file in files], dtype=np.int64)[unit]
    domain = np.repeat(np.arange(len(STYLES)), len(files))
    found = Source("emoji", images, y, tuple(classes), content, domain=domain, domain_names=STYLES, unit=unit)
    if label == "category":
        return found
    names_above, group = np.unique([above[name] for name in classes], return_inverse=True)
    return replace(found, group=group.astype(np.int64), group_names=tuple(map(str, names_above)))
