"""NCM: the nearest class mean."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from clbench.models import Model
from clbench.prototypes import ClassMeans, candidates, frozen_features, one_pass
from clbench.strategy import Strategy
from clbench.stream import Inputs, Query, StreamSpec, TaskView


@dataclass(kw_only=True)
class NCM(Strategy):
    """Answer the class whose mean feature is nearest in Euclidean distance; nothing is trained.

    ``normalise``: scale every feature to length 1 before it is averaged or compared; means are not scaled again.

    Source: Mensink, Verbeek, Perronnin and Csurka, Distance-based image classification, TPAMI 2013, section 3;
    on frozen pretrained features Janson et al., A simple baseline that questions the use of pretrained models in
    continual learning, 2022.
    Differs: no metric is learnt.
    """

    normalise: bool = False

    def setup(self, model: Model, spec: StreamSpec, rng: np.random.Generator) -> None:
        """Start without a mean."""
        super().setup(model, spec, rng)
        self.means_ = ClassMeans(model.n_features)

    def train_task(self, task: TaskView) -> None:
        """Add the task's features to the means of their classes."""
        for features, y in one_pass(task, self._features):
            self.means_.add(features, y)

    @torch.no_grad()
    def predict(self, inputs: Inputs, query: Query) -> Tensor:
        """Minus the squared Euclidean distance to the class mean."""
        features = self._features(inputs)
        distances = torch.cdist(features, self.means_.means().to(features.device)).square()
        return candidates(-distances, self.means_.seen, query.classes)

    def _features(self, inputs: Inputs) -> Tensor:
        features = frozen_features(self.model_, inputs).double()
        return F.normalize(features, dim=1) if self.normalise else features
