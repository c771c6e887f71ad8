"""Incremental classifier and representation learning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from clbench.errors import BadInput
from clbench.models import Model
from clbench.strategy import SGDStrategy
from clbench.stream import Batch, Inputs, ProtocolName, Query, StreamSpec, TaskView


@dataclass(kw_only=True)
class ICaRL(SGDStrategy):
    """Classify by the nearest mean of exemplars; train with distillation on new data and exemplars.

    ``memory``: exemplars kept over all classes.

    Source: Rebuffi et al., iCaRL, CVPR 2017, Algorithms 1-5.
    Differs: the exemplar means are computed once after each task, not at each prediction; the features of
    mirrored images are not averaged in.
    """

    protocols: ClassVar[frozenset[ProtocolName]] = frozenset({"class-incremental"})

    memory: int = 200

    def setup(self, model: Model, spec: StreamSpec, rng: np.random.Generator) -> None:
        """Start without exemplars, means and teacher."""
        super().setup(model, spec, rng)
        self.exemplars_: dict[str, Tensor] = {}  # of each class in the order they were herded
        self.teacher_: dict[str, Tensor] = {}
        self.old_rows_ = torch.empty(0, dtype=torch.int64)
        self.means_ = torch.empty(0, model.n_features)  # (classes, D), a NaN row where a class has none

    def train_task(self, task: TaskView) -> None:
        """Algorithms 2 and 3: update the representation, reduce the exemplar sets, add new ones, store means."""
        self.observe(task)
        new = task.samples()
        old = self.exemplars_
        self.optimise(task, samples={k: torch.cat([old[k], v]) if old else v for k, v in new.items()})
        self._choose_exemplars(new)
        self.teacher_ = {k: v.clone() for k, v in self.model_.state_dict().items()}
        self.old_rows_ = self.allowed_[0].nonzero()[:, 0]

    def loss(self, batch: Batch) -> Tensor:
        """Algorithm 3: binary cross-entropy, old classes towards the old model's answers."""
        logits = self.model_(batch.inputs)
        rows = self.allowed_[0].nonzero()[:, 0]
        target = F.one_hot(self.row_of_[0, batch.y], logits.shape[1]).to(logits.dtype)
        if self.teacher_:
            with torch.no_grad():
                self.model_.eval()
                old = functional_call(self.model_, self.teacher_, (batch.inputs,))
                self.model_.train()
            target[:, self.old_rows_] = old[:, self.old_rows_].sigmoid()
        return F.binary_cross_entropy_with_logits(logits[:, rows], target[:, rows], reduction="none").sum(1).mean()

    @torch.no_grad()
    def predict(self, inputs: Inputs, query: Query) -> Tensor:
        """Algorithm 1: minus the squared distance to the mean of the exemplars."""
        self.model_.eval()
        means = torch.full((len(query.classes), self.means_.shape[1]), torch.nan, device=self.means_.device)
        known = [(k, c) for k, c in enumerate(query.classes) if c < len(self.means_)]
        means[[k for k, _ in known]] = self.means_[[c for _, c in known]]
        features = F.normalize(self.model_.features(inputs), dim=1)
        return (-(features[:, None] - means.to(features)).square().sum(2)).nan_to_num(-torch.inf)

    @torch.no_grad()
    def _choose_exemplars(self, new: dict[str, Tensor]) -> None:
        """Algorithms 4 and 5: herd new exemplars, cut the old ones to their first ones, compute all means."""
        self.model_.eval()
        share = self.memory // len(self.seen_)
        if not share:
            raise BadInput(
                f"iCaRL keeps an exemplar of every class: memory={self.memory}, {len(self.seen_)} classes seen"
            )
        old, pools = self.exemplars_, []
        device = new["y"].device
        self.means_ = torch.full((max(self.seen_) + 1, self.model_.n_features), torch.nan, device=device)
        for label in self.seen_:
            source = old if old and bool((old["y"] == label).any()) else new
            rows = (source["y"] == label).nonzero()[:, 0]
            pool = {name: values[rows] for name, values in source.items()}
            features = self._features(pool)
            order = torch.arange(len(rows), device=device) if source is old else herd(features, share)
            chosen = order[:share]
            pools.append({name: values[chosen] for name, values in pool.items()})
            self.means_[label] = F.normalize(features[chosen].mean(0), dim=0)
        self.exemplars_ = {name: torch.cat([p[name] for p in pools]) for name in new}

    def _features(self, pool: dict[str, Tensor]) -> Tensor:
        names = self.spec.inputs
        parts = [
            self.model_.features({name: pool[name][start : start + 256] for name in names})
            for start in range(0, len(pool["y"]), 256)
        ]
        return F.normalize(torch.cat(parts), dim=1)

    def stored_samples(self) -> int:
        """Exemplars kept."""
        return len(self.exemplars_["y"]) if self.exemplars_ else 0


def herd(features: Tensor, n: int) -> Tensor:
    """Positions of ``n`` rows of ``features`` (N, D), chosen one by one to keep their mean near the whole mean."""
    mean, total = features.mean(0), torch.zeros_like(features[0])
    free = torch.ones(len(features), dtype=torch.bool, device=features.device)
    chosen = []
    for k in range(1, min(n, len(features)) + 1):
        gap = (mean - (total + features) / k).square().sum(1)
        best = gap.masked_fill(~free, torch.inf).argmin()
        chosen.append(best)
        free[best] = False
        total = total + features[best]
    return torch.stack(chosen) if chosen else torch.empty(0, dtype=torch.int64, device=features.device)
