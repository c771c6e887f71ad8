"""Samples with labels: named rows that hand out tensors, and what of them is read."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clbench.errors import BadInput


class Rows(Protocol):
    """Anything row-sliceable that hands out tensors: a tensor, a memory map, images decoded on demand."""

    @property
    def shape(self) -> Sequence[int]:
        """Shape of all rows, the number of rows first."""

    def __getitem__(self, rows: Tensor) -> Tensor:
        """The rows with these positions, as one tensor."""


@dataclass(frozen=True)
class Split:
    """A set of labelled samples: named inputs, labels ``y`` (N,) int64 or None, ``index`` (N,) source rows."""

    inputs: Mapping[str, Rows]
    y: Tensor | None
    index: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.index)

    @property
    def labels(self) -> Tensor:
        """The labels; ``BadInput`` where there are none."""
        if self.y is None:
            raise BadInput("this split has no labels")
        return self.y

    def take(self, rows: Tensor) -> dict[str, Tensor]:
        """The inputs of the samples at these positions."""
        return {name: values[rows] for name, values in self.inputs.items()}

    def reading(self, names: Collection[str]) -> Split:
        """The same samples with these inputs only."""
        return replace(self, inputs={k: v for k, v in self.inputs.items() if k in names})

    def on(self, device: torch.device, limit_bytes: int = 1 << 29) -> Split:
        """The same split on ``device``, its inputs as tensors unless they would take more than ``limit_bytes``."""
        y = None if self.y is None else self.y.to(device)
        size = 4 * sum(int(np.prod(v.shape)) for v in self.inputs.values())
        if size > limit_bytes:
            return Split(self.inputs, y, self.index)
        rows = torch.arange(len(self))
        inputs = {k: (v if isinstance(v, Tensor) else v[rows]).to(device) for k, v in self.inputs.items()}
        return Split(inputs, y, self.index)


class Taken(Mapping[str, Tensor]):
    """The inputs of some samples of a split on a device; a name that nobody asks for is not even decoded."""

    def __init__(self, split: Split, rows: Tensor, device: torch.device) -> None:
        self._split, self._rows, self._device = split, rows, device
        self._read: dict[str, Tensor] = {}

    def __getitem__(self, name: str) -> Tensor:
        """The rows of one input."""
        if name not in self._read:
            self._read[name] = self._split.inputs[name][self._rows].to(self._device)
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        """The names."""
        return iter(self._split.inputs)

    def __len__(self) -> int:
        """The number of names."""
        return len(self._split.inputs)

    def __contains__(self, name: object) -> bool:
        """Whether there is such an input."""
        return name in self._split.inputs
