"""Streaming linear discriminant analysis."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from clbench.errors import BadInput
from clbench.models import Model
from clbench.prototypes import ClassMeans, candidates, frozen_features, one_pass
from clbench.strategy import Strategy
from clbench.stream import Inputs, Query, StreamSpec, TaskView


@dataclass(kw_only=True)
class SLDA(Strategy):
    """A linear discriminant from running class means and one covariance that all classes share; no gradient.

    ``shrinkage``: share of the identity in the covariance, above 0 and at most 1 (1: the nearest class mean).

    Source: Hayes and Kanan, Lifelong machine learning with deep streaming linear discriminant analysis, CLVision
    2020, equations 1-4.
    Differs: a sample that is number c of its class adds (c - 1)/c of its outer product to the scatter; the paper's
    recursion has n/(n + 1), n samples of any class before it. So the covariance is the pooled within-class one
    whatever the order, and a class's first sample is not taken uncentred. No base initialisation. The inverse is
    solved for once a task. Classes never seen score minus infinity; the paper's score 0 and can win.
    """

    shrinkage: float = 1e-4

    def setup(self, model: Model, spec: StreamSpec, rng: np.random.Generator) -> None:
        """Start without a mean and with no scatter."""
        super().setup(model, spec, rng)
        if not 0 < self.shrinkage <= 1:
            raise BadInput(f"SLDA inverts a covariance: shrinkage lies above 0 and is at most 1; got {self.shrinkage}")
        n, device = model.n_features, model.head.weight.device
        self.means_ = ClassMeans(n)
        self.moments_ = torch.zeros(n, n, dtype=torch.float64, device=device)  # sum of outer products, uncentred
        self.weights_ = torch.zeros(0, n, dtype=torch.float64, device=device)
        self.biases_ = torch.zeros(0, dtype=torch.float64, device=device)

    @torch.no_grad()
    def train_task(self, task: TaskView) -> None:
        """Add the task's features to means and scatter, then solve for the discriminants."""
        for features, y in one_pass(task, self._features):
            wide = features.double()
            self.means_.add(wide, y)
            self.moments_.addmm_(wide.T, wide)
        means = self.means_.means()
        self.weights_ = torch.cholesky_solve(means.T, torch.linalg.cholesky(self._covariance())).T
        self.biases_ = -0.5 * (self.weights_ * means).sum(1)

    @torch.no_grad()
    def predict(self, inputs: Inputs, query: Query) -> Tensor:
        """The linear discriminants, with equal priors."""
        scores = self._features(inputs).double() @ self.weights_.T + self.biases_
        return candidates(scores, self.means_.seen, query.classes)

    def _covariance(self) -> Tensor:
        """The shrunk pooled within-class covariance (D, D)."""
        means, counts = self.means_.means(), self.means_.counts
        scatter = self.moments_ - (means * counts[:, None]).T @ means
        within = (1 - self.shrinkage) * scatter / counts.sum()
        return within + self.shrinkage * torch.eye(len(within), dtype=within.dtype, device=within.device)

    def _features(self, inputs: Inputs) -> Tensor:
        return frozen_features(self.model_, inputs)
