"""The feature cache: what a frozen network makes of a source, computed once and memory-mapped ever after.

An entry is a folder named by the hash of its key: ``features.npy`` (N, D) float32, and ``entry.json`` with the key
and the checksum of every finished chunk. Chunks are computed whole, so a sample's features do not depend on who asks.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clbench.data.cache import cache_folder
from clbench.errors import BadInput

CHUNK = 128  # rows computed, checked and repaired together
ARRAY, ENTRY = "features.npy", "entry.json"


@dataclass
class Entry:
    """One entry of the cache; ``chunks`` maps each finished chunk to the checksum of its bytes."""

    folder: Path
    key: dict[str, Any]
    n_rows: int
    chunks: dict[int, int] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Entry | None:
        """The entry in a folder; None where there is none that can be read."""
        try:
            saved = json.loads((folder / ENTRY).read_text(encoding="utf-8"))
            chunks = {int(k): int(v) for k, v in saved["chunks"].items()}
            return cls(folder, dict(saved["key"]), int(saved["n_rows"]), chunks)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def write(self) -> None:
        """Replace ``entry.json`` in one step."""
        draft = self.folder / f".{ENTRY}.{os.getpid()}"
        draft.write_text(json.dumps({"key": self.key, "n_rows": self.n_rows, "chunks": self.chunks}), encoding="utf-8")
        draft.replace(self.folder / ENTRY)

    def array(self, mode: str = "r") -> NDArray[np.float32]:
        """The features (N, D), memory-mapped; rows of chunks that are not finished hold nothing."""
        return np.load(self.folder / ARRAY, mmap_mode=mode)  # type: ignore[arg-type,no-any-return]

    def rows(self, chunk: int) -> slice:
        """The rows of a chunk."""
        return slice(chunk * CHUNK, min((chunk + 1) * CHUNK, self.n_rows))

    def damaged(self, chunks: Iterable[int] | None = None) -> list[int]:
        """Those of the finished chunks (or of these) whose bytes are not what was written."""
        asked = sorted(self.chunks if chunks is None else self.chunks.keys() & set(chunks))
        if not asked:
            return []
        try:
            array = self.array()
        except (OSError, ValueError):
            return asked
        if array.ndim != 2 or len(array) != self.n_rows or array.dtype != np.float32:
            return asked
        return [c for c in asked if zlib.crc32(np.ascontiguousarray(array[self.rows(c)])) != self.chunks[c]]

    @property
    def n_bytes(self) -> int:
        """Bytes on disk."""
        return sum(p.stat().st_blocks * 512 for p in self.folder.glob("*") if p.is_file())


def stored_features(
    key: Mapping[str, Any],
    n_rows: int,
    needed: Iterable[NDArray[np.int64]],
    compute: Callable[[Tensor], Tensor],
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.float32]:
    """The features (n_rows, D) under ``key``, with at least the ``needed`` rows worked out; a read-only memory map.

    ``compute`` takes rows and returns their features (n, D). A process that is killed loses the chunk at hand; of two
    that need the same rows one computes them while the other waits; a damaged chunk is computed again.
    Raises ``BadInput`` when the cache folder cannot be written.
    """
    from filelock import FileLock

    folder = _folder() / hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
    wanted = sorted({int(c) for rows in needed for c in np.unique(rows // CHUNK)})
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            entry = Entry.read(folder) or Entry(folder, dict(key), n_rows)
            for chunk in entry.damaged(wanted):
                del entry.chunks[chunk]
            missing = [c for c in wanted if c not in entry.chunks]
            if missing:
                _fill(entry, missing, compute, progress)
            return entry.array()
    except OSError as error:
        raise BadInput(
            f"the cache folder '{cache_folder()}' cannot be written: {error.strerror or error}\n"
            "  choose another with CLBENCH_CACHE=FOLDER"
        ) from error


def _fill(
    entry: Entry,
    missing: list[int],
    compute: Callable[[Tensor], Tensor],
    progress: Callable[[int, int], None] | None,
) -> None:
    entry.folder.mkdir(exist_ok=True)
    array: NDArray[np.float32] | None = None
    total = sum(entry.rows(c).stop - entry.rows(c).start for c in missing)
    done = 0
    for chunk in missing:
        rows = entry.rows(chunk)
        fresh = compute(torch.arange(rows.start, rows.stop)).numpy().astype(np.float32)
        if array is None:
            array = _open(entry, fresh.shape[1])
        array[rows] = fresh
        array.flush()  # type: ignore[attr-defined]
        entry.chunks[chunk] = zlib.crc32(np.ascontiguousarray(fresh))
        entry.write()
        done += len(fresh)
        if progress:
            progress(done, total)


def _open(entry: Entry, n_features: int) -> NDArray[np.float32]:
    """The array for writing; a new one where there is none of this shape."""
    shape = (entry.n_rows, n_features)
    try:
        array = entry.array("r+")
        if array.shape == shape and array.dtype == np.float32:
            return array
    except (OSError, ValueError):
        pass
    entry.chunks.clear()
    (entry.folder / ARRAY).unlink(missing_ok=True)  # a process that has the old one mapped keeps it
    return np.lib.format.open_memmap(entry.folder / ARRAY, mode="w+", dtype=np.float32, shape=shape)


def entries() -> Iterator[Entry]:
    """All entries of the cache that can be read, by name."""
    for folder in sorted(_folder().glob("*")):
        if folder.is_dir() and (entry := Entry.read(folder)) is not None:
            yield entry


def remove(folder: Path) -> None:
    """Delete an entry."""
    shutil.rmtree(folder, ignore_errors=True)
    Path(f"{folder}.lock").unlink(missing_ok=True)


def _folder() -> Path:
    return cache_folder() / "features"
