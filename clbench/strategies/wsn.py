"""Winning subnetworks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call

from clbench.errors import BadInput
from clbench.isolation import Held, own_head, with_rows
from clbench.masks import TaskParts, draw_scores, maskable, pack, straight_through, top_share, unpack
from clbench.models import Model
from clbench.strategy import SGDStrategy, Trainer
from clbench.stream import Batch, Inputs, ProtocolName, Query, StreamSpec, TaskView


@dataclass(kw_only=True)
class WSN(SGDStrategy):
    """Learn weights and a mask on them together; weights in the mask of an earlier task are used but never changed.

    The mask keeps the share ``density`` of each layer's weights whose scores are largest. One set of scores serves all
    tasks and is never reset.

    Source: Kang et al., Forget-free continual learning with winning subnetworks, ICML 2022, section 3, Algorithm 1.
    Differs: ``density`` is the share kept (their code's ``sparsity`` the share removed); the learning rate is constant,
    without a validation half that would lower it; the stored mask is that of the scores after the last step, which is
    what is evaluated (their code stores the last batch's beside the best epoch's weights); biases and the scale and
    shift of norms stay as they were made, each task has its own batch-norm statistics. A linear head with rows for all
    tasks is masked too, a task using the rows of its classes; other heads are dense, with rows of their own.
    """

    protocols: ClassVar[frozenset[ProtocolName]] = frozenset({"task-incremental"})
    protocols_because: ClassVar[str] = "its task label says which mask answers a sample"

    density: float = 0.5
    trainer: Trainer = field(default_factory=lambda: Trainer(optimizer="adam", lr=0.001, momentum=0.0))

    def __post_init__(self) -> None:
        if not 0 < self.density <= 1:
            raise BadInput(f"wsn needs 0 < density <= 1, the share of weights a task keeps; got {self.density}")

    def setup(self, model: Model, spec: StreamSpec, rng: np.random.Generator) -> None:
        """No mask yet; scores are drawn when a layer is first trained."""
        super().setup(model, spec, rng)
        self.scores_: dict[str, Tensor] = {}
        self.masks_: dict[int, dict[str, Tensor]] = {}  # by task and weight, as bits
        self.n_rows_: dict[int, int] = {}  # of the head by task
        self.own_ = TaskParts(model)

    def train_task(self, task: TaskView) -> None:
        """Train weights and scores by one optimiser."""
        self.observe(task)
        self.before_task(task)
        self.model_.requires_grad_(False)
        weights, rows = maskable(self.model_), self.model_.head.rows(task.classes, task.label)
        unused = [(weight, ~self._used(name, weight)) for name, weight in weights.items()]
        trained = [*unused, *own_head(self.model_, rows)]
        self._held = Held(trained)
        self.optimise(task, parameters=[p.requires_grad_() for p in (*(p for p, _ in trained), *self.scores_.values())])
        self.after_task(task)
        del self._held

    def before_task(self, task: TaskView) -> None:
        """Give the task batch-norm statistics of its own, and rows that a shared head has grown their scores."""
        self.own_.begin(self.label_)
        for name, weight in maskable(self.model_).items():
            known = self.scores_.get(name, weight[:0]).detach()
            fresh = draw_scores(weight[len(known) :]) if len(known) < len(weight) else known[:0]
            self.scores_[name] = torch.cat([known, fresh])

    def loss(self, batch: Batch) -> Tensor:
        """Cross-entropy of the weights that the present scores choose."""
        weights = self.own_.of(self.label_)
        for name, weight in maskable(self.model_).items():
            scores = self.scores_[name]
            weights[name] = weight * straight_through(top_share(scores, self.density), scores.abs())
        return self.cross_entropy(functional_call(self.model_, weights, (batch.inputs,)), batch.y)

    def after_step(self, batch: Batch) -> None:
        """Put back what earlier tasks use."""
        self._held.put_back()

    def after_task(self, task: TaskView) -> None:
        """Keep the mask of the scores as they are now, and what the task has for itself."""
        rows = self.model_.head.rows(task.classes, task.label)
        masks = {name: top_share(scores, self.density) for name, scores in self.scores_.items()}
        if "head.weight" in masks:  # rows of other classes have no part in the task's answers
            masks["head.weight"][[row for row in range(len(masks["head.weight"])) if row not in rows]] = False
        self.masks_[self.label_] = {name: pack(mask) for name, mask in masks.items()}
        self.n_rows_[self.label_] = len(self.model_.head.weight)
        self.own_.end(self.label_, rows)

    @torch.no_grad()
    def predict(self, inputs: Inputs, query: Query) -> Tensor:
        """Scores of the task's own subnetwork; of all weights for a task not seen yet."""
        self.model_.eval()
        label = query.task_label or 0
        if label not in self.masks_:
            return self.model_.scores(inputs, query)
        masks = {name: unpack(self.masks_[label][name], w.shape) for name, w in maskable(self.model_).items()}
        weights = {name: torch.where(masks[name], w, 0.0) for name, w in maskable(self.model_).items()}
        network = with_rows(self.model_, weights | self.own_.of(label), self.n_rows_.get(label))
        return self.model_.scores(inputs, query, network)

    def _used(self, name: str, weight: Tensor) -> Tensor:
        """Which entries of a weight are in the mask of an earlier task."""
        used = torch.zeros_like(weight, dtype=torch.bool)
        for masks in self.masks_.values():
            used |= unpack(masks[name], weight.shape)
        return used
