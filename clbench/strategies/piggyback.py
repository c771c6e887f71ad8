"""Piggyback."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call

from clbench.errors import BadInput
from clbench.isolation import Held, own_head
from clbench.masks import TaskParts, maskable, pack, straight_through, unpack
from clbench.models import Model
from clbench.strategy import SGDStrategy, Trainer
from clbench.stream import Batch, Inputs, ProtocolName, Query, StreamSpec, TaskView


@dataclass(kw_only=True)
class Piggyback(SGDStrategy):
    """Leave a pretrained network as it is; learn for each task which of its weights to use, and a classifier.

    A real number beside every weight begins at ``begin``; the weight is used where it is above ``threshold``. Weights,
    biases and norms with their statistics never change. Made for ``model=pretrained``; any network will do.

    Source: Mallya, Davis and Lazebnik, Piggyback: Adapting a Single Network to Multiple Tasks by Learning to Mask
    Weights, ECCV 2018, section 3, and its code.
    Differs: lr is 1e-3 by default, theirs 1e-4 for 30 epochs of larger data; no schedule; dropout is off in training;
    the classifier's bias is not trained, and its rows begin as the task before has left them where they are the same.
    """

    protocols: ClassVar[frozenset[ProtocolName]] = frozenset({"task-incremental"})
    protocols_because: ClassVar[str] = "its task label says which mask and classifier answer a sample"

    begin: float = 1e-2
    threshold: float = 5e-3
    trainer: Trainer = field(default_factory=lambda: Trainer(optimizer="adam", lr=0.001, momentum=0.0))

    def __post_init__(self) -> None:
        if not self.begin > self.threshold:
            raise BadInput(
                "piggyback needs begin > threshold, so that a task begins with all weights; got "
                f"begin={self.begin}, threshold={self.threshold}"
            )

    def setup(self, model: Model, spec: StreamSpec, rng: np.random.Generator) -> None:
        """No task has a mask yet."""
        super().setup(model, spec, rng)
        self.masks_: dict[int, dict[str, Tensor]] = {}  # by task and weight, as bits
        self.own_ = TaskParts(model, head_only=True)

    def train_task(self, task: TaskView) -> None:
        """Learn a mask and a classifier, by one optimiser."""
        self.observe(task)
        self.own_.begin(self.label_)
        self._real = {name: torch.full_like(weight, self.begin) for name, weight in self._weights().items()}
        self.model_.requires_grad_(False)
        rows = self.model_.head.rows(task.classes, task.label)
        classifier = own_head(self.model_, rows, head_only=True)
        self._held = Held(classifier)
        trained = (*self._real.values(), *(p for p, _ in classifier))
        self.optimise(task, parameters=[p.requires_grad_() for p in trained])
        self.masks_[self.label_] = {name: pack(real > self.threshold) for name, real in self._real.items()}
        self.own_.end(self.label_, rows)
        del self._real, self._held

    def loss(self, batch: Batch) -> Tensor:
        """Cross-entropy of the weights chosen; the norms' statistics are used, not gathered."""
        self.model_.eval()
        weights = {
            name: weight * straight_through(self._real[name] > self.threshold, self._real[name])
            for name, weight in self._weights().items()
        }
        return self.cross_entropy(functional_call(self.model_, weights, (batch.inputs,)), batch.y)

    def after_step(self, batch: Batch) -> None:
        """Put the rows of other tasks' classifiers back."""
        self._held.put_back()

    @torch.no_grad()
    def predict(self, inputs: Inputs, query: Query) -> Tensor:
        """Scores of the task's own mask and classifier; of all weights for a task not seen yet."""
        self.model_.eval()
        label = query.task_label or 0
        if label not in self.masks_:
            return self.model_.scores(inputs, query)
        masks = {name: unpack(bits, self.model_.get_parameter(name).shape) for name, bits in self.masks_[label].items()}
        weights = {name: torch.where(masks[name], weight, 0.0) for name, weight in self._weights().items()}
        return self.model_.scores(inputs, query, weights | self.own_.of(label))

    def _weights(self) -> dict[str, Tensor]:
        """What is masked: all but the classifier."""
        return {name: weight.detach() for name, weight in maskable(self.model_).items() if name != "head.weight"}
