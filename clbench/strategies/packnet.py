"""PackNet."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call

from clbench.errors import BadInput
from clbench.isolation import Held, own_head, with_rows
from clbench.masks import TaskParts, draw_scores, maskable
from clbench.models import Model
from clbench.strategy import SGDStrategy
from clbench.stream import Batch, Inputs, ProtocolName, Query, StreamSpec, TaskView


@dataclass(kw_only=True)
class PackNet(SGDStrategy):
    """Train the free weights, prune the smallest ones for the tasks to come, and retrain what is left.

    Every weight has one owner. A task is answered with the weights of the tasks up to it; none of them changes again.
    ``prune``: share of a task's weights that is freed, layer by layer. ``retrain_epochs``: epochs of retraining, with
    the trainer's lr times ``retrain_lr_factor``. ``redraw``: free weights begin the next task uniformly drawn within
    +-1 / sqrt(fan_in), else at 0. Raises ``BadInput`` when a task finds no free weight.

    Source: Mallya and Lazebnik, PackNet: Adding Multiple Tasks to a Single Network by Iterative Pruning, CVPR 2018,
    section 3, and its code.
    Differs: of weights that tie at the cut-off, exactly the share is pruned; biases and the scale and shift of norms
    stay as they were made, the paper's once the backbone is trained; each task has its own batch-norm statistics. A
    linear head with rows for all tasks is packed too, a task taking the rows of its classes; other heads have rows of
    their own.
    """

    protocols: ClassVar[frozenset[ProtocolName]] = frozenset({"task-incremental"})
    protocols_because: ClassVar[str] = "its task label says which weights answer a sample"

    prune: float = 0.75
    retrain_epochs: int = 5
    retrain_lr_factor: float = 0.1
    redraw: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.prune < 1 or self.retrain_epochs < 0 or not self.retrain_lr_factor > 0:
            raise BadInput(
                "packnet needs 0 < prune < 1 (the share freed for later tasks), retrain_epochs >= 0 and "
                f"retrain_lr_factor > 0; got {self.prune}, {self.retrain_epochs} and {self.retrain_lr_factor}"
            )

    def setup(self, model: Model, spec: StreamSpec, rng: np.random.Generator) -> None:
        """Nobody owns a weight."""
        super().setup(model, spec, rng)
        self.owners_: dict[str, Tensor] = {}  # like the weight: 0 for nobody, else the label of the task
        self.n_rows_: dict[int, int] = {}  # of the head by task
        self.own_ = TaskParts(model)

    def train_task(self, task: TaskView) -> None:
        """Train, prune, retrain."""
        self.observe(task)
        rows = self.model_.head.rows(task.classes, task.label)
        self.own_.begin(self.label_)
        self._claim(rows)
        self.optimise(task, parameters=self._hold(rows))
        self._free_the_smallest()
        slower = replace(self.trainer, lr=self.trainer.lr * self.retrain_lr_factor)
        self.optimise(task, self.retrain_epochs, phase="retrain", trainer=slower, parameters=self._hold(rows))
        self.n_rows_[self.label_] = len(self.model_.head.weight)
        self.own_.end(self.label_, rows)
        del self._held

    def loss(self, batch: Batch) -> Tensor:
        """Cross-entropy of the weights owned so far."""
        return self.cross_entropy(functional_call(self.model_, self._of(self.label_), (batch.inputs,)), batch.y)

    def after_step(self, batch: Batch) -> None:
        """Put back what the task does not own."""
        self._held.put_back()

    @torch.no_grad()
    def predict(self, inputs: Inputs, query: Query) -> Tensor:
        """Scores of the weights that the tasks up to the asked one own; of all weights for a task not seen yet."""
        self.model_.eval()
        label = query.task_label or 0
        return self.model_.scores(inputs, query, self._of(label) if label in self.own_.parts else None)

    @torch.no_grad()
    def _claim(self, rows: list[int]) -> None:
        """Let the task own all free weights; of a head, those of its ``rows``."""
        claimed = 0
        for name, weight in maskable(self.model_).items():
            owners = torch.zeros_like(weight, dtype=torch.uint8 if self.label_ < 256 else torch.int16)
            known = self.owners_.get(name, owners[:0])
            owners[: len(known)] = known  # a shared head may have grown
            free = owners == 0
            if name == "head.weight":
                free[[row for row in range(len(free)) if row not in rows]] = False
            if self.redraw:  # what was pruned is exactly 0
                weight.copy_(torch.where(free & (weight == 0), draw_scores(weight), weight))
            owners[free] = self.label_
            self.owners_[name] = owners
            claimed += int(free.sum())
        if not claimed:
            raise BadInput(
                f"packnet has no free weight left for task {self.label_}; every task leaves prune={self.prune} of what "
                "it finds: raise prune, or take a larger network"
            )

    @torch.no_grad()
    def _free_the_smallest(self) -> None:
        """Set the smallest of the task's weights to 0, layer by layer, and make them free."""
        for name, weight in maskable(self.model_).items():
            mine = (self.owners_[name] == self.label_).flatten().nonzero()[:, 0]
            smallest = mine[weight.flatten()[mine].abs().argsort(stable=True)[: int(self.prune * len(mine))]]
            weight.view(-1)[smallest] = 0.0
            self.owners_[name].view(-1)[smallest] = 0

    def _hold(self, rows: list[int]) -> list[Tensor]:
        """Weights, and what of the head a task has for itself, to be trained; all else is held as it is now."""
        self.model_.requires_grad_(False)
        weights = maskable(self.model_)
        mine = [(weight, self.owners_[name] == self.label_) for name, weight in weights.items()]
        trained = [*mine, *own_head(self.model_, rows)]
        self._held = Held(trained)
        return [p.requires_grad_() for p, _ in trained]

    def _of(self, label: int) -> dict[str, Tensor]:
        """The network of a task: weights by name, everybody's later than the task left out."""
        owners = {name: self.owners_[name] for name in maskable(self.model_)}
        present = {name: (owner > 0) & (owner <= label) for name, owner in owners.items()}
        weights = {name: torch.where(present[name], w, 0.0) for name, w in maskable(self.model_).items()}
        return with_rows(self.model_, weights | self.own_.of(label), self.n_rows_.get(label))
