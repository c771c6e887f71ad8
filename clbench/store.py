"""A folder of records."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from clbench.errors import RecordError
from clbench.record import FILE, Record, read_record


@dataclass(frozen=True)
class Reading:
    """What a folder of records holds: the readable ones, and why each other one was left out."""

    records: tuple[Record, ...]
    left_out: tuple[str, ...] = field(default_factory=tuple)


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
            probe.unlink()
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
        for path in sorted(self.root.rglob(FILE)):
            if any(part.startswith(".") for part in path.relative_to(self.root).parts):
                continue  # a draft or checkpoint of a run that has not ended
            try:
                kept.append((path, read_record(path.parent)))
            except RecordError as error:
                left_out.append(str(error))
        clashes = _contradictions(kept)
        left_out += clashes.values()
        return Reading(tuple(r for path, r in kept if path not in clashes), tuple(left_out))


def safe_name(name: str) -> str:
    """A label as a folder name: letters, digits and ``-_.+,=[]`` stay.

    >>> safe_name("replay[memory=50,trainer.lr=0.1]")
    'replay[memory=50,trainer.lr=0.1]'
    """
    return re.sub(r"[^\w\-.+,=\[\]]", "_", name)[:120]


def _contradictions(records: list[tuple[Path, Record]]) -> dict[Path, str]:
    """Records whose stream differs from that of most others of their scenario and seed; of two that differ, both."""
    groups: dict[tuple[str, int, int], dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for path, record in records:
        if record.status == "ok":
            seeds = record.identity["seeds"]  # those that the stream depends on
            key = (record.names["scenario"], seeds["order"], seeds["split"])
            groups[key][record.result["fingerprint"]].append(path)
    clashes: dict[Path, str] = {}
    for (scenario, seed, _), streams in groups.items():
        most = max(map(len, streams.values()))
        trusted = [s for s, paths in streams.items() if len(paths) == most]
        for stream, paths in streams.items():
            if len(streams) == 1 or trusted == [stream]:
                continue
            other = next(p for s, others in streams.items() if s != stream for p in others)
            for path in paths:
                clashes[path] = f"{path} and {other} are both {scenario} with seed {seed}, but their streams differ"
    return clashes
