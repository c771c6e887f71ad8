"""ExSSNeT: SSNeT whose tasks train only weights that no earlier mask uses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from clbench.masks import pack, unpack
from clbench.models import Model
from clbench.strategies.ssnet import SSNeT
from clbench.stream import StreamSpec, TaskView


@dataclass(kw_only=True)
class ExSSNeT(SSNeT):
    """Find a mask of the weights for every task, then train those of its weights that no earlier task's mask uses.

    Weights of earlier masks are used as they are, so nothing is forgotten: old tasks answer bit by bit as before.

    Source: Yadav and Bansal, Exclusive Supermask Subnetwork Training for Continual Learning, Findings of ACL 2023;
    the authors' code, ``exclusive``.
    Differs: as SSNeT.
    """

    def setup(self, model: Model, spec: StreamSpec, rng: np.random.Generator) -> None:
        """As SSNeT; no weight is in use."""
        super().setup(model, spec, rng)
        self.used_: dict[str, Tensor] = {}  # union of all masks so far, as bits

    def editable(self, name: str, mask: Tensor) -> Tensor:
        """What the mask uses and no earlier one."""
        return mask & ~self._used(name, mask)

    def after_task(self, task: TaskView) -> None:
        """Add the task's masks to those in use; so a task costs the same, however many came before."""
        super().after_task(task)
        self.used_ = {name: pack(self._used(name, mask) | mask) for name, mask in self._masks.items()}

    def _used(self, name: str, like: Tensor) -> Tensor:
        return unpack(self.used_[name], like.shape) if name in self.used_ else torch.zeros_like(like)
