"""Taking other people's records in: all are checked, nothing that is there is overwritten, what fails is named."""

from __future__ import annotations

import io
import os
import stat
import tarfile
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from clbench.agreement import agree, contradictions, repetitions, shown
from clbench.errors import BadInput, RecordError
from clbench.identity import shipped_card
from clbench.invariants.scores import predictions_fault
from clbench.record import DAMAGED, FILE, PACKED, PREDICTIONS, Record, load_arrays, parse_record, place
from clbench.store import Reading, Store

LARGE = 1 << 28  # bytes of a file that is no record


@dataclass(frozen=True)
class Item:
    """A file of what is to be merged: its name there, how to read it, and why it is not to be touched."""

    name: str
    read: Callable[[], bytes]
    fault: str | None = None

    @property
    def base(self) -> str:
        """The name without its folders."""
        return PurePosixPath(self.name).name

    @property
    def is_draft(self) -> bool:
        """Whether it is of a run that has not ended, or otherwise hidden."""
        return any(part.startswith(".") for part in PurePosixPath(self.name).parts)


@dataclass
class Merged:
    """What became of every record: where it went, where it had been already, or why it was left out.

    ``passed_over``: other files beside the records, by name. ``foreign``: cards that clbench does not ship.
    """

    taken: list[Path] = field(default_factory=list)
    there: list[Path] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)
    foreign: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Candidate:
    """A record that passed its own checks, with its text, and its kept predictions where they are wanted."""

    name: Path
    record: Record
    text: str
    predictions: bytes | None


def merge(source: Path, into: Path, *, with_predictions: bool = False) -> Merged:
    """Take the records of a folder, or of a zip or tar archive, into the records folder ``into``.

    Where a record goes is derived from its checked content, never from its name in the source. Raises ``BadInput``
    when the source is none or holds no record, ``RecordError`` when ``into`` cannot be written.
    """
    merged = Merged()
    with opened(source) as items:
        candidates = [*_candidates(source, items, merged, with_predictions)]
    store = Store(into)
    store.check_writable()
    existing = store.read()
    known = {r.id: (path, r) for path, r in zip(existing.paths, existing.records, strict=True)}
    for candidate in _agreeing(candidates, existing, merged):
        record, target = candidate.record, store.folder(candidate.record)
        path, found = known.get(record.id, (None, None))
        if path and found and (record.status != "ok" or agree(found, record)):  # a run that failed adds nothing
            merged.there.append(path)
            if candidate.predictions is not None:
                merged.passed_over[PREDICTIONS] += 1
        elif path and found:
            what = "another result" if found.status == "ok" else f"status {found.status}: remove that one to take this"
            merged.left_out.append(f"{shown(candidate.name)} is the run of {path}, with {what}")
        elif target.exists():
            merged.left_out.append(
                f"{shown(candidate.name)} belongs to '{target}', which is taken by no readable record"
            )
        else:
            _put(candidate, target)
            merged.taken.append(target)
            known[record.id] = (target / FILE, record)
            label = record.names["scenario"].partition("[")[0]
            merged.foreign |= {label} if shipped_card(label) is None else set()
    return merged


def _candidates(source: Path, items: list[Item], merged: Merged, with_predictions: bool) -> Iterator[Candidate]:
    """The records of a source that pass their own checks; the others are named."""
    if not any(item.fault or item.base == FILE for item in items):
        raise BadInput(f"'{source}' holds no {FILE}")
    kept = {item.name: item for item in items if item.base == PREDICTIONS and not item.fault}
    shared: dict[bytes, Any] = {}
    for item in sorted(items, key=lambda item: item.name):
        path = source / item.name
        if item.fault:
            merged.left_out.append(f"{shown(source)}: '{shown(Path(item.name))}' {item.fault}")
        elif item.base == FILE:
            beside = kept.get(str(PurePosixPath(item.name).with_name(PREDICTIONS))) if with_predictions else None
            try:
                text = item.read().decode()
                record = parse_record(text, shared)
                yield Candidate(path, record, text, _checked(record, beside) if beside else None)
            except RecordError as error:
                merged.left_out.append(f"{shown(path)} {error}")
            except (*DAMAGED, tarfile.TarError) as error:
                merged.left_out.append(f"{shown(path)} is truncated, or cannot be read: {error}")
        elif not (with_predictions and item.base == PREDICTIONS):
            merged.passed_over[item.base] += 1


