"""Texts as rows of bytes: UTF-8, padded with zeros to the longest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def encode_texts(texts: Sequence[str]) -> NDArray[np.uint8]:
    """Texts as (N, L) bytes.

    >>> encode_texts(["ab", "c"]).tolist()
    [[97, 98], [99, 0]]
    """
    raw = [text.encode() for text in texts]
    rows = np.zeros((len(raw), max(map(len, raw), default=0)), dtype=np.uint8)
    for row, data in zip(rows, raw, strict=True):
        row[: len(data)] = np.frombuffer(data, np.uint8)
    return rows


def decode_texts(rows: NDArray[np.uint8]) -> list[str]:
    """The texts of (N, L) bytes."""
    return [row.tobytes().rstrip(b"\0").decode() for row in rows]
