"""SimpleCIL: class means of a frozen backbone's features as a cosine classifier."""

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
class SimpleCIL(Strategy):
    """Answer the class whose mean feature has the largest cosine with the sample's; nothing is trained.

    The metric is the cosine; features are averaged raw, and normalised inside the cosine only.

    Source: Zhou, Cai, Ye, Zhan and Liu, Revisiting class-incremental learning with pre-trained models, IJCV 2024,
    section 4.1.
    Differs: a class that comes again in a later task goes on with its mean; the paper's overwrites it.
    """

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
        """The cosine of feature and class mean."""
        features = F.normalize(self._features(inputs).double(), dim=1)
        means = F.normalize(self.means_.means().to(features.device), dim=1)
        return candidates(features @ means.T, self.means_.seen, query.classes)

    def _features(self, inputs: Inputs) -> Tensor:
        return frozen_features(self.model_, inputs)
