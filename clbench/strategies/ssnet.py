"""SSNeT: a mask for every task, then training of the weights under it; and knowledge transfer between masks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from clbench.errors import BadInput
from clbench.isolation import Held, Trained, grown, own_head, with_rows
from clbench.masks import (
    TaskParts,
    draw_scores,
    drop_biases,
    maskable,
    pack,
    signed_constant,
    straight_through,
    top_share,
    unpack,
)
from clbench.models import Model
from clbench.strategy import SGDStrategy, Trainer
from clbench.stream import Batch, Inputs, ProtocolName, Query, StreamSpec, TaskView


@dataclass(kw_only=True)
class SSNeT(SGDStrategy):
    """Find a mask of the weights for every task, then train all weights under it, also those of earlier masks.

    ``density``: share of each layer's weights that a mask keeps. The trainer trains the scores that masks are ranked
    by; then the same trainer with ``weight_lr`` trains the weights for ``weight_epochs`` (0: masks only, as in
    SupSup). ``kkt``: a new task's scores begin with those of the earlier task under whose mask ``kkt_neighbours``
    nearest neighbours answer the new task's samples ``best`` if above chance, ``always``, or with the mean of ``all``
    above chance; only then are scores kept. ``kkt_share``: of the task's batches this is measured on (and one more).
    ``kkt_last_layer``: whether scores of the head are copied too, which hurts where its rows mean other classes.

    Source: Yadav and Bansal, Exclusive Supermask Subnetwork Training for Continual Learning, Findings of ACL 2023
    (SSNeT, and KKT); edge-popup masks of Ramanujan et al., CVPR 2020; the authors' code for what is not in the text.
    Differs: no validation half: the last step is what is evaluated and what the next task begins with. The learning
    rate is constant. ``weight_lr`` is never the masks', as it is in the authors' code. KKT: 10 neighbours, not 200,
    and never more than there are rows; features after the last activation; chance is one of the task's own classes,
    where the code for images takes those of the largest task. Head rows that are not shared by all tasks
    (other heads than linear, head_mode=growing or per_task), and a head's scale, are each task's own, trained densely
    in both phases. A task not learnt yet is answered by the whole network.
    """

    protocols: ClassVar[frozenset[ProtocolName]] = frozenset({"task-incremental"})
    protocols_because: ClassVar[str] = "a mask is chosen by the label of its task"

    density: float = 0.1
    trainer: Trainer = field(default_factory=lambda: Trainer(optimizer="adam", lr=0.01, momentum=0.0))
    weight_epochs: int = 10
    weight_lr: float = 0.001
    kkt: Literal["none", "best", "always", "all"] = "none"
    kkt_neighbours: int = 10
    kkt_share: float = 0.2
    kkt_last_layer: bool = True

    def __post_init__(self) -> None:
        shares = 0 < self.density <= 1 and 0 < self.kkt_share <= 1
        if not shares or self.weight_epochs < 0 or not 0 < self.weight_lr < math.inf or self.kkt_neighbours < 1:
            raise BadInput(
                "expected density and kkt_share above 0 and at most 1, weight_epochs >= 0, a finite weight_lr > 0 and "
                f"kkt_neighbours >= 1; got {self}"
            )
        if self.kkt not in ("none", "best", "always", "all"):
            raise BadInput(f"kkt is none, best, always or all; got '{self.kkt}'")

    def setup(self, model: Model, spec: StreamSpec, rng: np.random.Generator) -> None:
        """Make all weights signed constants, without biases; there is no mask yet."""
        super().setup(model, spec, rng)
        self.rows_: dict[str, int] = {}  # of each layer, those that have been made constants
        self._settle()
        self.own_ = TaskParts(model)
        self.n_rows_: dict[int, int] = {}  # of the head by task
        self.masks_: dict[int, dict[str, Tensor]] = {}  # bits by task and layer
        self.scores_: dict[int, dict[str, Tensor]] = {}

    def train_task(self, task: TaskView) -> None:
        """Train scores under frozen weights, then the editable weights under the mask that the scores give."""
        self.observe(task)
        self.before_task(task)
        weights, rows = maskable(self.model_), self.model_.head.rows(task.classes, task.label)
        dense = own_head(self.model_, rows)
        self._scores, self._masks = self.initial_scores(task), {}
        self._phase(task, "train", self.trainer, [*((s, None) for s in self._scores.values()), *dense])
        self._masks = {name: top_share(s, self.density) for name, s in self._scores.items()}
        if self.weight_epochs:
            trainer = replace(self.trainer, epochs=self.weight_epochs, lr=self.weight_lr)
            editable = [(weights[name], self.editable(name, mask)) for name, mask in self._masks.items()]
            self._phase(task, "weights", trainer, [*editable, *dense])
        self.after_task(task)
        del self._scores, self._masks, self._held

    def before_task(self, task: TaskView) -> None:
        """Give the task batch-norm statistics of its own, and rows that a head has grown what all weights have."""
        self._settle()
        self.own_.begin(self.label_)

    def after_task(self, task: TaskView) -> None:
        """Keep the mask as bits and what else is the task's own; its scores only for later tasks to begin with."""
        self.own_.end(self.label_, self.model_.head.rows(task.classes, task.label))
        self.n_rows_[self.label_] = len(self.model_.head.weight)
        self.masks_[self.label_] = {name: pack(mask) for name, mask in self._masks.items()}
        if self.kkt != "none":
            self.scores_[self.label_] = {name: s.detach() for name, s in self._scores.items()}

    def editable(self, name: str, mask: Tensor) -> Tensor:
        """Which weights of a layer the task with this mask may train: here, all that it uses."""
        return mask

    def loss(self, batch: Batch) -> Tensor:
        """Cross-entropy of the masked network; gradients reach the scores where the mask is still being found."""
        masks = self._masks or {
            name: straight_through(top_share(s, self.density), s.abs()) for name, s in self._scores.items()
        }
        network = {name: w * masks[name] for name, w in maskable(self.model_).items()} | self.own_.of(self.label_)
        return self.cross_entropy(functional_call(self.model_, network, (batch.inputs,)), batch.y)

    def after_step(self, batch: Batch) -> None:
        """Put back what the task may not edit."""
        self._held.put_back()

    @torch.no_grad()
    def predict(self, inputs: Inputs, query: Query) -> Tensor:
        """Scores of the network under the mask of the query's task."""
        self.model_.eval()
        return self.model_.scores(inputs, query, self.network(query.task_label or 0))

    def masks(self, task: int) -> dict[str, Tensor]:
        """The masks (bool) of a learnt task by layer; nothing for another."""
        weights = maskable(self.model_)
        return {name: unpack(bits, weights[name].shape) for name, bits in self.masks_.get(task, {}).items()}

    def network(self, task: int) -> dict[str, Tensor]:
        """What a learnt task answers with, as parameters and buffers by name."""
        weights = maskable(self.model_)
        found = {name: weights[name] * mask for name, mask in self.masks(task).items()} | self.own_.of(task)
        return with_rows(self.model_, found, self.n_rows_.get(task))

    def initial_scores(self, task: TaskView) -> dict[str, Tensor]:
        """Scores that a task begins with: drawn anew, or copies of those of its ``sources``."""
        scores = {name: draw_scores(weight) for name, weight in maskable(self.model_).items()}
        sources = self.sources(task)
        for name, fresh in scores.items():
            if sources and (self.kkt_last_layer or name != "head.weight"):
                known = torch.stack([grown(self.scores_[source][name], fresh) for source in sources])
                scores[name] = known.mean(0)
        return scores

    @torch.no_grad()
    def sources(self, task: TaskView) -> list[int]:
        """Earlier tasks whose scores a new one begins with, by how well nearest neighbours do on their features."""
        if not self.scores_:
            return []
        size = self.trainer.batch_size
        n_batches = math.ceil(self.kkt_share * math.ceil(len(task.data) / size)) + 1
        batches = list(islice(task.batches(size, phase="kkt"), n_batches))
        y, body = torch.cat([batch.y for batch in batches]), _Body(self.model_).eval()
        accuracy: dict[int, float] = {}
        for earlier in self.scores_:
            network = {f"model.{name}": value for name, value in self.network(earlier).items()}
            features = torch.cat([functional_call(body, network, (batch.raw,)) for batch in batches])
            accuracy[earlier] = knn_accuracy(features, y, self.kkt_neighbours)
        best = max(accuracy, key=lambda earlier: accuracy[earlier])
        above = [earlier for earlier, a in accuracy.items() if a > 1 / len(task.classes)]
        if self.kkt == "all":
            return above
        return [best] if self.kkt == "always" or best in above else []

    def _phase(self, task: TaskView, name: str, trainer: Trainer, trained: Sequence[Trained]) -> None:
        """Train these with an optimiser of their own."""
        self._held = Held(trained)
        parameters = [p.requires_grad_(True) for p, _ in trained]
        self.optimise(task, phase=name, trainer=trainer, parameters=parameters)
        for parameter in parameters:
            parameter.requires_grad_(False)

    @torch.no_grad()
    def _settle(self) -> None:
        """Make the network the papers': no biases, constants for weights that are new, and nothing trained as yet."""
        drop_biases(self.model_)
        self.model_.requires_grad_(False)
        for name, weight in maskable(self.model_).items():
            if (known := self.rows_.get(name, 0)) < len(weight):  # a shared head grows
                weight[known:] = signed_constant(weight[known:])
                self.rows_[name] = len(weight)


class _Body(nn.Module):
    """A model up to its head, as a module, which like any other can be called with other weights."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Inputs) -> Tensor:
        return self.model.features(inputs)


@torch.no_grad()
def knn_accuracy(features: Tensor, y: Tensor, n_neighbours: int) -> float:
    """Accuracy of the majority vote of nearest neighbours: the first 66 % of the rows know their class, the rest ask.

    ``features`` (n, D), ``y`` (n,). At most all that know are neighbours; 0 where none does.
    """
    n = int(0.66 * len(y))
    if not n:
        return 0.0
    nearest = torch.cdist(features[n:], features[:n]).topk(min(n_neighbours, n), largest=False).indices
    return float((y[:n][nearest].mode(dim=1).values == y[n:]).double().mean())
