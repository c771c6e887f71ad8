"""FeCAM: the Mahalanobis distance to every class mean under the class's own covariance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from clbench.errors import BadInput
from clbench.models import Model
from clbench.prototypes import ClassMeans, frozen_features, one_pass
from clbench.strategy import Strategy
from clbench.stream import Inputs, Query, StreamSpec, TaskView


@dataclass(kw_only=True)
class FeCAM(Strategy):
    """Answer the class with the least Mahalanobis distance, each class with a covariance of its own; no gradient.

    ``shrink_diagonal``, ``shrink_off_diagonal``: how much of the mean variance and of the mean covariance is added to
    the diagonal and beside it. ``tukey``: exponent that non-negative features are raised to, 1 for none.

    Source: Goswami, Liu, Twardowski and van de Weijer, FeCAM, NeurIPS 2023, equations 5-9; settings of the published
    scripts for ViT.
    Differs: Cholesky whitening, no pseudo-inverse; a class of one sample has the identity for its covariance; a class
    that comes again goes on with its sums.
    """

    shrink_diagonal: float = 1.0
    shrink_off_diagonal: float = 0.0
    tukey: float = 1.0

    def setup(self, model: Model, spec: StreamSpec, rng: np.random.Generator) -> None:
        """Start without means and covariances."""
        super().setup(model, spec, rng)
        self.means_ = ClassMeans(model.n_features)
        self.moments_: dict[int, Tensor] = {}  # by class: sum of outer products (D, D), float64
        self.whitening_: dict[int, Tensor] = {}  # by class: inverse Cholesky factor (D, D), float32

    @torch.no_grad()
    def train_task(self, task: TaskView) -> None:
        """Add the task to the sums of its classes, and invert their covariances."""
        for features, y in one_pass(task, self._features):
            self.means_.add(features, y)
            for label in sorted(set(y.tolist())):
                own = features[y == label].double()
                old = self.moments_.get(label)
                self.moments_[label] = own.T @ own if old is None else old.addmm_(own.T, own)
        for label in task.classes:
            self.whitening_[label] = self._whitening(label)

    @torch.no_grad()
    def predict(self, inputs: Inputs, query: Query) -> Tensor:
        """Minus the squared Mahalanobis distance."""
        features = self._features(inputs)
        scores = features.new_full((len(features), len(query.classes)), -torch.inf)
        means = self.means_.means().to(features)
        for column, label in enumerate(query.classes):
            if label in self.whitening_:
                scores[:, column] = -((features - means[label]) @ self.whitening_[label].T).square().sum(1)
        return scores

    def _whitening(self, label: int) -> Tensor:
        """The inverse Cholesky factor (D, D) of a class's covariance, shrunk and in correlation form."""
        count, mean = self.means_.counts[label], self.means_.means()[label]
        covariance = (self.moments_[label] - count * mean.outer(mean)) / (count - 1).clamp(min=1)
        correlation = correlation_form(shrunk(covariance, self.shrink_diagonal, self.shrink_off_diagonal))
        factor, failed = torch.linalg.cholesky_ex(correlation)
        if bool(failed):
            raise BadInput(
                f"the covariance of class {label} cannot be inverted with shrink_diagonal={self.shrink_diagonal}, "
                f"shrink_off_diagonal={self.shrink_off_diagonal}; raise shrink_diagonal"
            )
        one = torch.eye(len(factor), dtype=factor.dtype, device=factor.device)
        inverse: Tensor = torch.linalg.solve_triangular(factor, one, upper=False)
        return inverse.float()

    def _features(self, inputs: Inputs) -> Tensor:
        """Features of length 1, raised to the exponent before where one is set."""
        features = frozen_features(self.model_, inputs)
        if self.tukey != 1:
            if bool((features < 0).any()):
                raise BadInput("tukey raises non-negative features to a power, but some are negative; set tukey=1")
            features = features.pow(self.tukey)
        return F.normalize(features, dim=1)


def shrunk(covariance: Tensor, diagonal: float, off_diagonal: float) -> Tensor:
    """The covariance (D, D) with its mean variance times ``diagonal`` added to the diagonal, and likewise beside it."""
    n = len(covariance)
    one = torch.eye(n, dtype=covariance.dtype, device=covariance.device)
    variance = covariance.diagonal().mean()
    beside = (covariance.sum() - covariance.diagonal().sum()) / max(1, n * (n - 1))
    return covariance + diagonal * variance * one + off_diagonal * beside * (1 - one)


def correlation_form(covariance: Tensor) -> Tensor:
    """The covariance (D, D) over the products of its standard deviations: ones on the diagonal."""
    deviation = covariance.diagonal().clamp(min=0).sqrt()
    scaled = covariance / deviation.where(deviation > 0, 1).outer(deviation.where(deviation > 0, 1))
    return scaled.fill_diagonal_(1.0)
