"""A folder of records."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clbench.agreement import contradictions, repetitions, shown
from clbench.errors import RecordError
from clbench.record import FILE, Record, parse_record, read_record, read_text


@dataclass(frozen=True)
class Reading:
    """What a folder of records holds: the readable ones with their files, and why each other one was left out.

    ``repeated``: the files of runs that are here already, in another place, and which file counts instead; as in
    ``left_out`` by their names within the folder.
    """

    records: tuple[Record, ...]
    left_out: tuple[str, ...] = ()
    paths: tuple[Path, ...] = ()
    repeated: tuple[tuple[Path, Path], ...] = ()


@dataclass(frozen=True)
class Store:
    """Records under one root: ``root/SCENARIO/STRATEGY/MODEL/seedN-ID/record.json``."""

    root: Path

    def folder(self, record: Record) -> Path:
        """Where a record lives."""
        names = [safe_name(record.names[key]) for key in ("scenario", "strategy", "model")]
        return self.root.joinpath(*names, f"seed{record.seed}-{record.id}")

    def find(self, record: Record) -> tuple[Record, Path] | None:
        """The stored record of the same identity, whatever its labels, and its folder; None if none is readable."""
        for folder in sorted(self.root.glob(f"*/*/*/seed{record.seed}-{record.id}")):
            try:
                return read_record(folder), folder
            except RecordError:
                continue
        return None

    def check_writable(self) -> None:
        """Raise ``RecordError`` when records cannot be written here."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            probe = self.root / ".writable"
            probe.touch()
            probe.unlink(missing_ok=True)  # of two processes at once the other may have been faster
        except OSError as error:
            reason = error.strerror or str(error)
            raise RecordError(
                f"the records folder '{self.root}' cannot be written: {reason}\n  choose another with records=FOLDER"
            ) from error

    def read(self) -> Reading:
        """Read all records, sorted by path; unreadable ones and contradictions are named and left out.

        Finished records of one scenario and seed with different fingerprints contradict each other: those that
        differ from the most common fingerprint are left out, all of them where none is most common.
        """
        if not self.root.is_dir():
            raise RecordError(f"no records folder at '{self.root}'; make some with: clbench run scenario=...")
        kept: list[tuple[Path, Record]] = []
        left_out: list[str] = []
        shared: dict[bytes, Any] = {}
        for path in record_files(self.root):
            name = path.relative_to(self.root)
            try:
                kept.append((name, parse_record(read_text(path), shared)))
            except RecordError as error:
                left_out.append(f"{shown(name)} {error}")
        repeated, differing = repetitions(kept)
        once = [(name, record) for name, record in kept if name not in repeated]  # a copy is no second witness
        clashes = contradictions(once) | differing
        left_out += clashes.values()
        kept = [(name, record) for name, record in once if name not in clashes]
        records, paths = tuple(r for _, r in kept), tuple(self.root / name for name, _ in kept)
        return Reading(records, tuple(left_out), paths, tuple(repeated.items()))


def record_files(root: Path) -> list[Path]:
    """The records under a folder, sorted; and links to folders, which are not followed.

    What begins with a dot is a draft or checkpoint of a run that has not ended.
    """
    found = []
    for folder, inner, files in os.walk(root):
        inner[:] = [name for name in inner if not name.startswith(".")]
        found += [Path(folder, name) for name in inner if Path(folder, name).is_symlink()]
        found += [Path(folder, name) for name in files if name == FILE]
    return sorted(found)


def safe_name(name: str) -> str:
    """A label as a folder name: letters, digits and ``-_.+,=[]`` stay, but no dot at the beginning.

    >>> safe_name("replay[memory=50,trainer.lr=0.1]"), safe_name("../up")
    ('replay[memory=50,trainer.lr=0.1]', '_._up')
    """
    return re.sub(r"[^\w\-.+,=\[\]]|^\.", "_", name)[:120]
