"""What a record says of its run: the kinds of its parts, identity, labels and card."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from clbench.identity import (
    PLACES,
    PROSE,
    REFERENCES,
    backbone_label,
    decisive,
    shipped_card,
    shipped_config,
    shipped_target,
)

Data = Mapping[str, Any]
LABELS = ("scenario", "strategy", "model", "trainer")
SEEDS = frozenset({"order", "split", "init", "shuffle", "augment", "strategy"})
TEXT = (str, type(None))
HUGE = 2**63
KINDS: Mapping[str, type[Any] | tuple[type[Any], ...]] = {
    **dict.fromkeys(("identity", "names", "card", "result", "environment", "curves"), dict),
    "costs": list,
    "reference": bool,
    "command": TEXT,
    "reason": TEXT,
}


def whole(value: Any, least: int = 0) -> bool:
    """Whether it is a whole number from ``least`` on, of 64 bits."""
    return type(value) is int and bool(least <= value < HUGE)


def text(*values: Any) -> bool:
    """Whether all are text."""
    return all(type(value) is str for value in values)


def number(value: Any) -> bool:
    """Whether it is a finite number."""
    return type(value) in (int, float) and math.isfinite(value)


def outline(data: Data) -> Iterator[str]:
    """Every part is of its kind."""
    for name, kind in KINDS.items():
        if not isinstance(data[name], kind):
            yield f"its {name} is no {'text' if isinstance(kind, tuple) else kind.__name__}; got {data[name]!r:.60}"
    if not whole(data["seed"]):
        yield f"its seed must be a whole number from 0 on, below 2**63; got {data['seed']!r:.60}"
    if data["status"] not in ("ok", "failed", "skipped"):
        yield f"unknown status {data['status']!r:.60}"
    for name, value in data["environment"].items():
        plain = text(*value.values()) if isinstance(value, dict) else not isinstance(value, list)
        if not plain:  # places of files have names, all else is one value
            yield f"the {name} of its environment is {value!r:.60}"
        if name == "backbone" and (more := sorted({*value} - PLACES)):
            yield f"the backbone of its environment says more than where its files lie: {more}"
    command = data["command"]
    if command is not None and (command[:12] != "clbench run " or shlex.join(shlex.split(command)) != command):
        yield f"its command is more than one clbench run: {command!r:.60}"


def identity(data: Data) -> Iterator[str]:
    """All that decides the result is there, and the seed is one of its seeds."""
    own = data["identity"]
    if missing := [part for part in ("scenario", "strategy", "model", "seeds", "execution") if part not in own]:
        yield f"its identity lacks: {', '.join(missing)}"
    for part in ("strategy", "model"):
        wanted = {"target": str, "parameters": dict, "code": str}
        if not all(isinstance(own[part][name], kind) for name, kind in wanted.items()):
            yield f"its identity does not say target, parameters and code of the {part}"
    if "backbone" in own and not text(own["backbone"]["backbone"]["_target_"]):
        yield "its identity does not say the target of the backbone"
    execution = own["execution"]
    if not (text(execution["device"]) and whole(execution["threads"], 1)):
        yield f"its identity does not say device and threads of the execution; got {execution!r:.60}"
    seeds = own["seeds"]
    if not isinstance(seeds, dict) or not set(seeds) >= SEEDS or not all(map(whole, seeds.values())):
        yield f"its identity does not say its seeds ({', '.join(sorted(SEEDS))}); got {seeds!r:.60}"
    if data["seed"] not in seeds.values():
        yield f"it is labelled seed {data['seed']}, but its identity has {sorted(set(seeds.values()))}"


def labels(data: Data) -> Iterator[str]:
    """No label is a path that points elsewhere, or the name of something else that clbench ships."""
    for group in LABELS:
        label = data["names"].get(group)
        base = label.partition("[")[0] if isinstance(label, str) and label.isprintable() else ""
        if not base or re.search(r"[/\\]|^\.", base):
            yield f"its {group} is labelled {label!r:.60}, which is no name: missing, or a path that points elsewhere"
        shipped = shipped_target(group, base.partition(" on ")[0]) if group in ("strategy", "model") else None
        if shipped and shipped != (target := data["identity"][group]["target"]):
            yield f"it is labelled {group} '{base}', which is {shipped}; but its {group} is {target}"
    yield from _backbone(data)
    target = data["identity"]["strategy"]["target"]
    if target.startswith("clbench.strategies.") and data["reference"] != (target in REFERENCES):
        yield f"it says that {target} is {'a' if data['reference'] else 'no'} reference"


def _backbone(data: Data) -> Iterator[str]:
    """A model that is labelled ``NAME on BACKBONE`` stands on one, and on that which the label says."""
    own, label = data["identity"].get("backbone"), backbone_label(data["names"]["model"])
    name = label.partition("[")[0]
    if label and own is None:
        yield f"its model is labelled '{data['names']['model']}', but its identity has no backbone"
    elif own and name == label and (known := shipped_config("backbone", name)):
        settings = own["backbone"]
        if fields := [key for key in settings if settings[key] != known.get(key)]:
            yield f"it is labelled backbone '{name}', which differs from the backbone of its identity in: {fields}"


def card(data: Data) -> Iterator[str]:
    """The card is that of the identity, and of a shipped name the shipped one."""
    own, label = data["identity"]["scenario"], data["names"]["scenario"]
    if fields := _differing(decisive(data["card"]), own):
        yield f"its card is not the one of its identity; they differ in: {fields}"
    for name in PROSE:
        value = data["card"].get(name)
        if not isinstance(value, list if name == "reported" and value else TEXT):
            yield f"the {name} of its card is no {'list' if name == 'reported' else 'text'}: {value!r:.60}"
    shipped = shipped_card(label)
    if shipped and (fields := _differing(decisive(shipped), own)):
        yield f"its card differs from the '{label}' that clbench ships, in: {fields}"


def _differing(one: Data, other: Data) -> str:
    """Names of the fields that differ; one that is not there has no value (older records have fewer fields)."""
    return ", ".join(sorted(k for k in {*one, *other} if one.get(k) != other.get(k)))


def empty(data: Data) -> Iterator[str]:
    """A run that did not end has a reason, and no result."""
    if full := [name for name in ("result", "costs", "curves") if data[name]]:
        yield f"its status is {data['status']}, and yet it holds: {', '.join(full)}"
    if not data["reason"]:
        yield f"its status is {data['status']}, but it gives no reason"
