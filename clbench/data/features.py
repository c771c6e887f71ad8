"""The feature cache: what a frozen network makes of a source, computed once and memory-mapped ever after.

An entry is a folder named by the hash of its key. It appears in one step with its three files: ``key.json``,
``features.npy`` (N, D) and ``checksums.npy``, a number for every chunk of rows, 0 until the chunk is finished.
Chunks are computed whole, so a sample's features do not depend on who asks.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clbench.data.cache import cache_folder, locked, writing

CHUNK = 128  # rows computed, checked and repaired together
KEY, FEATURES, CHECKSUMS = "key.json", "features.npy", "checksums.npy"
Compute = Callable[[NDArray[np.int64]], NDArray[np.float32]]
Report = Callable[[int, int], None]


@dataclass(frozen=True)
class Entry:
    """One entry of the cache: its key, ``features`` (N, D) and ``checksums`` (chunks,), both mapped for reading."""

    folder: Path
    key: dict[str, Any]
    features: np.memmap[Any, np.dtype[np.float32]]
    checksums: np.memmap[Any, np.dtype[np.uint64]]

    @classmethod
    def read(cls, folder: Path) -> Entry | None:
        """The entry in a folder; None where there is none that can be read."""
        try:
            key = json.loads((folder / KEY).read_text(encoding="utf-8"))
            features, checksums = (np.load(folder / name, mmap_mode="r") for name in (FEATURES, CHECKSUMS))
        except Exception:  # whatever numpy makes of damaged bytes
            return None
        sound = (
            isinstance(key, dict)
            and folder.name == name_of(key)
            and (features.ndim, features.dtype, features.flags.c_contiguous) == (2, np.float32, True)
            and (checksums.shape, checksums.dtype) == ((-(-len(features) // CHUNK),), np.uint64)
        )
        return cls(folder, key, features, checksums) if sound else None

    def rows(self, chunk: int) -> slice:
        """The rows of a chunk."""
        return slice(chunk * CHUNK, min((chunk + 1) * CHUNK, len(self.features)))

    @property
    def finished(self) -> NDArray[np.int64]:
        """The chunks that have been computed."""
        return np.flatnonzero(self.checksums)

    @property
    def n_finished(self) -> int:
        """How many rows have been computed."""
        return _n_rows(self.finished.tolist(), len(self.features))

    def damaged(self, chunks: Iterable[int]) -> list[int]:
        """Those of these chunks whose bytes are not what was computed; an unfinished one is not damaged."""
        sums = {c: int(self.checksums[c]) for c in chunks}
        return [c for c, expected in sums.items() if expected and expected != _checksum(self.features[self.rows(c)])]

    def store(self, chunk: int, features: NDArray[np.float32]) -> None:
        """Write a chunk, then its checksum: whoever is killed in between has not finished it."""
        _overwrite(self.folder / FEATURES, self.features, chunk * CHUNK, features)
        _overwrite(self.folder / CHECKSUMS, self.checksums, chunk, np.array([_checksum(features)], np.uint64))

    def forget(self, chunk: int) -> None:
        """Count a chunk as unfinished, so that the next run computes it."""
        _overwrite(self.folder / CHECKSUMS, self.checksums, chunk, np.zeros(1, np.uint64))


def stored_features(
    key: Mapping[str, Any],
    n_rows: int,
    needed: Iterable[NDArray[np.int64]],
    compute: Compute,
    progress: Report | None = None,
) -> NDArray[np.float32]:
    """The features (n_rows, D) under ``key``, with at least the ``needed`` rows worked out; a read-only memory map.

    ``compute`` takes rows and returns their features (n, D). A process that is killed loses the chunk at hand; of two
    that need the same rows one computes them while the other waits; a damaged chunk is computed again. Where nothing
    is missing nothing is written. Raises ``BadInput`` when the cache folder cannot be written.
    """
    folder = features_folder() / name_of(key)
    wanted = np.unique(np.concatenate([np.unique(rows // CHUNK) for rows in needed])).tolist()
    entry = _fitting(folder, n_rows)
    if entry is None or _missing(entry, wanted):
        with locked(folder, lambda: _report_other(folder, n_rows, wanted, progress)):
            entry = _fill(folder, key, n_rows, wanted, compute, progress)
    with suppress(OSError):  # a cache that can only be read
        os.utime(entry.folder / KEY)  # when it was last used, for `clbench cache`
    return entry.features


def _fill(
    folder: Path, key: Mapping[str, Any], n_rows: int, wanted: list[int], compute: Compute, progress: Report | None
) -> Entry:
    """The entry with every wanted chunk in it."""
    entry = _fitting(folder, n_rows)
    missing = wanted if entry is None else _missing(entry, wanted)
    report = progress or (lambda done, total: None)
    total = _n_rows(wanted, n_rows)
    done = total - _n_rows(missing, n_rows)
    report(done, total)
    for chunk in missing:
        fresh = compute(np.arange(chunk * CHUNK, min((chunk + 1) * CHUNK, n_rows))).astype(np.float32)
        with writing():
            if entry is None or entry.features.shape[1] != fresh.shape[1]:
                entry = _create(folder, key, (n_rows, fresh.shape[1]))
            entry.store(chunk, fresh)
        done += len(fresh)
        report(done, total)
    assert entry is not None  # a backbone is never asked for no rows at all
    return entry


def _report_other(folder: Path, n_rows: int, wanted: list[int], progress: Report | None) -> None:
    """Report how far the process is that this one waits for."""
    entry = _fitting(folder, n_rows)
    if progress and entry is not None:
        progress(_n_rows([c for c in wanted if entry.checksums[c]], n_rows), _n_rows(wanted, n_rows))


def _missing(entry: Entry, wanted: list[int]) -> list[int]:
    """Those of the wanted chunks that are unfinished or damaged."""
    damaged = set(entry.damaged(wanted))
    return [c for c in wanted if c in damaged or not entry.checksums[c]]


def _fitting(folder: Path, n_rows: int) -> Entry | None:
    entry = Entry.read(folder)
    return entry if entry is not None and len(entry.features) == n_rows else None


def _create(folder: Path, key: Mapping[str, Any], shape: tuple[int, int]) -> Entry:
    """An empty entry in place of whatever is there; a process that has that mapped keeps it."""
    draft = folder.with_name(f".draft-{folder.name}")  # what a killed process left of it is in nobody's use
    for stale in (draft, folder):
        shutil.rmtree(stale, ignore_errors=True)
    draft.mkdir()
    n_chunks = -(-shape[0] // CHUNK)
    np.lib.format.open_memmap(draft / FEATURES, mode="w+", dtype=np.float32, shape=shape)
    np.lib.format.open_memmap(draft / CHECKSUMS, mode="w+", dtype=np.uint64, shape=(n_chunks,))
    (draft / KEY).write_text(json.dumps(key, sort_keys=True), encoding="utf-8")
    draft.replace(folder)
    entry = Entry.read(folder)
    if entry is None:
        raise OSError(f"'{folder}' cannot be read back")
    return entry


def _overwrite(path: Path, mapped: np.memmap[Any, Any], start: int, rows: NDArray[Any]) -> None:
    """Replace rows of an array's file; not through a map, where a full disk would kill the process."""
    with path.open("r+b") as file:
        file.seek(mapped.offset + start * mapped.strides[0])
        file.write(np.ascontiguousarray(rows).data)


def _checksum(features: NDArray[np.float32]) -> int:
    """Never 0, which stands for an unfinished chunk."""
    return (1 << 32) + zlib.crc32(np.ascontiguousarray(features).data)


def _n_rows(chunks: list[int], n_rows: int) -> int:
    return sum(min(CHUNK, n_rows - c * CHUNK) for c in chunks)


def name_of(key: Mapping[str, Any]) -> str:
    """The name of the entry with this key: a hash of it."""
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]


def features_folder() -> Path:
    """The folder of all entries."""
    return cache_folder() / "features"
