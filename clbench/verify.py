"""Repeating the run of a record, and saying whether the same comes out."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from clbench.agreement import FIRM, MACHINE, TOLERANCE, matrix_difference
from clbench.backbones import make_backbone
from clbench.cards import Scenario
from clbench.errors import BadInput
from clbench.experiment import Experiment, make_strategy, parse_device
from clbench.identity import PLACES
from clbench.loop import Extras
from clbench.models import Model
from clbench.plugins import construct, import_class
from clbench.record import Record, same_result
from clbench.seeds import Seeds
from clbench.session import execute
from clbench.store import Store
from clbench.strategy import Trainer

PACKAGES: Final = {"strategy": "clbench.strategies.", "model": "clbench.models.", "backbone": "clbench.backbones."}
BUILD = ("clbench", "commit", "python", *MACHINE)
ELSEWHERE = (
    "rounding alone, as another machine or build does it, can move unstable training: compare means over seeds, "
    "or allow more with --tolerance"
)
Grade = Literal["bit-identical", "within tolerance", "NOT reproduced"]


@dataclass(frozen=True)
class Verdict:
    """What became of a repetition: ``differences`` of the results, and of what made them."""

    grade: Grade
    differences: tuple[str, ...] = ()
    surroundings: tuple[str, ...] = ()


def verify(record: Record, data_dir: Path, *, tolerance: float = TOLERANCE, trust: bool = False) -> Verdict:
    """Repeat the run that a record's identity describes, in a temporary place, and compare the results.

    ``trust``: import code outside clbench where the record names some. Raises ``ClbenchError`` where the run cannot be
    repeated here: data or weights are missing, code is not trusted, there is no such device.
    """
    exp = rebuild(record, data_dir, trust=trust)
    surroundings = [*_differences(record.identity, _plain(exp.identity()))]
    with tempfile.TemporaryDirectory(prefix="clbench-verify-") as folder:
        again = execute(exp, Store(Path(folder)), keep=False).record
    surroundings += _differences({k: record.environment.get(k) for k in BUILD}, again.environment)
    return compare(record, again, surroundings, tolerance)


def rebuild(record: Record, data_dir: Path, *, trust: bool = False) -> Experiment:
    """The experiment that a record's identity describes; its command, a text, is not read."""
    parts = record.identity
    backbone = dict(parts["backbone"]["backbone"]) if "backbone" in parts else None
    targets = {"strategy": parts["strategy"]["target"], "model": parts["model"]["target"]}
    for kind, target in (targets | ({"backbone": str(backbone["_target_"])} if backbone else {})).items():
        if not (trust or target.startswith(PACKAGES[kind])):
            raise BadInput(
                f"its {kind} is code outside clbench: {target}\n"
                "  if you trust it, make it importable from here and add --trust-imports"
            )
    if backbone:
        places = record.environment.get("backbone", {})
        backbone |= {name: places[name] for name in PLACES if name in places}  # where its files lie, and nothing else
    return Experiment(
        scenario=Scenario.from_card(record.card),
        strategy=make_strategy({**parts["strategy"]["parameters"], "_target_": targets["strategy"]}, Trainer()),
        backbone=make_backbone(backbone) if backbone else None,
        model_class=import_class(targets["model"], Model, "model"),
        model_options=parts["model"]["parameters"],
        seed=record.seed,
        seeds=construct(Seeds, parts["seeds"], "seeds"),
        device=parse_device(str(parts["execution"].get("device", "cpu"))),
        threads=int(parts["execution"].get("threads", 1)),
        data_dir=data_dir,
        names=record.names,
        command=record.command,
        extras=Extras.of(record.curves, record.costs),
    )


def compare(record: Record, again: Record, surroundings: list[str], tolerance: float = TOLERANCE) -> Verdict:
    """Whether a repetition gave what a record holds: the same bits where nothing around it differs, else nearly.

    Matrices may then differ as ``matrix_difference`` allows; the stream, and what is counted without rounding, not at
    all.
    """
    told = tuple(surroundings)
    if same_result(record, again) and (record.curves, record.reference) == (again.curves, again.reference):
        return Verdict("bit-identical", (), told)
    if record.status != "ok" or again.status != "ok":
        same = (record.status, _why(record)) == (again.status, _why(again))
        line = f"the record is {record.status} ({_why(record)}), the repetition {again.status} ({_why(again)})"
        return Verdict("bit-identical", (), told) if same else Verdict("NOT reproduced", (line,), told)
    firm = [*_of_stream(record, again)]
    there = again.result["matrices"]
    found = [
        matrix_difference(record.matrix(name), again.matrix(name), tolerance) if name in there else (None, False)
        for name in record.result["matrices"]
    ]
    lines, close = [line for line, _ in found if line], not firm and all(near for _, near in found)
    lines += [*firm, *_of_counts(record, again)]
    if record.curves != again.curves:
        lines.append("the curves of the probes during training differ")
    if surroundings and not close:
        lines.append(ELSEWHERE)
    return Verdict("within tolerance" if close and surroundings else "NOT reproduced", tuple(lines), told)


def _of_stream(record: Record, again: Record) -> Iterator[str]:
    one, other = record.result, again.result
    if one["fingerprint"] != other["fingerprint"] or one["tasks"] != other["tasks"]:
        yield f"the stream is another: fingerprint {one['fingerprint']} in the record, {other['fingerprint']} here"
    for k, (a, b) in enumerate(zip(one["counts"], other["counts"], strict=False), start=1):
        for name in FIRM:
            if name in a and a[name] != b.get(name):
                yield f"task {k}: {name} {a[name]} in the record, {b.get(name)} here"
    if record.reference != again.reference:
        yield f"reference: {record.reference} in the record, {again.reference} here"
    if missing := [name for name in one["matrices"] if name not in other["matrices"]]:
        yield f"the repetition gives no matrices: {', '.join(missing)}"


def _of_counts(record: Record, again: Record) -> Iterator[str]:
    for k, (a, b) in enumerate(zip(record.result["counts"], again.result["counts"], strict=False), start=1):
        for name in [name for name in a if name not in FIRM and a[name] != b.get(name)]:
            yield f"task {k}: {name} {a[name]} in the record, {b.get(name)} here"


def _why(record: Record) -> str:
    """The reason of a failure, without the line of code, which moves."""
    return (record.reason or "").partition(" (at ")[0] or "ok"


def _differences(one: Mapping[str, Any], other: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Where plain data differ, by dotted names."""
    for name in one:
        a, b = one[name], other.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            yield from _differences(a, b, f"{prefix}{name}.")
        elif a != b:
            yield f"{prefix}{name}: {a} in the record, {b} here"
    for name in [name for name in other if prefix and name not in one]:
        yield f"{prefix}{name}: not in the record, {other[name]} here"


def _plain(data: Any) -> Any:
    return json.loads(json.dumps(data))
