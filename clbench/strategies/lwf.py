"""Learning without forgetting."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from clbench.models import Model
from clbench.strategy import SGDStrategy
from clbench.stream import Batch, StreamSpec, TaskView


@dataclass(kw_only=True)
class LwF(SGDStrategy):
    """Keep the old model's soft answers on the new task's samples.

    ``strength``: weight of the distillation loss. ``temperature``: of its softmax.

    Source: Li and Hoiem, Learning without Forgetting, ECCV 2016, Eqs. 1-4; one distillation term per past task
    where there are task labels, one over all seen classes elsewhere.
    Differs: no warm-up of the new head; the distillation is the Kullback-Leibler divergence times
    temperature squared, whose gradient is that of the paper's modified cross-entropy at the usual scale.
    """

    strength: float = 1.0
    temperature: float = 2.0

    def setup(self, model: Model, spec: StreamSpec, rng: np.random.Generator) -> None:
        """Start without a teacher."""
        super().setup(model, spec, rng)
        self.teacher_: dict[str, Tensor] = {}
        self.groups_: list[Tensor] = []  # head rows distilled together

    def loss(self, batch: Batch) -> Tensor:
        """Cross-entropy on the batch plus distillation from the model before the task."""
        logits = self.model_(batch.inputs)
        loss = self.cross_entropy(logits, batch.y)
        if not self.teacher_:
            return loss
        with torch.no_grad():
            self.model_.eval()
            old = functional_call(self.model_, self.teacher_, (batch.inputs,))
            self.model_.train()
        for rows in self.groups_:
            target = F.log_softmax(old[:, rows] / self.temperature, dim=1)
            answer = F.log_softmax(logits[:, rows] / self.temperature, dim=1)
            divergence = F.kl_div(answer, target, reduction="batchmean", log_target=True)
            loss = loss + self.strength * self.temperature**2 * divergence
        return loss

    def after_task(self, task: TaskView) -> None:
        """The model as it is now teaches the next task."""
        self.teacher_ = {k: v.clone() for k, v in self.model_.state_dict().items()}
        rows = self.allowed_[self.label_].nonzero()[:, 0]
        others = [g for g in self.groups_ if task.label is not None and not torch.equal(g, rows)]
        self.groups_ = [*others, rows]
