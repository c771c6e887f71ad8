"""Photographs of solar cells, out of a package."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from pathlib import Path

import numpy as np

from clbench.data.images import decoded, list_files
from clbench.data.sources import Source
from clbench.errors import DataMissing

PACKAGE = "elpv_dataset"
LEVELS = (0, 33, 67, 100)  # per cent


def elpv(data_dir: Path, size: int | None = None) -> Source:
    """2,624 photographs of solar cells that glow under current, 300 x 300 grey, by their four levels of defect.

    The level is how likely an expert took the cell to be defective. ``size``: pixels to resize to. There is no official
    split. Raises ``DataMissing`` where the package elpv-dataset is not installed.

    Source: Buerhop-Lutz et al., A benchmark for visual identification of defective solar cells in electroluminescence
    imagery, EU PVSEC 2018.
    """
    found = importlib.util.find_spec(PACKAGE)  # its pictures are read, its code is not run
    if found is None or not found.submodule_search_locations:
        raise DataMissing(
            "the photographs of solar cells come with the package elpv-dataset, which is not installed\n"
            "  type: pip install -c requirements.lock 'clbench[data]'   (in a checkout: '.[data]')"
        )
    root = Path(found.submodule_search_locations[0]) / "data"
    names, read, stamp = list_files(root)
    try:
        pictures, probability, _ = zip(*(row.split() for row in read("labels.csv").decode().splitlines()), strict=True)
        y = np.rint(np.array(probability, dtype=np.float64) * (len(LEVELS) - 1)).astype(np.int64)
    except (OSError, ValueError) as error:
        raise DataMissing(f"{root / 'labels.csv'}: expected picture, probability and type in every line") from error
    if absent := sorted(set(pictures) - set(names)):
        raise DataMissing(f"{root} lacks {len(absent)} of its pictures, the first '{absent[0]}'")
    key = hashlib.sha256(json.dumps([str(root), stamp, pictures, size]).encode()).hexdigest()[:32]
    images, content = decoded(key, pictures, read, size, grey=True)
    return Source("elpv", images, y, tuple(f"defect probability {level} %" for level in LEVELS), content)
