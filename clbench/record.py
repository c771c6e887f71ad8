"""The record of a run: one folder with ``record.json`` and arrays, written atomically, nothing executable."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from clbench.errors import RecordError
from clbench.matrix import ScoreMatrix

SCHEMA = 2  # what is written; older ones are read too
FILE = "record.json"
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

    @property
    def id(self) -> str:
        """Hash of the identity, 12 hexadecimal digits."""
        return digest(self.identity)[:12]

    @property
    def entry(self) -> str:
        """Hash of the identity without its seeds: the records of one entry differ by seed only."""
        return digest({k: v for k, v in self.identity.items() if k != "seeds"})[:12]

    @property
    def result_sha256(self) -> str:
        """Hash of the result: equal for bit-identical repetitions."""
        return digest(self.result)

    def matrix(self, name: str = "accuracy") -> ScoreMatrix:
        """A score matrix: ``accuracy``, ``task_masked_accuracy``, and what else ``result["matrices"]`` names."""
        return ScoreMatrix.from_json(self.result["matrices"][name])

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
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".draft-"))
        draft.chmod(0o755)
        try:
            for name, path in (files or {}).items():
                shutil.move(path, draft / name)
            text = json.dumps(record.to_json(), indent=1, allow_nan=False)
            (draft / FILE).write_text(compact_rows(text) + "\n", encoding="utf-8")
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
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecordError(f"{path} is truncated or not JSON: {error}") from error
    schema = data.get("schema") if isinstance(data, dict) else None
    if not isinstance(schema, int) or schema < 1:
        raise RecordError(f"{path} is not a clbench record: it does not say its schema")
    if schema > SCHEMA:
        raise RecordError(
            f"{path} has schema {schema}, made by a newer clbench; this one reads schemas up to {SCHEMA}: upgrade it"
        )
    data = {**_ADDED, "curves_sha256": digest({}), **data} if schema < SCHEMA else data
    names = Record.__dataclass_fields__
    missing = [name for name in names if name not in data]
    if missing:
        raise RecordError(f"{path} lacks: {', '.join(missing)}")
    record = Record(**{name: data[name] for name in names})
    _check(record, data, path)
    return record


def _check(record: Record, data: dict[str, Any], path: Path) -> None:
    if data.get("id") != record.id:
        raise RecordError(f"{path}: its id does not belong to its identity; was it edited?")
    if data.get("result_sha256") != record.result_sha256:
        raise RecordError(f"{path}: its result does not match its hash; was it edited?")
    if data.get("curves_sha256") != digest(record.curves):
        raise RecordError(f"{path}: its curves do not match their hash; were they edited?")
    if not {"order", "split"} <= set(record.identity.get("seeds") or ()):
        raise RecordError(f"{path}: its identity does not say its seeds")
    if record.status not in ("ok", "failed", "skipped"):
        raise RecordError(f"{path}: unknown status '{record.status}'")
    if record.status != "ok":
        return
    try:
        for name in record.result["matrices"]:
            record.matrix(name)
    except (KeyError, TypeError, ValueError) as error:
        raise RecordError(f"{path}: its matrices are not readable: {error}") from error


def save_predictions(path: Path, kept: Mapping[str, NDArray[Any]]) -> None:
    """Write kept predictions: arrays only, no pickle."""
    np.savez_compressed(path, allow_pickle=False, **dict(kept))


def load_predictions(folder: Path) -> dict[str, NDArray[Any]]:
    """Kept predictions of a record: arrays (T+1, N) per row and test sample, and ``probe`` and ``y`` (N,)."""
    path = folder / "predictions.npz"
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError) as error:
        raise RecordError(f"{path}: no kept predictions here ({error})") from error


def total(values: list[float | None]) -> float:
    """Sum; NaN when any addend is missing."""
    return math.nan if any(v is None for v in values) else float(sum(v for v in values if v is not None))
