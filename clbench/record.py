"""The record of a run: one folder with ``record.json`` and arrays, written atomically, nothing executable."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import lzma
import marshal
import math
import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from clbench.errors import RecordError
from clbench.invariants import fault
from clbench.matrix import ScoreMatrix

SCHEMA = 2  # what is written; older ones are read too
FILE = "record.json"
PREDICTIONS = "predictions.npz"  # beside it, where they were kept
PACKED = (zlib.error, lzma.LZMAError, zipfile.BadZipFile, gzip.BadGzipFile)
DAMAGED = (OSError, ValueError, EOFError, RuntimeError, MemoryError, OverflowError, *PACKED)
_ADDED: Mapping[str, Any] = {"curves": {}}  # since schema 1
Status = Literal["ok", "failed", "skipped"]
Names = Mapping[str, str]


@dataclass(frozen=True)
class Record:
    """What is known of one run.

    ``identity``: everything that decides the result; its hash is ``id``. ``names``: the labels of scenario,
    strategy, model and trainer, overrides in brackets. ``card``: the scenario as it was run. ``result``: hashed
    part (matrices, tasks, fingerprint, counts). ``costs``, ``environment``: may differ between repetitions.
    ``curves``: what probes during training gave, where they were asked for (see ``clbench.probing.Curves``).
    ``reason``: why a run failed or was skipped.
    """

    identity: dict[str, Any]
    names: dict[str, str]
    seed: int
    status: Status
    card: dict[str, Any]
    result: dict[str, Any] = field(default_factory=dict)
    costs: list[dict[str, Any]] = field(default_factory=list)
    environment: dict[str, Any] = field(default_factory=dict)
    reason: str | None = None
    reference: bool = False
    command: str | None = None
    curves: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def id(self) -> str:
        """Hash of the identity, 12 hexadecimal digits."""
        return digest(self.identity)[:12]

    @cached_property
    def entry(self) -> str:
        """Hash of the identity without its seeds: the records of one entry differ by seed only."""
        return digest({k: v for k, v in self.identity.items() if k != "seeds"})[:12]

    @cached_property
    def result_sha256(self) -> str:
        """Hash of the result: equal for bit-identical repetitions."""
        return digest(self.result)

    def matrix(self, name: str = "accuracy") -> ScoreMatrix:
        """A score matrix: ``accuracy``, ``task_masked_accuracy``, and what else ``result["matrices"]`` names."""
        if name not in self._matrices:
            self._matrices[name] = ScoreMatrix.from_json(self.result["matrices"][name])
        return self._matrices[name]

    @cached_property
    def _matrices(self) -> dict[str, ScoreMatrix]:
        return {}

    def to_json(self) -> dict[str, Any]:
        """Plain data, as in ``record.json``."""
        own = {name: getattr(self, name) for name in self.__dataclass_fields__}
        hashes = {"result_sha256": self.result_sha256, "curves_sha256": digest(self.curves)}
        return {"schema": SCHEMA, "id": self.id, **own, **hashes}


def digest(data: Any) -> str:
    """SHA-256 of plain data, independent of the order of keys."""
    return hashlib.sha256(json.dumps(data, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def write_record(folder: Path, record: Record, files: Mapping[str, Path] | None = None) -> Path:
    """Write a record as ``folder``, all or nothing; ``files`` are moved in under their names.

    Raises ``RecordError`` when the place cannot be written.
    """
    return place(folder, compact_rows(json.dumps(record.to_json(), indent=1, allow_nan=False)) + "\n", files)


def place(folder: Path, text: str, files: Mapping[str, Path] | None = None) -> Path:
    """Make ``folder`` hold this ``record.json`` and these files, which are moved in, and nothing else."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".draft-"))
        draft.chmod(0o755)
        try:
            for name, path in (files or {}).items():
                shutil.move(path, draft / name)
            (draft / FILE).write_text(text, encoding="utf-8")
            if folder.exists():
                shutil.rmtree(folder)
            os.replace(draft, folder)  # noqa: PTH105 (atomic, and says so)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        raise RecordError(f"cannot write a record to '{folder.parent}': {error.strerror or error}") from error
    return folder


def compact_rows(text: str) -> str:
    """Put innermost lists of an indented JSON text on one line each."""
    lines: list[str] = []
    open_list: list[str] | None = None
    for line in text.split("\n"):
        stripped = line.strip()
        if open_list is None and stripped.endswith("["):
            open_list = [line]
        elif open_list is not None and stripped.endswith(("[", "{")):
            lines += open_list
            open_list = [line] if stripped.endswith("[") else None
            if open_list is None:
                lines.append(line)
        elif open_list is not None and stripped.startswith("]"):
            body = " ".join(part.strip() for part in open_list[1:])
            lines.append(f"{open_list[0]}{body}{stripped}")
            open_list = None
        elif open_list is not None:
            open_list.append(line)
        else:
            lines.append(line)
    return "\n".join(lines)


