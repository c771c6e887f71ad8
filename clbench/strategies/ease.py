"""EASE: a subspace for every task."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from clbench.errors import unknown
from clbench.models import Model
from clbench.prototypes import ClassMeans, candidates, frozen_features, one_pass
from clbench.strategy import Branch, Strategy
from clbench.stream import Inputs, Query, StreamSpec, TaskView
from clbench.tuning import Tuning, network_of, redraw, trained


@dataclass(kw_only=True)
class EASE(Strategy):
    """For every task a new small module in the frozen network; classes are compared with their means in all of them.

    A module is trained on its task's classes and then frozen; its features are a subspace. The mean of an old class
    in a new subspace is put together from the means of the new classes there. ``module``: an AdaptFormer adapter of
    size ``bottleneck``, or SSF, which convolutional networks take too. ``alpha``: weight of the subspaces other than
    the one that a class was learnt in; ``others``: their ``mean`` or their ``sum``.

    Source: Zhou et al., Expandable subspace ensemble for pre-trained model-based class-incremental learning,
    CVPR 2024, equations 4 to 12; the authors' code for the cosine in every subspace and the mean over the others.
    Differs: the softmax runs over new classes, as in the code (equation 8 is printed over old ones). A class that
    comes again gets another mean in the later task's subspace, and its score is that of the better one.
    """

    module: Literal["adapter", "ssf"] = "adapter"
    epochs: int = 20
    batch_size: int = 48
    lr: float = 0.01
    weight_decay: float = 5e-4
    bottleneck: int = 16
    alpha: float = 0.1
    others: Literal["mean", "sum"] = "mean"

    def reads(self, model: Model) -> tuple[str, ...]:
        """What the network reads."""
        network_of(model, "EASE")
        return model.reads

    def setup(self, model: Model, spec: StreamSpec, rng: np.random.Generator) -> None:
        """Put one module into the network, whose parameters are exchanged from task to task."""
        super().setup(model, spec, rng)
        for name, value, known in (
            ("module", self.module, ("adapter", "ssf")),
            ("way to join subspaces", self.others, ("mean", "sum")),
        ):
            if value not in known:
                raise unknown(name, str(value), known)
        self._tuning().insert(network_of(model, "EASE"))
        self.subspaces_: list[dict[str, Tensor]] = []  # the parameters of each task's module
        self.prototypes_ = torch.empty(0, 0, model.n_features)  # (subspaces, entries, D)
        self.classes_, self.owners_ = torch.empty(2, 0, dtype=torch.int64)  # of each entry: class, own subspace

    def train_task(self, task: TaskView) -> None:
        """Train a new module on the task, take its class means in all subspaces, complete those of the others."""
        network = network_of(self.model_, "EASE")
        redraw(network)
        self._tuning().fit(network, task)
        self.subspaces_.append({name: p.detach().clone() for name, p in trained(network).items()})
        sums = ClassMeans(len(self.subspaces_) * self.model_.n_features)
        for features, y in one_pass(task, self._features):
            sums.add(features, y)
        device = sums.sums.device
        classes = torch.tensor(task.classes, device=device)
        new = sums.means()[classes].view(len(classes), len(self.subspaces_), -1).transpose(0, 1).float()
        if len(self.subspaces_) > 1:
            completed = complete(self.prototypes_, self.owners_, new)
            new = torch.cat([torch.cat([self.prototypes_, completed[None]]), new], dim=1)
        self.prototypes_ = new
        own = torch.full_like(classes, len(self.subspaces_) - 1)
        self.classes_ = torch.cat([self.classes_.to(device), classes])
        self.owners_ = torch.cat([self.owners_.to(device), own])

    @torch.no_grad()
    def predict(self, inputs: Inputs, query: Query) -> Tensor:
        """Per class the cosine in its own subspace plus ``alpha`` times those in the other ones."""
        n = len(self.subspaces_)
        if not n:
            some = next(iter(inputs.values()))
            return torch.full((len(some), len(query.classes)), -torch.inf, device=some.device)
        features = self._features(inputs).reshape(-1, n, self.model_.n_features).transpose(0, 1)
        cosines = F.normalize(features, dim=2) @ F.normalize(self.prototypes_, dim=2).transpose(1, 2)
        weight = self.alpha / max(n - 1, 1) if self.others == "mean" else self.alpha
        own = F.one_hot(self.owners_, n).T.to(cosines)  # (subspaces, entries)
        scores = (cosines * torch.where(own > 0, 1.0, weight)[:, None]).sum(0)
        best = scores.new_full((len(scores), int(self.classes_.max()) + 1), -torch.inf)
        best = best.scatter_reduce(1, self.classes_.expand(len(scores), -1), scores, "amax")
        return candidates(best, ~best[0].isinf(), query.classes)

    def branches(self) -> dict[str, Branch]:
        """One for every task's module."""
        return {_name(k): partial(self._subspace, k) for k in range(len(self.subspaces_))}

    def _features(self, inputs: Inputs) -> Tensor:
        """Of all subspaces, one after the other (B, subspaces x D)."""
        parts = [
            inputs[_name(k)] if _name(k) in inputs else self._subspace(k, inputs) for k in range(len(self.subspaces_))
        ]
        return torch.cat(parts, dim=1)

    def _subspace(self, k: int, inputs: Inputs) -> Tensor:
        network = network_of(self.model_, "EASE")
        return frozen_features(
            self.model_, inputs, lambda batch: functional_call(network, self.subspaces_[k], (batch,))
        )

    def _tuning(self) -> Tuning:
        return Tuning(
            tune=self.module,
            epochs=self.epochs,
            lr=self.lr,
            batch_size=self.batch_size,
            weight_decay=self.weight_decay,
            bottleneck=self.bottleneck,
        )


def complete(old: Tensor, owners: Tensor, new: Tensor) -> Tensor:
    """Means of old classes in the newest subspace (E, D), where none of their samples has been.

    ``old`` (n - 1, E, D): means of the old classes in the old subspaces; ``owners`` (E,): the subspace each was
    learnt in; ``new`` (n, K, D): means of the new classes in all. Each is the average of the new classes' means in
    the newest subspace, weighted by a softmax of its cosines to them in its own one.
    """
    own = old[owners, torch.arange(len(owners), device=owners.device)]
    cosines = torch.einsum("ed,ekd->ek", F.normalize(own, dim=1), F.normalize(new, dim=2)[owners])
    return cosines.softmax(dim=1) @ new[-1]


def _name(k: int) -> str:
    return f"subspace_{k + 1}"
