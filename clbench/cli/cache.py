"""``clbench cache``: what is kept on disk, whether it is sound, and how to get rid of it."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from clbench.data.cache import CHECKSUMS as SUMS
from clbench.data.cache import cache_folder, damaged, locked
from clbench.data.features import CHECKSUMS, FEATURES, KEY, Entry
from clbench.errors import BadInput, unknown

DAY = 86400.0


def run_cache(action: str, names: Sequence[str] = (), older_than: float = 30.0, everything: bool = False) -> int:
    """``list``, ``verify`` or ``prune`` the cache; 1 when ``verify`` has found damage, else 0.

    ``prune`` deletes the named entries (beginnings of names), else ``everything``, else what no run has used for
    ``older_than`` days.
    """
    if action == "list":
        return _show()
    if action == "verify":
        return _verify()
    return _prune(names, older_than, everything)


@dataclass(frozen=True)
class Kept:
    """A folder of the cache: ``features`` of a frozen network, or ``arrays`` of decoded images and tokens."""

    kind: str
    folder: Path

    @property
    def name(self) -> str:
        """As it is shown, and as its beginning can be given to ``prune``."""
        return self.folder.name

    @property
    def ours(self) -> bool:
        """Whether nothing lies in it that clbench does not write; anything else is left alone."""
        files = [p.name for p in self.folder.iterdir()]
        own = (
            {KEY, FEATURES, CHECKSUMS} if self.kind == "features" else {SUMS, *(n for n in files if n.endswith(".npy"))}
        )
        return bool(files) and set(files) <= own

    @property
    def megabytes(self) -> float:
        """On disk; rows that have not been computed take none."""
        return sum(file.stat().st_blocks * 512 for file in self.folder.iterdir()) / 1e6

    @property
    def idle(self) -> float:
        """Days since it was last used, or made."""
        key = self.folder / KEY
        return (time.time() - (key if key.is_file() else self.folder).stat().st_mtime) / DAY

    def remove(self) -> None:
        """Delete it with its lock; ``BadInput`` when another process is writing it."""
        away = self.folder.with_name(f".draft-{self.name}")
        try:
            with locked(self.folder, self.in_use):
                shutil.rmtree(away, ignore_errors=True)  # of a kill in this place; if it stays, the next line says why
                self.folder.replace(away)  # in one step: a kill leaves no half of it
                shutil.rmtree(away)
                Path(f"{self.folder}.lock").unlink()
        except OSError as error:
            raise BadInput(f"'{self.folder}' cannot be deleted: {error.strerror or error}") from error

    def in_use(self) -> NoReturn:
        """What there is to say while another process has it."""
        raise BadInput(f"{self.kind} {self.name} is being written by another process; try again when that is done")


def _all() -> list[Kept]:
    return [
        Kept(kind, folder)
        for kind in ("features", "arrays")
        for folder in sorted((cache_folder() / kind).glob("[!.]*"))
        if folder.is_dir()
    ]


def _show() -> int:
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if Console().is_terminal else 160)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("name", "what", "of data", "samples", "each", "MB", "last used"):
        table.add_column(column, justify="right" if column in ("samples", "MB") else "left")
    kept = [k for k in _all() if k.ours]
    for k in kept:
        table.add_row(k.name[:16], *_described(k), f"{k.megabytes:,.1f}", _ago(k.idle))
    console.print(table)
    _say(f"{cache_folder()}: {len(kept)} entries, {sum(k.megabytes for k in kept):,.0f} MB")
    return 0


def _described(kept: Kept) -> tuple[str, str, str, str]:
    """What it is, of which data, how many samples, and the shape of each."""
    if kept.kind == "features":
        entry = Entry.read(kept.folder)
        if entry is None:
            return "damaged: see clbench cache verify", "", "", ""
        settings = {k: v for k, v in entry.key.get("backbone", {}).items() if v is not None}
        cls = str(settings.pop("_target_", "?")).rpartition(".")[2]
        what = " ".join([cls, *(f"{k}={v}" for k, v in settings.items()), str(entry.key.get("device", ""))])
        n_rows, n_features = entry.features.shape
        return what, str(entry.key.get("content", ""))[:8], f"{entry.n_finished:,} of {n_rows:,}", str(n_features)
    largest = _largest(kept)
    if largest is None:
        return "damaged: see clbench cache verify", "", "", ""
    what = ", ".join(sorted(file.stem for file in kept.folder.glob("*.npy")))
    return what, "", f"{len(largest):,}", " x ".join(map(str, largest.shape[1:]))


def _verify() -> int:
    damaged = 0
    everything = _all()
    for kept in everything:
        if not kept.ours:
            _say(f"{kept.folder} is not an entry of the cache, and left alone")
        elif problem := _problem(kept):
            damaged += 1
            _say(f"{kept.kind} {kept.name}: {problem}")
    _say(f"{cache_folder()}: {len(everything)} entries checked, {damaged} damaged")
    return 1 if damaged else 0


def _problem(kept: Kept) -> str:
    """What is wrong with an entry; empty when it is sound. What is damaged is taken out, to be made again."""
    if kept.kind == "arrays":
        if files := damaged(kept.folder):
            kept.remove()
            return f"{', '.join(files)} is not what was written; deleted, the next run that needs it makes it again"
        return ""
    entry = Entry.read(kept.folder)
    if entry is None:
        return "cannot be read; the next run that needs it makes it again"
    if not entry.damaged(entry.finished.tolist()):
        return ""
    with locked(kept.folder, kept.in_use):
        bad = entry.damaged(entry.finished.tolist())
        for chunk in bad:
            entry.forget(chunk)
    rows = ", ".join(f"{entry.rows(c).start}-{entry.rows(c).stop - 1}" for c in bad)
    return f"rows {rows} are not what was computed; the next run that needs them computes them again"


def _prune(names: Sequence[str], older_than: float, everything: bool) -> int:
    kept = [k for k in _all() if k.ours]
    for name in names:
        if not any(k.name.startswith(name) for k in kept):
            raise unknown("entry of the cache", name, [k.name for k in kept])
    if names:
        chosen = [k for k in kept if k.name.startswith(tuple(names))]
    else:
        chosen = [k for k in kept if everything or k.idle >= older_than]
    freed = 0.0
    for k in chosen:
        size, idle = k.megabytes, _ago(k.idle)
        k.remove()
        freed += size
        _say(f"deleted {k.kind} {k.name}: {size:,.1f} MB, last used {idle}")
    _remove_strays()
    left = sum(k.megabytes for k in _all())
    _say(f"{cache_folder()}: {len(chosen)} entries deleted, {freed:,.0f} MB; {left:,.0f} MB left")
    return 0


def _remove_strays() -> None:
    """Drafts of processes that were killed, and locks of entries that are gone."""
    for kind in ("features", "arrays"):
        for path in (cache_folder() / kind).glob("*"):
            old = (time.time() - path.stat().st_mtime) > DAY
            try:
                if path.name.startswith(".draft-") and old:
                    shutil.rmtree(path)
                elif path.suffix == ".lock" and old and not path.with_suffix("").exists():
                    path.unlink(missing_ok=True)
            except OSError as error:  # of somebody else, on a shared cache: the rest is cleared all the same
                _say(f"'{path}', a leftover, cannot be deleted: {error.strerror or error}")


def _largest(kept: Kept) -> NDArray[Any] | None:
    """The largest array of an entry; None when one cannot be read."""
    try:
        arrays: list[NDArray[Any]] = [np.load(f, mmap_mode="r") for f in kept.folder.glob("*.npy")]
        return max(arrays, key=lambda a: a.nbytes)
    except (OSError, ValueError, EOFError):
        return None


def _ago(days: float) -> str:
    if days >= 1:
        return f"{days:.0f} days ago"
    return f"{days * 24:.0f} hours ago" if days * 24 >= 1 else f"{max(days, 0) * 24 * 60:.0f} minutes ago"


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
