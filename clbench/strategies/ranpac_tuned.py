"""RanPAC with its first phase: the network is tuned on the first task before it is frozen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from clbench.models import Model
from clbench.prototypes import frozen_features
from clbench.strategies.ranpac import RanPAC
from clbench.strategy import Branch
from clbench.stream import Inputs, Query, StreamSpec, TaskView
from clbench.tuning import Tune, Tuning, network_of


@dataclass(kw_only=True)
class TunedRanPAC(RanPAC):
    """RanPAC on the features of the network tuned on the first task, and on those alone.

    ``tune``: what is trained (see ``clbench.tuning.Tuning``), for ``epochs`` with SGD, momentum 0.9, and a
    cosine-shaped ``lr``; five prompts, an adapter of size 64.

    Source: McDonnell et al., RanPAC, NeurIPS 2023, algorithm 1, phase 1.
    Differs: as RanPAC without it.
    """

    tune: Tune = "adapter"
    epochs: int = 20
    batch_size: int = 48
    lr: float = 0.01
    weight_decay: float = 5e-4

    def setup(self, model: Model, spec: StreamSpec, rng: np.random.Generator) -> None:
        """Put the modules into the network; nothing has been tuned."""
        super().setup(model, spec, rng)
        self._tuning().insert(network_of(model, "RanPAC's first phase"))
        self.tuned_ = False

    def train_task(self, task: TaskView) -> None:
        """Tune on the first task; then as without tuning."""
        if not self.tuned_:
            network = network_of(self.model_, "RanPAC's first phase")
            self._tuning().fit(network, task)
            network.requires_grad_(False)
            self.tuned_ = True
        super().train_task(task)

    def branches(self) -> dict[str, Branch]:
        """The tuned network, which never changes again."""
        return {"tuned": self._branch} if self.tuned_ else {}

    def predict(self, inputs: Inputs, query: Query) -> Tensor:
        """As without tuning; nothing is answered before it."""
        if not self.tuned_:
            some = next(iter(inputs.values()))
            return torch.full((len(some), len(query.classes)), -torch.inf, device=some.device)
        return super().predict(inputs, query)

    def _features(self, inputs: Inputs) -> Tensor:
        return inputs["tuned"] if "tuned" in inputs else self._branch(inputs)

    def _branch(self, inputs: Inputs) -> Tensor:
        return frozen_features(self.model_, inputs)

    def _tuning(self) -> Tuning:
        return Tuning(
            tune=self.tune, epochs=self.epochs, lr=self.lr, batch_size=self.batch_size, weight_decay=self.weight_decay
        )
