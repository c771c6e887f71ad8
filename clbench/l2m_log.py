"""Runs as lifetimes in the log format 1.1 of l2logger, which l2metrics reads; written as plain text, without either.

``OUT/SCENARIO/MODEL-TRAINER/seedN`` is an ``L2DATA`` folder of its own, so that experts meet only the runs that share
their tasks: ``logs/`` holds a folder for each run, ``experts/`` one for each single-task expert, which are what the
reference strategy ``independent`` trained.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from clbench.errors import RecordError
from clbench.measured import learning_blocks, other_probes
from clbench.oracles import EXPERT
from clbench.record import Record
from clbench.store import safe_name

COLUMN = "performance"
FIELDS = (
    *("block_num", "exp_num", "worker_id", "block_type", "block_subtype", "task_name"),
    *("task_params", "exp_status", "timestamp", COLUMN),
)
CURVES = "accuracy on {samples} test samples of the task, every {every} optimiser steps and after the last"
NO_CURVES = (
    "one experience a block, the score R[i,i]: the record has no in-training curves, so figures of them say nothing"
)


@dataclass(frozen=True)
class Block:
    """One block of a lifetime: ``train`` or ``test``, and per task (from 1) its scores, one an experience."""

    kind: str
    scores: dict[int, list[float]]
    seconds: float = 0.0


@dataclass(frozen=True)
class Exported:
    """What was written, what of it has no training curves, and which records were left out and why."""

    lifetimes: tuple[Path, ...]
    experts: tuple[Path, ...]
    without_curves: tuple[str, ...] = field(default_factory=tuple)
    left_out: tuple[str, ...] = field(default_factory=tuple)


def export(records: Iterable[Record], out: Path) -> Exported:
    """Write the lifetime of every record that is one, and the experts among them; those that are not are named.

    What an earlier export left where it writes goes first. Raises ``RecordError`` when the folder cannot be written.
    """
    left_out = []
    lives: dict[Path, list[Record]] = defaultdict(list)
    experts: dict[Path, list[Record]] = defaultdict(list)
    for record in records:
        if reason := refusal(record):
            left_out.append(f"{label(record)}: {reason}")
        else:
            (experts if record.reference else lives)[root(record, out)].append(record)
    for place in lives.keys() | experts.keys():
        _empty(place)
    alone: list[Path] = []
    for place, several in experts.items():
        chosen, refused = _one_expert(several, lives[place])
        left_out += refused
        if chosen:
            alone += [_write(place, chosen, "ste", expert(chosen, k), k) for k in range(1, _n(chosen) + 1)]
    lifetimes = [_write(place, r, "condensed", blocks(r)) for place, own in lives.items() for r in own]
    without = [label(r) for own in lives.values() for r in own if not r.curves]
    return Exported(tuple(lifetimes), tuple(alone), tuple(without), tuple(left_out))


def _one_expert(several: list[Record], lives: list[Record]) -> tuple[Record | None, list[str]]:
    """The one run of experts whose curves can be compared with those of all lifetimes, and why others are left out."""
    unlike = {r.id: next(filter(None, (other_probes(life, r) for life in lives)), "") for r in several}
    refused = [f"{label(r)}: {unlike[r.id]}" for r in several if unlike[r.id]]
    alike = [r for r in several if not unlike[r.id]]
    if len(alike) > 1:
        refused += [f"{label(r)}: {len(alike)} records of it share model, trainer and seed" for r in alike]
    return (alike[0] if len(alike) == 1 else None), refused


def refusal(record: Record) -> str | None:
    """Why a record is no lifetime of one task a learning block, or None."""
    if record.status != "ok":
        return f"the run {record.status}: {record.reason}"
    if record.reference and record.names["strategy"].partition("[")[0] != EXPERT:
        return "a reference trains several tasks in one block; l2metrics would book one's gain as transfer from another"
    if record.reference and not record.curves:
        return "without in-training curves it is no single-task expert; run it again with probe_every=N"
    if missing := np.argwhere(np.isnan(record.matrix().values)).tolist():
        row, column = missing[0]
        cells = f"{len(missing)} cells, R[{row},{column + 1}] first" if len(missing) > 1 else f"R[{row},{column + 1}]"
        return f"its score matrix lacks {cells}; every block scores every task"
    return None


def label(record: Record) -> str:
    """A record in words."""
    return f"{record.names['scenario']} {record.names['strategy']} seed {record.seed} ({record.id})"


def root(record: Record, out: Path) -> Path:
    """The ``L2DATA`` folder of a record: shared by the runs and experts of the same tasks, model and trainer."""
    names = record.names
    return out / safe_name(names["scenario"]) / safe_name(f"{names['model']}-{names['trainer']}") / f"seed{record.seed}"


def blocks(record: Record) -> Iterator[Block]:
    """An evaluation block for each row of the score matrix, and before each but the first the training of a task."""
    matrix = record.matrix().values
    curves = learning_blocks(record) or [[float(score)] for score in np.diagonal(matrix[1:])]
    yield Block("test", {k: [float(score)] for k, score in enumerate(matrix[0], start=1)})
    for task, (row, curve, cost) in enumerate(zip(matrix[1:], curves, record.costs, strict=True), start=1):
        yield Block("train", {task: curve}, cost.get("train_seconds") or 0.0)
        scores = {k: [float(score)] for k, score in enumerate(row, start=1)}
        yield Block("test", scores, cost.get("evaluate_seconds") or 0.0)


def expert(record: Record, task: int) -> Iterator[Block]:
    """The life of the model that a record of ``independent`` trained on one task."""
    matrix, cost = record.matrix().values, record.costs[task - 1]
    yield Block("test", {task: [float(matrix[0, task - 1])]})
    yield Block("train", {task: learning_blocks(record)[task - 1]}, cost.get("train_seconds") or 0.0)
    yield Block("test", {task: [float(matrix[task, task - 1])]}, cost.get("evaluate_seconds") or 0.0)


def task_name(record: Record, task: int) -> str:
    """A task as l2logger wants it, ``LABEL_VARIANT``; another seed has other tasks.

    Labels are of one length, as l2metrics looks for one within another.
    """
    variant = re.sub(r"[^0-9a-z]", "", record.names["scenario"].lower())
    return f"task{task:0{len(str(_n(record)))}}_{variant}seed{record.seed}"


def _empty(place: Path) -> None:
    """Remove what was written in a place before, and what l2metrics stored there of its experts."""
    try:
        for kind in ("logs", "experts"):
            for log in place.glob(f"{kind}/*/"):
                shutil.rmtree(log)
        for stored in place.glob("taskinfo/*.pickle"):
            stored.unlink()
    except OSError as error:
        raise RecordError(f"cannot empty '{place}': {error.strerror or error}") from error


def _write(place: Path, record: Record, kind: str, content: Iterable[Block], task: int | None = None) -> Path:
    """Write one lifetime anew; the clock of its time stamps begins in 1970, for a record has no date."""
    trained = f"_{task_name(record, task)}" if task else ""
    name = safe_name(f"{record.names['strategy']}_seed{record.seed}_{record.id}{trained}").replace(".", "_")
    folder = place / ("experts" if task else "logs") / f"{name}-0-0"
    try:
        folder.mkdir(parents=True)
        _write_json(folder / "logger_info.json", {"metrics_columns": [COLUMN], "log_format_version": "1.1"})
        _write_json(folder / "scenario_info.json", _info(record, kind))
        experience, seconds = 0, 0.0
        for number, block in enumerate(content):
            seconds += block.seconds
            rows = list(_rows(record, number, block, experience, seconds))
            experience += len(rows)
            path = folder / "worker-default" / f"{number}-{block.kind}" / "data-log.tsv"
            path.parent.mkdir(parents=True)
            with path.open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file, delimiter="\t", lineterminator="\n")
                writer.writerows([FIELDS, *rows])
    except OSError as error:
        raise RecordError(f"cannot write a log to '{place}': {error.strerror or error}") from error
    return folder


def _rows(record: Record, number: int, block: Block, experience: int, seconds: float) -> Iterator[tuple[Any, ...]]:
    when = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)).strftime("%Y%m%dT%H%M%S.%f")
    named = ((task_name(record, task), score) for task, scores in block.scores.items() for score in scores)
    for count, (name, score) in enumerate(named, start=experience):
        yield number, count, "worker-default", block.kind, "wake", name, "{}", "complete", when, repr(score)


def _info(record: Record, kind: str) -> dict[str, Any]:
    curves = {key: record.curves[key] for key in ("samples", "every")} if record.curves else {}
    return {
        "complexity": "2-intermediate",
        "difficulty": "2-medium",
        "scenario_type": kind,
        "labels": "complexity and difficulty are not measured; the format wants a value, and these are the middle ones",
        "learning_blocks": CURVES.format(**curves) if curves else NO_CURVES,
        "evaluation_blocks": "the rows of the score matrix, one experience a task",
        "timestamps": "seconds of training and evaluation since the run began, counted from 1970",
        "record": record.id,
        "seed": record.seed,
        "fingerprint": record.result["fingerprint"],
        "protocol": record.card["protocol"],
        "tasks": {task_name(record, k): task["class_names"] for k, task in enumerate(record.result["tasks"], start=1)},
        **record.names,
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _n(record: Record) -> int:
    return record.matrix().n_tasks
