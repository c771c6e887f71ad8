"""Records as no run leaves them: edited by accident, by a stranger, or with care."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from clbench.identity import stream_fingerprint
from clbench.record import FILE, digest

Edit = Callable[[dict[str, Any]], Any]


def edited(path: Path, edit: Edit, *, with_care: bool = True) -> None:
    """Change the content of a ``record.json``; with care, its hashes too."""
    data = json.loads(path.read_text())
    edit(data)
    if with_care:
        data["id"] = digest(data["identity"])[:12]
        data |= {f"{part}_sha256": digest(data[part]) for part in ("result", "curves")}
    path.write_text(json.dumps(data))


def as_schema_1(path: Path) -> None:
    """The same record as the first clbench would have written it."""
    data = json.loads(path.read_text())
    for name in ("curves", "curves_sha256"):
        del data[name]
    for name in ("negative_log_likelihood", "brier_score", "expected_calibration_error"):
        del data["result"]["matrices"][name]
    path.write_text(json.dumps(data | {"schema": 1, "result_sha256": digest(data["result"])}))


def accuracy(data: dict[str, Any], name: str = "accuracy") -> list[list[Any]]:
    values: list[list[Any]] = data["result"]["matrices"][name]["values"]
    return values


def curve(data: dict[str, Any]) -> list[list[Any]]:
    values: list[list[Any]] = data["curves"]["accuracy"]
    return values


def set_cell(value: Any, i: int = 2, j: int = 1, name: str = "accuracy") -> Edit:
    def edit(data: dict[str, Any]) -> None:
        accuracy(data, name)[i][j] = value

    return edit


def set_field(value: Any, *names: Any) -> Edit:
    def edit(data: Any) -> None:
        for name in names[:-1]:
            data = data[name]
        data[names[-1]] = value

    return edit


def lowered(data: dict[str, Any]) -> None:
    """A sample of a task that was not trained yet is wrong, which was right."""
    n_test = data["result"]["tasks"][1]["n_test"]
    right = round(data["result"]["matrices"]["accuracy"]["values"][0][1] * n_test)
    assert right
    set_cell((right - 1) / n_test, 0, 1)(data)


def another_stream(data: dict[str, Any]) -> None:
    """A fingerprint that is consistent in itself, of other data."""
    tasks = data["result"]["tasks"]
    tasks[0]["fingerprint"] = "0" * 32
    made = stream_fingerprint(data["card"]["protocol"], (t["fingerprint"] for t in tasks), data["card"]["augment"])
    data["result"]["fingerprint"] = made


def without(name: str) -> Edit:
    def edit(data: dict[str, Any]) -> None:
        del data[name]

    return edit


def relabelled_card(data: dict[str, Any]) -> None:
    data["card"]["test_fraction"] = data["identity"]["scenario"]["test_fraction"] = 0.5


def perfect(data: dict[str, Any]) -> None:
    """All right in every cell, and sure of it."""
    for name, value in (("accuracy", 1.0), ("task_masked_accuracy", 1.0), ("negative_log_likelihood", 0.0)):
        accuracy(data, name)[:] = [[value] * 5] * 6
    accuracy(data, "brier_score")[:] = [[0.0] * 5] * 6
    data["curves"] = {}


CAREFUL: Mapping[str, tuple[Edit, str]] = {
    "a method that passes for a reference": (set_field(True, "reference"), "is a reference"),
    "a count beyond 64 bits": (
        set_field(10**400, "result", "counts", 1, "state_bytes"),
        "must be a whole number from 0 on, below 2**63",
    ),
    "a time beyond measure": (
        set_field(1e308, "costs", 0, "train_seconds"),
        "null or a number from 0 to 1e+10",
    ),
    "a model on a backbone that is not there": (set_field("mlp on lite0", "names", "model"), "has no backbone"),
    "a place that is code": (
        set_field({"_target_": "evil.Evil"}, "environment", "backbone"),
        "says more than where its files lie: ['_target_']",
    ),
    "a loss too high for what is right": (
        set_cell(27.0, 1, 0, "negative_log_likelihood"),
        "too high for an accuracy of",
    ),
    "a Brier score too high for what is right": (set_cell(1.9, 1, 0, "brier_score"), "too high for an accuracy of"),
    "a flipped digit": (set_cell(0.8712345), "R[2, 2] is 0.8712345, no share of"),
    "an impossible value": (set_cell(1.5), "R[2, 2] is 1.5; it must lie in [0, 1]"),
    "a value below those with tasks told": (set_cell(0.0, name="task_masked_accuracy"), "which cannot be less"),
    "a loss too small": (set_cell(0.0, 4, 0, "brier_score"), "too low for an accuracy of"),
    "wider bounds": (set_field([0, 2], "result", "matrices", "accuracy", "bounds"), "does not say that it is"),
    "a null cell": (set_cell(None), "R[2, 2] is missing"),
    "a cell of text": (set_cell("0.5"), "row 2 holds more than numbers and null"),
    "a cell that is true": (set_cell(True), "row 2 holds more than numbers and null"),
    "a foreign fingerprint": (another_stream, "the card 'split_digits-v1' says"),
    "a fingerprint of nothing": (set_field("f" * 32, "result", "fingerprint"), "but its tasks make"),
    "a missing seed": (without("seed"), "lacks: seed"),
    "another seed": (set_field(7, "seed"), "it is labelled seed 7, but its identity has [0]"),
    "a newer schema": (set_field(99, "schema"), "has schema 99, made by a newer clbench; this one reads"),
    "a truncated array": (lambda data: accuracy(data).pop(), "matrix 'accuracy' has 5 rows"),
    "a ragged array": (lambda data: accuracy(data)[3].pop(), "row 3 has 4 cells"),
    "a missing matrix": (lambda data: data["result"]["matrices"].pop("accuracy"), "lacks the matrices: accuracy"),
    "too few tasks": (lambda data: data["result"]["tasks"].pop(), "it has 4 tasks; its card says n_tasks 5"),
    "too few counts": (lambda data: data["result"]["counts"].pop(), "its counts are of 4 tasks; it has 5"),
    "too few costs": (lambda data: data["costs"].pop(), "its costs are of 4 tasks; it has 5"),
    "a negative cost": (lambda data: data["costs"][1].update(train_seconds=-1.0), "task 2: train_seconds must be"),
    "no test samples": (lambda data: data["result"]["tasks"][0].update(n_test=0), "task 1: n_train and n_test"),
    "another card": (relabelled_card, "differs from the 'split_digits-v1' that clbench ships, in: test_fraction"),
    "a card not its own": (set_field(3, "card", "n_tasks"), "its card is not the one of its identity"),
    "another strategy": (set_field("replay", "names", "strategy"), "it is labelled strategy 'replay', which is"),
    "a label that is a path": (set_field("../../../evil", "names", "strategy"), "a path that points elsewhere"),
    "an absolute label": (set_field("/evil", "names", "model"), "a path that points elsewhere"),
    "a seed that is a path": (set_field("../../evil", "seed"), "its seed must be a whole number"),
    "code in a field": (set_field("cos\nsystem\n(S'touch evil'\ntR.", "pickle"), "holds what no record of schema"),
    "a command that does more": (
        set_field("clbench run scenario=x; touch evil", "command"),
        "more than one clbench run",
    ),
    "another command": (set_field("touch evil", "command"), "more than one clbench run"),
    "a card without text": (set_field({"a": 1}, "card", "citation"), "the citation of its card is no text"),
    "a curve that ends elsewhere": (
        lambda data: curve(data)[0].__setitem__(-1, 0.5),
        "its curve of task 1 ends task 5 at",
    ),
    "a curve too short": (lambda data: curve(data)[0].pop(), "its curves are of 5 tasks with"),
    "a curve out of order": (lambda data: data["curves"]["task"].reverse(), "are not in order"),
    "a curve beyond 1": (lambda data: curve(data)[2].__setitem__(0, 1.5), "its curve of task 3 holds 1.5"),
    "names that are numbers": (set_field([1, 2], "result", "tasks", 0, "class_names"), "must be text"),
    "a strange device": (set_field([], "identity", "execution", "device"), "does not say device and threads"),
    "a strange backbone": (set_field([], "identity", "backbone"), "its identity cannot be read"),
    "a strange machine": (set_field(["x"], "environment", "processor"), "the processor of its environment is"),
    "uncounted samples": (lambda data: data["result"]["counts"][0].pop("stored_samples"), "lack stored_samples"),
    "half a character": (set_field("\ud800", "command"), "is truncated or not JSON"),
}


def link_elsewhere(path: Path) -> None:
    """The record itself lies outside of the folder, a link points there."""
    outside = path.parents[5] / "outside" / path.parent.name
    shutil.move(path.parent, outside)
    path.parent.symlink_to(outside)


def link_file(path: Path) -> None:
    outside = path.parents[5] / f"outside-{path.parent.name}.json"
    shutil.move(path, outside)
    path.symlink_to(outside)


# Faults of the file, and what is said of them.
CARELESS: Mapping[str, tuple[Callable[[Path], Any], str]] = {
    "a flipped digit": (
        lambda path: edited(path, set_cell(0.0, 5, 4), with_care=False),
        "its result part does not match its hash",
    ),
    "an edited identity": (
        lambda path: edited(path, set_field(2, "identity", "execution", "threads"), with_care=False),
        "its identity part does not match its hash",
    ),
    "half a file": (lambda path: path.write_text(path.read_text()[:3000]), "is truncated or not JSON"),
    "a NaN cell": (
        lambda path: path.write_text(path.read_text().replace("[0.0,", "[NaN,", 1)),
        "NaN is no number; a missing one is null",
    ),
    "nested without end": (lambda path: path.write_text("[" * 100_000), "is truncated or not JSON"),
    "no text": (lambda path: path.write_bytes(b"\x80\x04\x95"), "is truncated"),
    "a link to a record elsewhere": (link_file, "which is not followed"),
    "a folder elsewhere": (link_elsewhere, "which is not followed"),
}
FAULTS: Mapping[str, tuple[Callable[[Path], Any], str]] = {
    **{f"{name}, with care": (partial(edited, edit=edit), words) for name, (edit, words) in CAREFUL.items()},
    **CARELESS,
}


def copy_of(good: Path, root: Path, number: int) -> Path:
    """A copy of a record in a folder of its own; its ``record.json``."""
    target = root / "copies" / "of" / "one" / f"seed0-{number:02}"
    target.mkdir(parents=True)
    shutil.copy2(good, target / FILE)
    return target / FILE
