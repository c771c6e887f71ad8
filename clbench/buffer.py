"""Stored samples: a fixed number of rows, kept by reservoir sampling or balanced by class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from clbench.errors import BadInput

Policy = Literal["reservoir", "balanced"]


class Buffer:
    """At most ``capacity`` rows of named tensors; ``y`` among them.

    ``reservoir``: every sample seen so far is in the buffer with equal probability. ``balanced``: every class
    seen so far has an equal share, a uniform sample of its own.

    Source: Vitter, Random Sampling with a Reservoir, 1985; Prabhu et al., GDumb, ECCV 2020 (greedy balancing).
    Differs: balancing happens per call of ``add``, not per sample; the outcome has the same distribution.
    """

    def __init__(self, capacity: int, policy: Policy = "reservoir") -> None:
        if capacity < 1 or policy not in ("reservoir", "balanced"):
            raise BadInput(f"a buffer needs capacity >= 1 and policy reservoir or balanced; got {capacity}, {policy}")
        self.capacity = capacity
        self.policy = policy
        self.rows: dict[str, Tensor] = {}
        self.n_seen = 0

    def __len__(self) -> int:
        return len(self.rows["y"]) if self.rows else 0

    def add(self, samples: Mapping[str, Tensor], rng: np.random.Generator) -> None:
        """Offer samples, rows of equal number; the policy decides which stay."""
        samples = {name: values.detach() for name, values in samples.items()}
        if self.policy == "balanced":
            pool = {k: torch.cat([self.rows[k], v]) if self.rows else v.clone() for k, v in samples.items()}
            self.keep(pool, balanced(pool["y"].cpu().numpy(), self.capacity, rng))
        else:
            self._reservoir(samples, rng)
        self.n_seen += len(samples["y"])

    def keep(self, pool: Mapping[str, Tensor], rows: np.ndarray[Any, np.dtype[np.int64]]) -> None:
        """Make these rows of a pool the content of the buffer."""
        picked = torch.from_numpy(rows).to(pool["y"].device)
        self.rows = {name: values[picked] for name, values in pool.items()}

    def sample(self, n: int, rng: np.random.Generator) -> dict[str, Tensor]:
        """Draw ``min(n, len(self))`` different rows at random."""
        rows = rng.choice(len(self), size=min(n, len(self)), replace=False)
        picked = torch.from_numpy(rows).to(self.rows["y"].device)
        return {name: values[picked] for name, values in self.rows.items()}

    def _reservoir(self, samples: Mapping[str, Tensor], rng: np.random.Generator) -> None:
        n = len(samples["y"])
        free = min(self.capacity - len(self), n)
        if free > 0:
            fresh = {name: values[:free] for name, values in samples.items()}
            self.rows = {k: torch.cat([self.rows[k], v]) if self.rows else v.clone() for k, v in fresh.items()}
        if n > free:
            slots = rng.integers(0, np.arange(self.n_seen + free, self.n_seen + n) + 1)
            last = {int(slot): k for k, slot in enumerate(slots, start=free) if slot < self.capacity}
            if last:  # of two samples drawn for one slot, the later one stays
                device = self.rows["y"].device
                to, take = torch.tensor(list(last), device=device), torch.tensor(list(last.values()), device=device)
                for name, values in samples.items():
                    self.rows[name][to] = values[take]

    def state_dict(self) -> dict[str, Any]:
        """Everything in the buffer, as plain state."""
        return {"rows": dict(self.rows), "n_seen": self.n_seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put a saved content back."""
        self.rows, self.n_seen = dict(state["rows"]), int(state["n_seen"])


def balanced(
    labels: np.ndarray[Any, np.dtype[Any]], capacity: int, rng: np.random.Generator
) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Choose up to ``capacity`` positions with equal shares per label, each share drawn at random.

    A label with fewer rows than its share leaves the rest to the others.
    """
    groups = [rng.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
    order = rng.permutation(len(groups))
    chosen, left = [], capacity
    for place, group in enumerate(sorted(order, key=lambda g: len(groups[g]))):
        share = min(len(groups[group]), -(-left // (len(groups) - place)))
        chosen.append(groups[group][: min(share, left)])
        left -= len(chosen[-1])
    return np.sort(np.concatenate(chosen)) if chosen else np.empty(0, np.int64)
