"""ADAM, called APER in its journal version: tune on the first task, then classify by class means."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from clbench.models import Model
from clbench.prototypes import ClassMeans, candidates, frozen_features, one_pass
from clbench.strategy import Branch, Strategy
from clbench.stream import Inputs, Query, StreamSpec, TaskView
from clbench.tuning import Tune, Tuning, network_of
from clbench.tuning.prompts import TokenInit


@dataclass(kw_only=True)
class ADAM(Strategy):
    """Tune a copy of the pretrained network on the first task; then only class means of both networks' features.

    Features are those of the frozen network followed by those of the tuned one; the answer is the class whose mean
    has the largest cosine. ``tune``: what is trained (see ``clbench.tuning.Tuning``), for ``epochs`` with SGD,
    momentum 0.9, and a cosine-shaped ``lr``. ``n_tokens``, ``token_init``: of the prompts; ``bottleneck``: of the
    adapter.

    Source: Zhou et al., Revisiting class-incremental learning with pre-trained models: generalizability and
    adaptivity are all you need, IJCV 2024, Algorithm 1.
    Differs: ``batch_norm`` averages the statistics of all batches alike; means are kept in float64, and pooled where
    a class comes again.
    """

    tune: Tune = "adapter"
    epochs: int = 20
    batch_size: int = 48
    lr: float = 0.01
    weight_decay: float = 5e-4
    n_tokens: int = 5
    token_init: TokenInit = "zero"
    bottleneck: int = 64

    def reads(self, model: Model) -> tuple[str, ...]:
        """The frozen network's features beside what the network to be tuned reads."""
        network_of(model, "ADAM")
        return ("features", *model.reads)

    def setup(self, model: Model, spec: StreamSpec, rng: np.random.Generator) -> None:
        """Put the modules into the network; nothing has been tuned."""
        super().setup(model, spec, rng)
        self._tuning().insert(network_of(model, "ADAM"))
        self.tuned_ = False
        self.means_ = ClassMeans(2 * model.n_features)

    def train_task(self, task: TaskView) -> None:
        """Tune on the first task; of every task, take the class means of its samples as they are."""
        if not self.tuned_:
            network = network_of(self.model_, "ADAM")
            self._tuning().fit(network, task)
            network.requires_grad_(False)
            self.tuned_ = True
        for features, y in one_pass(task, self._features):
            self.means_.add(features, y)

    @torch.no_grad()
    def predict(self, inputs: Inputs, query: Query) -> Tensor:
        """Cosines of features and class means."""
        if not self.tuned_:
            return candidates(inputs["features"][:, :0], self.means_.seen, query.classes)
        features = F.normalize(self._features(inputs).double(), dim=1)
        rows = F.normalize(self.means_.means().to(features.device), dim=1)
        return candidates(features @ rows.T, self.means_.seen, query.classes)

    def branches(self) -> dict[str, Branch]:
        """The tuned network, which never changes again."""
        return {"tuned": self._branch} if self.tuned_ else {}

    def _branch(self, inputs: Inputs) -> Tensor:
        return frozen_features(self.model_, inputs)

    def _features(self, inputs: Inputs) -> Tensor:
        tuned = inputs["tuned"] if "tuned" in inputs else self._branch(inputs)
        return torch.cat([inputs["features"], tuned], dim=1)

    def _tuning(self) -> Tuning:
        return Tuning(
            tune=self.tune,
            epochs=self.epochs,
            lr=self.lr,
            batch_size=self.batch_size,
            weight_decay=self.weight_decay,
            n_tokens=self.n_tokens,
            token_init=self.token_init,
            bottleneck=self.bottleneck,
        )
