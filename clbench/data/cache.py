"""Arrays that are made once and memory-mapped from the cache folder ever after."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clbench.errors import BadInput

Arrays = Mapping[str, NDArray[Any]]
CHECKSUMS = "checksums.json"


def cache_folder() -> Path:
    """Where decoded data are kept: ``$CLBENCH_CACHE``, else the user's cache folder."""
    if configured := os.environ.get("CLBENCH_CACHE"):
        return Path(configured).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("clbench")


def cached(key: str, make: Callable[[], Arrays]) -> dict[str, NDArray[Any]]:
    """Return the arrays under ``key``, made by ``make`` if they are not there yet; read-only memory maps.

    Writing is atomic, and of two processes that need the same arrays one makes them while the other waits.
    Raises ``BadInput`` when the cache folder cannot be written.
    """
    entry = cache_folder() / "arrays" / key
    if (found := _read(entry)) is not None:
        return found
    with locked(entry, lambda: None):
        if _read(entry) is None:
            made = make()
            with writing():
                shutil.rmtree(entry, ignore_errors=True)  # what is left of a damaged one
                _write(entry, made)
    return _read(entry) or {}


def _read(entry: Path) -> dict[str, NDArray[Any]] | None:
    """The arrays of an entry, which counts as used now; None where it is missing or cut off."""
    try:
        arrays = {path.stem: np.load(path, mmap_mode="r") for path in sorted(entry.glob("*.npy"))}
    except (OSError, ValueError, EOFError):
        return None
    with contextlib.suppress(OSError):  # a folder that only others may write
        os.utime(entry)
    return arrays or None


def _write(entry: Path, made: Arrays) -> None:
    draft = Path(tempfile.mkdtemp(dir=entry.parent, prefix=".draft-"))
    try:
        for name, array in made.items():
            np.save(draft / f"{name}.npy", array, allow_pickle=False)
        sums = {path.name: _checksum(path) for path in sorted(draft.glob("*.npy"))}
        (draft / CHECKSUMS).write_text(json.dumps(sums), encoding="utf-8")
        draft.replace(entry)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def damaged(entry: Path) -> list[str]:
    """Files of an entry of arrays whose bytes are not those that were written."""
    try:
        sums = json.loads((entry / CHECKSUMS).read_text(encoding="utf-8"))
        return [name for name, known in sums.items() if _checksum(entry / name) != known]
    except (OSError, ValueError, AttributeError):
        return [CHECKSUMS]


def _checksum(path: Path) -> int:
    total = 0
    with path.open("rb") as file:
        while block := file.read(1 << 24):
            total = zlib.crc32(block, total)
    return total


@contextmanager
def locked(folder: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Be the only process that writes this entry; ``waiting`` is called every second until then.

    Raises ``BadInput`` when the cache folder cannot be written.
    """
    from filelock import FileLock, Timeout

    with writing():
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{folder}.lock")
        while not lock.is_locked:
            try:
                lock.acquire(timeout=1)
            except Timeout:
                waiting()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def writing() -> Iterator[None]:
    """Say in words that the cache folder cannot be written."""
    try:
        yield
    except OSError as error:
        raise BadInput(
            f"the cache folder '{cache_folder()}' cannot be written: {error.strerror or error}\n"
            "  choose another with CLBENCH_CACHE=FOLDER"
        ) from error
