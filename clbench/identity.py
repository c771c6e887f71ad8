"""What decides a result, as plain data: the part of a card that does, and the fingerprint of a stream."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from clbench.compose import complete
from clbench.places import config, names

# Fields of a card that have no effect on a result.
PROSE = frozenset({"summary", "licence", "citation", "notes", "fingerprint", "backbone", "reported", "obtain"})

PLACES = frozenset({"weights", "folder"})  # of a backbone: where its weights lie; what they are is hashed
# The strategies of clbench that see what a continual learner must not see.
REFERENCES = frozenset(
    f"clbench.strategies.{name}" for name in ("cumulative.Cumulative", "independent.Independent", "joint.Joint")
)


def decisive(card: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a card that a result depends on."""
    return {name: value for name, value in card.items() if name not in PROSE}


@cache
def shipped_card(name: str) -> dict[str, Any] | None:
    """The card that clbench ships under this name, every optional field present; None where it ships none."""
    return complete(config("scenario", name)) if name in names("scenario") else None


@cache
def shipped_config(group: str, name: str) -> dict[str, Any]:
    """A configuration that clbench ships; empty where it ships none."""
    return config(group, name) if name in names(group) else {}


def shipped_target(group: str, name: str) -> str | None:
    """The class, ``package.module.Class``, of a configuration that clbench ships; None where it ships none."""
    return shipped_config(group, name).get("_target_")


def backbone_label(model: str) -> str:
    """The backbone that the label of a model names, ``MODEL on BACKBONE``; empty where it names none.

    >>> backbone_label("features on lite0[weights=b]"), backbone_label("mlp[targets.template=a digit on {}]")
    ('lite0[weights=b]', '')
    """
    parts = re.fullmatch(r"(?:[^\[]*?|[^\[]*\[.*\]) on ([^\[\] ]+(?:\[.*\])?)", model)
    return parts[1] if parts else ""


def stream_fingerprint(protocol: str, tasks: Iterable[str], augment: Mapping[str, Any] | None) -> str:
    """The fingerprint of a stream: its protocol, those of its tasks, and its augmentation; 32 hexadecimal digits."""
    parts = [protocol, *tasks]
    if augment:
        parts.append(json.dumps(dict(augment), sort_keys=True))
    return hashlib.sha256("".join(parts).encode()).hexdigest()[:32]
