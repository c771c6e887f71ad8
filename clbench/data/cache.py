"""Arrays that are made once and memory-mapped from the cache folder ever after."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clbench.errors import BadInput

Arrays = Mapping[str, NDArray[Any]]


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
    from filelock import FileLock

    entry = cache_folder() / "arrays" / key
    if (found := _read(entry)) is not None:
        return found
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{entry}.lock"):
            if _read(entry) is None:
                shutil.rmtree(entry, ignore_errors=True)  # what is left of a damaged one
                _write(entry, make)
    except OSError as error:
        raise BadInput(
            f"the cache folder '{cache_folder()}' cannot be written: {error.strerror or error}\n"
            "  choose another with CLBENCH_CACHE=FOLDER"
        ) from error
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


def _write(entry: Path, make: Callable[[], Arrays]) -> None:
    draft = Path(tempfile.mkdtemp(dir=entry.parent, prefix=".draft-"))
    try:
        for name, array in make().items():
            np.save(draft / f"{name}.npy", array, allow_pickle=False)
        draft.replace(entry)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
