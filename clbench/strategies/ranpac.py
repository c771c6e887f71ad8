"""RanPAC: random projections and a ridge classifier from accumulated second moments."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from clbench.errors import BadInput
from clbench.models import Model
from clbench.prototypes import ClassMeans, candidates, frozen_features, one_pass
from clbench.strategy import Strategy
from clbench.stream import Inputs, Query, StreamSpec, TaskView

RIDGES = tuple(10.0**k for k in range(-8, 9))
FITTED = 0.8  # of a task's samples: the ridge is chosen on the others


@dataclass(kw_only=True)
class RanPAC(Strategy):
    """Ridge regression to the classes on random ReLU projections of frozen features, from accumulated sums.

    ``n_projections``: width M of the random projection; 0 for none, which leaves the features as they are.

    Source: McDonnell et al., RanPAC, NeurIPS 2023, section 4 and algorithm 1.
    Differs: 2,000 projections, the paper 10,000; solved in float64; the ridge is chosen with one eigendecomposition,
    not 17 solves, and for the classes of the task alone.
    """

    n_projections: int = 2000

    def setup(self, model: Model, spec: StreamSpec, rng: np.random.Generator) -> None:
        """Draw the projection, once and for all; start with empty sums."""
        super().setup(model, spec, rng)
        if self.n_projections < 0:
            raise BadInput(f"n_projections is a width, or 0 for no projection; got {self.n_projections}")
        width, device = self.n_projections or model.n_features, model.head.weight.device
        drawn = rng.standard_normal((model.n_features, self.n_projections), dtype=np.float32)
        self.projection_ = torch.from_numpy(drawn).to(device)
        self.gram_ = torch.zeros(width, width, dtype=torch.float64, device=device)  # G of the paper
        self.means_ = ClassMeans(width)  # its sums are Q of the paper
        self.weights_ = torch.zeros(0, width, dtype=torch.float64, device=device)
        self.ridge_ = 0.0  # of the last task

    @torch.no_grad()
    def train_task(self, task: TaskView) -> None:
        """Add the task to the sums, choose the ridge on it, and solve; its projections are held in memory meanwhile."""
        projections, labels = [], []
        for features, y in one_pass(task, self._features):
            projected = self._projected(features)
            self.means_.add(projected, y)
            self.gram_.addmm_(projected.T, projected)
            projections.append(projected)
            labels.append(y)
        own = torch.tensor(task.classes, device=self.gram_.device)
        targets = (torch.cat(labels)[:, None] == own).double()
        self.ridge_ = best_ridge(torch.cat(projections), targets, int(FITTED * len(targets)))
        self.weights_ = ridge_weights(self.gram_, self.means_.sums, self.ridge_)

    @torch.no_grad()
    def predict(self, inputs: Inputs, query: Query) -> Tensor:
        """The linear scores of the projected features."""
        scores = self._projected(self._features(inputs)) @ self.weights_.T
        return candidates(scores, self.means_.seen, query.classes)

    def _features(self, inputs: Inputs) -> Tensor:
        return frozen_features(self.model_, inputs)

    def _projected(self, features: Tensor) -> Tensor:
        features = features.double()  # before the projection: the ridge regression amplifies rounding
        return F.relu(features @ self.projection_.double()) if self.n_projections else features


def best_ridge(h: Tensor, targets: Tensor, n_fitted: int) -> float:
    """The ridge of ``RIDGES`` with the least squared error on the last samples when it is fitted on the others.

    ``h`` (N, M); ``targets`` (N, K) one-hot, in random order; the first ``n_fitted`` are fitted.
    Source: with h'h = V diag(s) V' every ridge's solution is V diag(1 / (s + ridge)) V' h'y, and the like with h h',
    which is the smaller one where there are fewer samples than projections.
    """
    fitted, held = h[:n_fitted], h[n_fitted:]
    if n_fitted < h.shape[1]:
        values, vectors = torch.linalg.eigh(fitted @ fitted.T)
        left, right = held @ (fitted.T @ vectors), vectors.T @ targets[:n_fitted]
    else:
        values, vectors = torch.linalg.eigh(fitted.T @ fitted)
        left, right = held @ vectors, vectors.T @ (fitted.T @ targets[:n_fitted])
    values = values.clamp(min=0)
    errors = [((left / (values + ridge)) @ right - targets[n_fitted:]).square().mean() for ridge in RIDGES]
    return RIDGES[int(torch.stack(errors).argmin())]


def ridge_weights(gram: Tensor, cross: Tensor, ridge: float) -> Tensor:
    """Weights (C, M) of the ridge regression: (``gram`` + ``ridge`` I) W' = ``cross``'."""
    penalised = gram.clone()
    penalised.diagonal().add_(ridge)
    weights: Tensor = torch.linalg.solve(penalised, cross.T)
    return weights.T.contiguous()