def _checked(record: Record, item: Item) -> bytes:
    """Kept predictions, arrays without code; ``RecordError`` where they contradict the record."""
    content = item.read()
    try:
        fault = predictions_fault(record.result, load_arrays(io.BytesIO(content)))
    except RecordError as error:
        fault = str(error)
    if fault:
        raise RecordError(f"has predictions that do not belong to it: {fault}")
    return content


def _agreeing(candidates: list[Candidate], existing: Reading, merged: Merged) -> Iterator[Candidate]:
    """Candidates that contradict neither the records that are there, nor each other; the others are named."""
    beside = zip(existing.paths, existing.records, strict=True)
    clashes = contradictions([*beside, *((c.name, c.record) for c in candidates)], set(existing.paths))
    repeated, differing = repetitions([(c.name, c.record) for c in candidates])
    clashes |= differing
    for candidate in sorted(candidates, key=lambda c: c.name in repeated):  # that which stands for others before them
        if candidate.name in clashes:
            merged.left_out.append(clashes[candidate.name])
        else:
            yield candidate


def _put(candidate: Candidate, target: Path) -> None:
    """Write a record as it was read."""
    if candidate.predictions is None:
        place(target, candidate.text)
        return
    with tempfile.NamedTemporaryFile(delete=False) as file:
        file.write(candidate.predictions)
    place(target, candidate.text, {PREDICTIONS: Path(file.name)})


@contextmanager
def opened(source: Path) -> Iterator[list[Item]]:
    """The files of a folder or an archive; links, and names that lead out of it, with their fault.

    What begins with a dot is passed over: drafts of runs that have not ended.
    """
    with ExitStack() as stack:
        try:
            if source.is_dir():
                found = [*_of_folder(source)]
            elif source.is_file() and tarfile.is_tarfile(source):  # before zip: arrays near its end are one
                found = [*_of_tar(stack.enter_context(tarfile.open(source)))]
            elif zipfile.is_zipfile(source):
                found = [*_of_zip(stack.enter_context(zipfile.ZipFile(source)))]
            else:
                found = None
        except (*DAMAGED, tarfile.TarError) as error:
            raise BadInput(f"'{source}' cannot be read: {error}") from error
        if found is None:
            raise BadInput(f"'{source}' is no folder, and no zip or tar archive, of records")
        yield [item for item in found if item.fault or not item.is_draft]


def _of_folder(source: Path) -> Iterator[Item]:
    for folder, inner, files in os.walk(source):
        inner[:] = [name for name in inner if not name.startswith(".")]
        for path in [Path(folder, name) for name in (*inner, *files)]:
            mode, name = path.lstat().st_mode, path.relative_to(source).as_posix()
            if stat.S_ISLNK(mode):
                yield Item(name, path.read_bytes, f"is a link, to '{path.readlink()}', which is not followed")
            elif not stat.S_ISDIR(mode):
                yield Item(name, path.read_bytes, None if stat.S_ISREG(mode) else "is no file")


def _of_zip(archive: zipfile.ZipFile) -> Iterator[Item]:
    for info in archive.infolist():
        fault = _outside(info.filename, info.file_size, stat.S_ISLNK(info.external_attr >> 16))
        if fault or not info.is_dir():
            yield Item(info.filename, partial(archive.read, info), fault)


def _of_tar(archive: tarfile.TarFile) -> Iterator[Item]:
    whole = False
    with suppress(tarfile.ReadError, EOFError, *PACKED):  # one that ends early; what was read of it is not lost
        for member in archive:
            fault = _outside(member.name, member.size, member.issym() or member.islnk())
            if fault or not member.isdir():
                fault = fault or (None if member.isfile() else "is no file")
                yield Item(member.name, partial(_member, archive, member), fault)
        whole = _ends(archive)
    if not whole:
        yield Item("the end", bytes, "is missing or damaged: what followed is lost")


def _ends(archive: tarfile.TarFile) -> bool:
    """Whether an archive whose members were read ends as one does: with a block of zeros, and a right checksum."""
    assert archive.fileobj is not None
    archive.fileobj.seek(archive.offset)
    end = archive.fileobj.read(tarfile.BLOCKSIZE)
    while archive.fileobj.read(1 << 20):  # the checksum is looked at when all has been read
        pass
    return end == bytes(tarfile.BLOCKSIZE)


def _member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    return file.read() if file else b""


def _outside(name: str, size: int, link: bool) -> str | None:
    """Why a member of an archive is not to be touched."""
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or any(":" in part for part in parts.parts[:1]):
        return "has a name that leads out of the archive"
    if link:
        return "is a link, which is not followed"
    return f"is larger than {LARGE >> 20} MB" if size > LARGE else None
