"""Stored samples: a fixed number of rows, kept by reservoir sampling or balanced by class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clbench.errors import BadInput

Policy = Literal["reservoir", "balanced"]


class Buffer:
    """At most ``capacity`` rows of named tensors, ``y`` among them; every sample offered gets a random key.

    ``reservoir`` keeps the smallest keys: each sample seen so far is in the buffer with equal probability.
    ``balanced`` gives every class seen so far an equal share, and keeps the smallest keys of each class.

    Source: Efraimidis and Spirakis, Weighted random sampling with a reservoir, 2006 (equal weights: the
    distribution of Vitter's reservoir); Prabhu et al., GDumb, ECCV 2020 (greedy balancing).
    Differs: balancing happens once per call of ``add``, not per sample.
    """

    def __init__(self, capacity: int, policy: Policy = "reservoir") -> None:
        if capacity < 1 or policy not in ("reservoir", "balanced"):
            raise BadInput(f"a buffer needs capacity >= 1 and policy reservoir or balanced; got {capacity}, {policy}")
        self.capacity = capacity
        self.policy = policy
        self.rows: dict[str, Tensor] = {}
        self.keys = np.empty(0)

    def __len__(self) -> int:
        return len(self.keys)

    def add(self, samples: Mapping[str, Tensor], rng: np.random.Generator) -> None:
        """Offer samples, rows of equal number; the policy decides which stay."""
        keys = np.concatenate([self.keys, rng.random(len(samples["y"]))])
        if self.policy == "reservoir":
            kept = np.sort(np.argsort(keys, kind="stable")[: self.capacity])
        else:
            labels = samples["y"].cpu().numpy()
            labels = np.concatenate([self.rows["y"].cpu().numpy(), labels]) if self.rows else labels
            kept = smallest_per_label(keys, labels, self.capacity)
        if len(kept) == len(self) and kept[-1] < len(self):
            return  # nothing new came in
        picked = torch.from_numpy(kept).to(samples["y"].device)
        for name, fresh in samples.items():
            pool = torch.cat([self.rows[name], fresh.detach()]) if name in self.rows else fresh.detach()
            self.rows[name] = pool[picked]
        self.keys = keys[kept]

    def sample(self, n: int, rng: np.random.Generator) -> dict[str, Tensor]:
        """Draw ``min(n, len(self))`` different rows at random."""
        drawn = rng.choice(len(self), size=min(n, len(self)), replace=False)
        picked = torch.from_numpy(drawn).to(self.rows["y"].device)
        return {name: values[picked] for name, values in self.rows.items()}

    def state_dict(self) -> dict[str, Any]:
        """Everything in the buffer, as plain state."""
        return {"rows": dict(self.rows), "keys": torch.from_numpy(self.keys)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put a saved content back."""
        self.rows, self.keys = dict(state["rows"]), state["keys"].numpy()


def smallest_per_label(keys: NDArray[np.float64], labels: NDArray[np.int64], capacity: int) -> NDArray[np.int64]:
    """Positions of the smallest keys of each label, ``capacity`` in all, shares as equal as they can be.

    >>> smallest_per_label(np.array([0.3, 0.1, 0.2, 0.4]), np.array([0, 0, 0, 1]), 3).tolist()
    [1, 2, 3]
    """
    order = np.argsort(keys, kind="stable")
    groups = sorted((order[labels[order] == label] for label in np.unique(labels)), key=len)
    chosen, left = [], capacity
    for place, group in enumerate(groups):  # the small ones first: what they leave goes to the others
        share = min(len(group), left // (len(groups) - place))
        chosen.append(group[:share])
        left -= share
    return np.sort(np.concatenate(chosen))
