"""Text sources: the CLINC150 intents, and a user's own CSV."""

from __future__ import annotations

import csv as csv_format
import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from clbench.data.sources import Source
from clbench.data.text import encode_texts
from clbench.errors import BadInput, DataMissing, unknown

CLINC150, DOMAINS = "clinc150_full.json", "clinc150_domains.json"
WHERE = "set CLBENCH_DATA (or data_dir=FOLDER) to the folder that holds it"


def clinc150(data_dir: Path, domains: bool = False) -> Source:
    """150 intents of a voice assistant: 15,000 training and 4,500 test questions; with ``domains``, in 10 groups of 15.

    Its validation and out-of-scope questions are not read.

    Source: Larson et al., An evaluation dataset for intent classification and out-of-scope prediction, EMNLP 2019.
    """
    data = _json(data_dir / CLINC150, "data_full.json of github.com/clinc/oos-eval")
    try:
        pairs = [(str(text), str(intent), half) for half in ("train", "test") for text, intent in data[half]]
    except (KeyError, TypeError, ValueError) as error:
        raise DataMissing(f"{data_dir / CLINC150}: expected lists 'train' and 'test' of [text, intent]") from error
    source = labelled_texts("clinc150", *zip(*pairs, strict=True))
    if not domains:
        return source
    listed = _json(data_dir / DOMAINS, "domains.json of github.com/clinc/oos-eval")
    group_of = {intent: number for number, intents in enumerate(listed.values()) for intent in intents}
    if missing := [name for name in source.class_names if name not in group_of]:
        raise DataMissing(f"{data_dir / DOMAINS}: intent '{missing[0]}' is in none of the domains")
    group = np.array([group_of[name] for name in source.class_names], dtype=np.int64)
    return replace(source, group=group, group_names=tuple(listed))


def csv(data_dir: Path, path: str, text: str = "text", label: str = "label", split: str | None = None) -> Source:
    """Texts in a CSV file (UTF-8, a header in the first line): a column of texts, one of labels.

    ``split``: a column that says ``train`` or ``test`` in every line, where the data have an official split.
    Raises ``BadInput`` that names line and column.
    """
    file = Path(path).expanduser()
    file = file if file.is_absolute() else data_dir / file
    columns = [text, label] if split is None else [text, label, split]
    rows = _read(file, columns)
    for line, row in rows:
        for column, value in zip(columns, row, strict=True):
            if not value:
                raise BadInput(f"{file}, line {line}: column '{column}' is empty")
        if split is not None and row[2] not in ("train", "test"):
            raise BadInput(f"{file}, line {line}: column '{split}' must say train or test; got '{row[2]}'")
    if split is not None and len({row[2] for _, row in rows}) < 2:
        raise BadInput(f"{file}: column '{split}' needs both train and test rows")
    if len({row[1] for _, row in rows}) < 2:
        raise BadInput(f"{file}: column '{label}' needs at least two different labels to tell apart")
    return labelled_texts(file.stem, *zip(*(row for _, row in rows), strict=True))


def labelled_texts(name: str, texts: Sequence[str], labels: Sequence[str], halves: Sequence[str] = ()) -> Source:
    """A source from texts and their labels; ``halves`` says train or test where there is an official split."""
    names, y = np.unique(np.array(labels), return_inverse=True)
    samples, y = encode_texts(texts), y.astype(np.int64)
    is_test = np.array([half == "test" for half in halves]) if halves else None
    digest = hashlib.sha256(json.dumps([samples.shape, [str(n) for n in names], list(halves)]).encode())
    digest.update(samples.tobytes() + y.astype("<i8").tobytes())
    return Source(name, samples, y, tuple(map(str, names)), digest.hexdigest(), is_test, modality="text")


def _read(file: Path, columns: list[str]) -> list[tuple[int, list[str]]]:
    """Line number and the values of these columns, stripped, of every row."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            reader = csv_format.reader(opened, strict=True)
            header = next(reader, [])
            for column in columns:
                if column not in header:
                    raise BadInput(f"{file}, line 1: {unknown('column', column, header)}")
            rows = [(reader.line_num, row) for row in reader if row]
    except FileNotFoundError as error:
        raise DataMissing(f"no data at '{file}'\n  expected a CSV file with columns {columns}; {WHERE}") from error
    except UnicodeDecodeError as error:
        raise DataMissing(f"{file} is not UTF-8 text: {error}") from error
    except csv_format.Error as error:
        raise DataMissing(f"{file}, line {reader.line_num}: not readable as CSV: {error}") from error
    except OSError as error:
        raise DataMissing(f"{file} cannot be read: {error.strerror or error}") from error
    if not rows:
        raise DataMissing(f"{file} holds no rows below its header")
    for line, row in rows:
        if len(row) != len(header):
            raise BadInput(
                f"{file}, line {line}: {len(row)} fields, but the header has {len(header)}; "
                "a text that holds commas, quotes or line ends goes into double quotes"
            )
    return [(line, [row[header.index(c)].strip() for c in columns]) for line, row in rows]


def _json(file: Path, what: str) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataMissing(f"no data at '{file}'\n  expected {what}; {WHERE}") from error
    except (OSError, ValueError) as error:
        raise DataMissing(f"{file} cannot be read as JSON: {error}") from error
    if not isinstance(found, dict):
        raise DataMissing(f"{file} is not {what}")
    return found
