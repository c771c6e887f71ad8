"""Features that are quick to compute, a count of the chunks that were, and damage to their files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clbench.data.features import CHUNK, stored_features

N = 20 * CHUNK - 50  # 20 chunks, the last one not full
ROWS = np.arange(N)
WHOLE = {"backbone": {"_target_": "tests.Rows"}, "content": "all rows"}


class Counted:
    """Computes (n, 2) features and keeps which chunks it was asked for."""

    def __init__(self) -> None:
        self.chunks: list[int] = []

    def __call__(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        self.chunks.append(int(rows[0]) // CHUNK)
        return np.stack([rows, rows + 0.5], 1).astype(np.float32)

    def stored(self, rows: NDArray[np.int64] = ROWS, n: int = N) -> NDArray[np.float32]:
        self.chunks.clear()
        return stored_features(WHOLE, n, [rows], self)


def flip(file: Path, place: int) -> None:
    data = bytearray(file.read_bytes())
    data[place] ^= 4
    with file.open("r+b") as opened:  # in place, as a disk does it
        opened.write(data)


def _shorten(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 20)
