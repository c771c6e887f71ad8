"""A folder of records."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clbench.compose import complete
from clbench.errors import RecordError
from clbench.record import FILE, Record, digest, parse_record, read_record, read_text, same_result


@dataclass(frozen=True)
class Reading:
    """What a folder of records holds: the readable ones with their files, and why each other one was left out.

    ``repeated``: the files of runs that are here already, in another place, and which file counts instead.
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
            try:
                kept.append((path, parse_record(read_text(path), shared)))
            except RecordError as error:
                left_out.append(f"{path} {error}")
        repeated, differing = repetitions(kept)
        clashes = contradictions(kept) | differing
        left_out += clashes.values()
        kept = [(path, record) for path, record in kept if path not in clashes and path not in repeated]
        records, paths = tuple(r for _, r in kept), tuple(path for path, _ in kept)
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


Group = Mapping[str, list[Path]]


def contradictions(records: Sequence[tuple[Path, Record]], trusted: Collection[Path] = ()) -> dict[Path, str]:
    """Records that are of one scenario by their names, but not by their cards or their streams, and why.

    Those that differ from the trusted ones are named; where none is trusted, from most; and all where no most are
    alike. Streams are compared seed by seed, of finished runs.
    """
    cards: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    streams: dict[tuple[str, int, int], dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    contents: dict[int, str] = {}  # by object, since records share their cards
    for path, record in records:
        scenario, card, seeds = record.names["scenario"], record.identity["scenario"], record.identity["seeds"]
        if id(card) not in contents:
            contents[id(card)] = digest({k: v for k, v in complete(card).items() if v is not None})
        cards[scenario][contents[id(card)]].append(path)
        if record.status == "ok":  # the seeds are those that the stream depends on
            streams[scenario, seeds["order"], seeds["split"]][record.result["fingerprint"]].append(path)
    clashes: dict[Path, str] = {}
    for scenario, group in cards.items():
        for path, other in _outsiders(group, trusted):
            clashes[path] = f"{path} and {other} are both {scenario}, but their cards differ"
    for (scenario, seed, _), group in streams.items():
        for path, other in _outsiders(group, trusted):
            clashes[path] = f"{path} and {other} are both {scenario} with seed {seed}, but their streams differ"
    return clashes


MACHINE = ("platform", "processor", "accelerator", "torch", "numpy", "threads")


def repetitions(records: Sequence[tuple[Path, Record]]) -> tuple[dict[Path, Path], dict[Path, str]]:
    """Records of one and the same run: those that another one stands for, and those that cannot be right, and why.

    A run may lie in the folders of several studies: the record that holds most counts, a finished one before one that
    failed. On one machine the same run gives the same bits; so of records made there with different results none
    counts. Made on different machines they differ by rounding, and each is a result of its own right.
    """
    runs: dict[str, list[tuple[Path, Record]]] = defaultdict(list)
    for path, record in records:
        runs[record.id].append((path, record))
    repeated: dict[Path, Path] = {}
    named: dict[Path, str] = {}
    for copies in runs.values():
        done = [(p, r) for p, r in copies if r.status == "ok"] or copies
        chosen, first = max(done, key=_content)
        wrong = [p for p, r in done if not same_result(first, r) and _machine(first) == _machine(r)]
        if wrong:
            for path, _ in done:
                other = wrong[0] if path != wrong[0] else chosen
                named[path] = f"{path} and {other} are records of one run, but their results differ"
        else:
            repeated |= {path: chosen for path, _ in copies if path != chosen}
    return repeated, named


def _content(found: tuple[Path, Record]) -> tuple[int, int, str]:
    """How much a record holds; of those that hold as much the last by name."""
    path, record = found
    return len(record.result.get("matrices", ())), len(record.curves), str(path)


def _machine(record: Record) -> list[Any]:
    return [record.environment.get(name) for name in MACHINE]


def _outsiders(group: Group, trusted: Collection[Path]) -> Iterator[tuple[Path, Path]]:
    """Each record that is not among the trusted or most frequent of a group, with one that differs from it."""
    if len(group) == 1:
        return
    right = [key for key, paths in group.items() if any(path in trusted for path in paths)]
    if not right:
        most = max(map(len, group.values()))
        right = [key for key, paths in group.items() if len(paths) == most]
    for key, paths in group.items():
        if right != [key]:
            other = next(p for k in (*right, *group) if k != key for p in group[k])
            yield from ((path, other) for path in paths if path not in trusted)
