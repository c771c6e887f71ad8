"""What survives: nested plain state, counted in bytes and stored without pickle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clbench.errors import RecordError

PLAIN = (str, int, float, bool, type(None))
State = dict[str, Any]


def freeze(value: Any, where: str) -> Any:
    """Copy a value into plain state: tensors, scalars, and lists and dicts of them.

    Objects with a ``state_dict`` give theirs; a NumPy generator gives its position. Raises ``TypeError``
    that names the attribute for anything else.
    """
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, PLAIN):
        return value
    if isinstance(value, np.random.Generator):
        return {"bit_generator": json.dumps(value.bit_generator.state)}
    if hasattr(value, "state_dict"):
        return freeze(value.state_dict(), where)
    if isinstance(value, dict):
        return {_key(k, where): freeze(v, f"{where}[{k!r}]") for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [freeze(v, f"{where}[{k}]") for k, v in enumerate(value)]
    raise TypeError(f"{where} is a {type(value).__name__}; state is made of tensors, scalars, lists and dicts of them")


def thaw(current: Any, saved: Any) -> Any:
    """Return what an attribute becomes when ``saved`` is loaded; objects with a state are filled in place."""
    if isinstance(current, np.random.Generator):
        current.bit_generator.state = json.loads(saved["bit_generator"])
        return current
    if hasattr(current, "load_state_dict"):
        current.load_state_dict(freeze(saved, "state"))
        return current
    return freeze(saved, "state")


def _key(key: Any, where: str) -> Any:
    if isinstance(key, (str, int)) and not isinstance(key, bool):
        return key
    raise TypeError(f"{where} has a key {key!r}; keys of saved dicts are strings or integers")


def state_bytes(state: Any) -> int:
    """Bytes held by the tensors of a state (a tensor that occurs twice counts twice)."""
    if isinstance(state, Tensor):
        return state.numel() * state.element_size()
    if isinstance(state, dict):
        return sum(state_bytes(v) for v in state.values())
    if isinstance(state, list):
        return sum(state_bytes(v) for v in state)
    return 0


def save_state(path: Path, state: Any) -> None:
    """Write a state as one safetensors file: tensors as such, structure and scalars as JSON beside them."""
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {}

    def strip(value: Any) -> Any:
        if isinstance(value, Tensor):
            name = f"t{len(tensors)}"
            tensors[name] = value.detach().contiguous().cpu().clone()
            return {"tensor": name, "device": value.device.type} if value.is_cuda else {"tensor": name}
        if isinstance(value, dict):
            return {"dict": [[k, strip(v)] for k, v in value.items()]}
        if isinstance(value, (list, tuple)):
            return {"list": [strip(v) for v in value]}
        return {"plain": value}

    save_file(tensors, path, metadata={"structure": json.dumps(strip(state))})


def load_state(path: Path, accelerator: torch.device | str | None = None) -> Any:
    """Read what :func:`save_state` wrote; ``RecordError`` when the file is damaged.

    ``accelerator``: where tensors go that were on one when they were saved; None for the CPU, as all others.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            structure = json.loads(file.metadata()["structure"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise RecordError(f"{path} is not a readable clbench state: {error}") from error

    def build(node: dict[str, Any]) -> Any:
        kind, value = next(iter(node.items()))
        if kind == "tensor":
            return tensors[value].to(accelerator) if accelerator and node.get("device") else tensors[value]
        if kind == "dict":
            return {k: build(v) for k, v in value}
        if kind == "list":
            return [build(v) for v in value]
        return value

    return build(structure)
