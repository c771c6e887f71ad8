"""Finding training samples inside what a strategy holds: rows of tensors that are images of the stream."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clbench.stream import StreamSpec, TaskStream

DEPTH = 24  # of attributes within attributes; deeper than any network or plain state


def count_samples(holder: Any, stream: TaskStream) -> int:
    """Number of different training samples of a stream that occur in an object's tensors, arrays and lists.

    Copies are recognised as float or integer pixels, alone or as the first or last columns of wider rows.
    """
    known = _known(stream)
    found: set[bytes] = set()
    for tensor in tensors_in(holder):
        for rows in _as_rows(tensor, len(next(iter(known)))):
            found |= _keys(rows) & known
    return len(found)


def tensors_in(value: Any, depth: int = DEPTH, seen: set[int] | None = None) -> Iterator[Tensor]:
    """Every tensor reachable from a value through attributes, dicts and lists; lists of numbers as tensors."""
    seen = set() if seen is None else seen
    if depth < 0 or id(value) in seen or isinstance(value, (str, int, float, StreamSpec, type, type(None))):
        return
    seen.add(id(value))
    if isinstance(value, Tensor):
        yield value.detach().cpu()
    elif isinstance(value, np.ndarray):
        if value.dtype.kind in "iuf":
            yield torch.from_numpy(np.array(value))
    else:
        yield from _inside(value, depth, seen)


def _inside(value: Any, depth: int, seen: set[int]) -> Iterator[Tensor]:
    if isinstance(value, (list, tuple)) and value and _numbers(value[0]):
        try:
            yield torch.tensor(value, dtype=torch.float64)
        except (ValueError, TypeError):
            return  # ragged, so no images
        return
    parts: list[Any] = []
    if isinstance(value, dict):
        parts = list(value.values())
    elif isinstance(value, (list, tuple, set, frozenset)):
        parts = list(value)
    elif hasattr(value, "__dict__"):
        parts = list(vars(value).values())
    for part in parts:
        yield from tensors_in(part, depth - 1, seen)


def _numbers(value: Any) -> bool:
    while isinstance(value, (list, tuple)) and value:
        value = value[0]
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _as_rows(tensor: Tensor, width: int) -> Iterator[Tensor]:
    if tensor.numel() < width or tensor.is_complex():
        return
    if tensor.numel() % width == 0:
        yield tensor.reshape(-1, width)
    if tensor.ndim > 1 and tensor[0].numel() > width:
        flat = tensor.flatten(1)
        yield from (flat[:, :width], flat[:, -width:])
    if tensor.ndim == 2 and tensor.shape[0] == width:
        yield tensor.T


def _keys(rows: Tensor) -> set[bytes]:
    keys: set[bytes] = set()
    for scale in (255.0, 1.0):  # pixels in [0, 1], or as bytes
        scaled = rows.double() * scale
        pixels = scaled.round()
        fits = (((scaled - pixels).abs() < 0.3) & (pixels >= 0) & (pixels <= 255)).all(dim=1)
        keys.update(row.tobytes() for row in pixels[fits].to(torch.uint8).numpy())
    return keys


def _known(stream: TaskStream) -> set[bytes]:
    name = next(iter(stream.spec.inputs))
    keys: set[bytes] = set()
    for task in stream.tasks:
        images = task.train.inputs[name][torch.arange(len(task.train))]
        keys.update(row.tobytes() for row in (images.flatten(1) * 255).round().to(torch.uint8).numpy())
    return keys