def read_record(folder: Path) -> Record:
    """Read a record back; ``RecordError`` names what is truncated, foreign or inconsistent."""
    path = folder / FILE
    try:
        return parse_record(read_text(path))
    except RecordError as error:
        raise RecordError(f"{path} {error}") from error


def read_text(path: Path) -> str:
    """The text of a ``record.json``; ``RecordError`` without its name for a link, or what cannot be read."""
    if path.is_symlink():
        raise RecordError(f"is a link, to '{path.readlink()}', which is not followed: put a copy in its place")
    if path.exists() and not path.is_file():
        raise RecordError("is not a file")
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise RecordError(f"is truncated, or cannot be read: {error}") from error


def parse_record(text: str, shared: dict[bytes, Any] | None = None) -> Record:
    """The record that a text is, checked; ``shared``: what this and other records have in common is kept there once.

    Raises ``RecordError`` with the reason, without the name of the record.
    """
    data = _fields(_plain(text))
    for name, own in (("id", data["id"]), ("result", data["result_sha256"]), ("curves", data["curves_sha256"])):
        kind = "identity" if name == "id" else name
        made = digest(data[kind])
        if own != (made[:12] if name == "id" else made):
            raise RecordError(f"was edited: its {kind} part does not match its hash")
    if found := fault(data):
        raise RecordError(f"is not as a run leaves it: {found}")
    if shared is not None:
        _share(data, shared)
    record = Record(**{name: data[name] for name in Record.__dataclass_fields__})
    vars(record).update(id=data["id"], result_sha256=data["result_sha256"])  # as checked; hashing takes time
    return record


def _plain(text: str) -> Any:
    """Plain data of strict JSON, which has no NaN, in characters that can be written again."""

    def refuse(word: str) -> None:
        raise ValueError(f"{word} is no number; a missing one is null")

    try:
        data = json.loads(text, parse_constant=refuse)
        if "\\ud" in text:
            json.dumps(data, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise RecordError(f"is truncated or not JSON: {error}") from error
    return data


def _fields(data: Any) -> dict[str, Any]:
    """The fields of a record of any schema that this clbench knows; those that an older one lacks are empty."""
    schema = data.get("schema") if isinstance(data, dict) else None
    if type(schema) is not int or schema < 1:
        raise RecordError("is not a clbench record: it does not say its schema")
    if schema > SCHEMA:
        raise RecordError(
            f"has schema {schema}, made by a newer clbench; this one reads schemas up to {SCHEMA}: upgrade it"
        )
    fields = {**_ADDED, "curves_sha256": digest({}), **data} if schema < SCHEMA else data
    known = (*Record.__dataclass_fields__, "schema", "id", "result_sha256", "curves_sha256")
    if missing := [name for name in known if name not in fields]:
        raise RecordError(f"lacks: {', '.join(missing)}")
    if foreign := [name for name in fields if name not in known]:
        raise RecordError(f"holds what no record of schema {schema} does: {', '.join(foreign)}")
    return fields


def _share(data: dict[str, Any], shared: dict[bytes, Any]) -> None:
    """Replace parts that many records have by the one object of equal content."""
    result, identity = data["result"], data["identity"]
    for part, names in ((data, ("card", "names", "environment")), (identity, identity), (result, ("tasks", "spec"))):
        for name in [name for name in names if name in part]:
            part[name] = shared.setdefault(marshal.dumps(part[name], 2), part[name])


def same_result(one: Record, other: Record) -> bool:
    """Whether two runs came to the same, bit by bit, in all that both records hold.

    A record of an older schema has fewer matrices and counts than its repetition.
    """
    if one.status != other.status or one.status != "ok":
        return (one.status, one.reason) == (other.status, other.reason)
    a, b = one.result, other.result
    matrices = a["matrices"].keys() & b["matrices"].keys()
    return (
        (a["fingerprint"], a["tasks"]) == (b["fingerprint"], b["tasks"])
        and all(a["matrices"][name] == b["matrices"][name] for name in matrices)
        and all(x[k] == y[k] for x, y in zip(a["counts"], b["counts"], strict=True) for k in x.keys() & y.keys())
    )


def save_predictions(path: Path, kept: Mapping[str, NDArray[Any]]) -> None:
    """Write kept predictions: arrays only, no pickle."""
    np.savez_compressed(path, allow_pickle=False, **dict(kept))


def load_predictions(folder: Path) -> dict[str, NDArray[Any]]:
    """Kept predictions of a record: arrays (T+1, N) per row and test sample, and ``probe`` and ``y`` (N,)."""
    path = folder / PREDICTIONS
    try:
        return load_arrays(path)
    except RecordError as error:
        raise RecordError(f"{path}: no kept predictions here ({error})") from error


def load_arrays(file: Path | io.BytesIO) -> dict[str, NDArray[Any]]:
    """Arrays by name, and no pickle; ``RecordError`` where they cannot be read."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (*DAMAGED, TypeError, KeyError) as error:
        raise RecordError(f"the arrays cannot be read: {error}") from error


def total(values: list[float | None]) -> float:
    """Sum; NaN when any addend is missing."""
    return math.nan if any(v is None for v in values) else float(sum(v for v in values if v is not None))
