"""The score matrix: the one object every metric is computed from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clbench.errors import BadInput

ALL_NUMBERED = 12  # tasks; of more not every one is numbered along an axis or at the head of a table


@dataclass(frozen=True)
class ScoreMatrix:
    """Scores of every probe after every training step of a stream.

    ``values`` has shape (T+1, T): row i is the state after i tasks (row 0 = untrained), column j the
    probe of task j+1. A missing cell is NaN, never 0.

    Raises ``BadInput`` when the shape is not (T+1, T) or a score lies outside ``bounds``.
    """

    values: NDArray[np.float64]
    name: str = "accuracy"
    unit: str = "fraction"
    higher_is_better: bool = True
    bounds: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        values = np.array(self.values, dtype=np.float64)
        if values.ndim != 2 or values.shape[0] != values.shape[1] + 1 or values.shape[1] == 0:
            raise BadInput(f"a score matrix has shape (T+1, T) with T >= 1; got {values.shape}")
        low, high = self.bounds
        finite = values[~np.isnan(values)]
        if finite.size and (finite.min() < low or finite.max() > high):
            raise BadInput(f"scores of '{self.name}' must lie in [{low}, {high}]; got {finite.min()}..{finite.max()}")
        values.setflags(write=False)
        object.__setattr__(self, "values", values)

    @property
    def n_tasks(self) -> int:
        """Number of tasks T."""
        return int(self.values.shape[1])

    @property
    def trained(self) -> NDArray[np.float64]:
        """Rows 1..T as a (T, T) array: ``trained[i, j]`` is task j+1 after task i+1."""
        return self.values[1:]

    def to_json(self) -> dict[str, Any]:
        """Plain data for JSON; NaN becomes null."""
        cells = [[None if math.isnan(v) else float(v) for v in row] for row in self.values]
        return {
            "name": self.name,
            "unit": self.unit,
            "higher_is_better": self.higher_is_better,
            "bounds": [None if math.isinf(b) else b for b in self.bounds],
            "values": cells,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> ScoreMatrix:
        """Inverse of :meth:`to_json`."""
        low, high = data["bounds"]
        return cls(
            values=np.array([[np.nan if v is None else v for v in row] for row in data["values"]], dtype=np.float64),
            name=data["name"],
            unit=data["unit"],
            higher_is_better=data["higher_is_better"],
            bounds=(-math.inf if low is None else low, math.inf if high is None else high),
        )


def numbered(n_tasks: int) -> list[int]:
    """The tasks that are numbered where each takes room: all up to 12, of more those that a round step leaves.

    >>> numbered(3), numbered(50), numbered(100)
    ([1, 2, 3], [10, 20, 30, 40, 50], [20, 40, 60, 80, 100])
    """
    if n_tasks <= ALL_NUMBERED:
        return list(range(1, n_tasks + 1))
    step = next(s for s in (digit * 10**power for power in count() for digit in (1, 2, 5)) if n_tasks <= 6 * s)
    return list(range(step, n_tasks + 1, step))
