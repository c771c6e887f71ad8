"""RanPAC: random projections and a ridge classifier from accumulated second moments."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from clbench.errors import BadInput
from clbench.models import Model
from clbench.prototypes import ClassMeans, candidates, frozen_features, passed
from clbench.strategy import Strategy
from clbench.stream import Inputs, Query, StreamSpec, TaskView

RIDGES = tuple(10.0**k for k in range(-8, 9))
FITTED = 0.8  # of a task's samples: the ridge is chosen on the others


@dataclass(kw_only=True)
class RanPAC(Strategy):
    """Ridge regression to the classes on random ReLU projections of frozen features, from accumulated sums.

    ``n_projections``: width M of the random projection; 0 for none, which leaves the features as they are.

    Source: McDonnell et al., RanPAC, NeurIPS 2023, section 4 and algorithm 1.
    Differs: 2,000 projections, the paper 10,000; solved in float64; the ridge's fit on 80 % of the task's samples and
    error on the others come from second moments and one eigendecomposition, not from 17 solves.
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
        """Add the task to the sums, choose the ridge on it, and solve."""
        fitted, held = (_Sums(len(self.gram_), task.classes, self.gram_.device) for _ in range(2))
        left = int(FITTED * len(task.data))  # the pass is shuffled, so its first samples are a random part
        for features, y in passed(task, self._features):
            projected = self._projected(features)
            self.means_.add(projected, y)
            fitted.add(projected[:left], y[:left])
            held.add(projected[left:], y[left:])
            left = max(0, left - len(y))
        self.gram_ = self.gram_ + fitted.gram + held.gram
        self.ridge_ = best_ridge(fitted.gram, fitted.cross, held.gram, held.cross)
        self.weights_ = ridge_weights(self.gram_, self.means_.sums, self.ridge_)

    @torch.no_grad()
    def predict(self, inputs: Inputs, query: Query) -> Tensor:
        """The linear scores of the projected features."""
        scores = self._projected(self._features(inputs)) @ self.weights_.T
        return candidates(scores, self.means_.seen, query.classes)

    def _features(self, inputs: Inputs) -> Tensor:
        return frozen_features(self.model_, inputs)

    def _projected(self, features: Tensor) -> Tensor:
        return (F.relu(features @ self.projection_) if self.n_projections else features).double()


class _Sums:
    """Second moments of one part of a task: ``gram`` (M, M), and ``cross`` (K, M) with its K classes one-hot."""

    def __init__(self, width: int, classes: tuple[int, ...], device: torch.device) -> None:
        self.gram = torch.zeros(width, width, dtype=torch.float64, device=device)
        self.cross = torch.zeros(len(classes), width, dtype=torch.float64, device=device)
        self._classes = torch.tensor(classes, device=device)

    def add(self, projected: Tensor, y: Tensor) -> None:
        """Add samples (B, M) of classes (B,); B may be 0."""
        self.gram.addmm_(projected.T, projected)
        self.cross.index_add_(0, torch.searchsorted(self._classes, y), projected)


def best_ridge(gram: Tensor, cross: Tensor, held_gram: Tensor, held_cross: Tensor) -> float:
    """The ridge of ``RIDGES`` with the least squared error on held-out samples, fitted on others.

    ``gram`` (M, M) and ``cross`` (K, M) of the samples to fit, ``held_gram`` and ``held_cross`` of the held-out ones.
    Source: the error |H W - Y|^2 is tr(W'H'HW) - 2 tr(W'H'Y) and a constant; in the eigenvectors of ``gram`` the
    solution of every ridge is a division.
    """
    values, vectors = torch.linalg.eigh(gram)
    values = values.clamp(min=0)
    turned, held = cross @ vectors, held_cross @ vectors
    held_turned = vectors.T @ held_gram @ vectors
    errors = []
    for ridge in RIDGES:
        weights = turned / (values + ridge)
        errors.append((weights * (weights @ held_turned - 2 * held)).sum())
    return RIDGES[int(torch.stack(errors).argmin())]


def ridge_weights(gram: Tensor, cross: Tensor, ridge: float) -> Tensor:
    """Weights (C, M) of the ridge regression: (``gram`` + ``ridge`` I) W' = ``cross``'."""
    penalty = ridge * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    weights: Tensor = torch.linalg.solve(gram + penalty, cross.T)
    return weights.T.contiguous()
