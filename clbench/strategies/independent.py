"""Reference: each task alone, from scratch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from clbench.models import Model
from clbench.strategy import SGDStrategy
from clbench.stream import Inputs, Query, StreamSpec, TaskView


@dataclass(kw_only=True)
class Independent(SGDStrategy):
    """Declared oracle: one model per task, each from scratch (same initial body, new head).

    With task labels each task is answered by its own model, otherwise by the last one. Its diagonal is what
    single-task training reaches.

    Source: the baseline "independent" of Lopez-Paz and Ranzato, Gradient Episodic Memory, NeurIPS 2017.
    Differs: every model has the full size, not a share of the units.
    """

    reference: ClassVar[bool] = True

    def setup(self, model: Model, spec: StreamSpec, rng: np.random.Generator) -> None:
        """Keep the initial weights."""
        super().setup(model, spec, rng)
        self.initial_: dict[str, Tensor] = {k: v.clone() for k, v in model.state_dict().items()}
        self.models_: dict[int, dict[str, Tensor]] = {}

    def before_task(self, task: TaskView) -> None:
        """Begin from the initial weights."""
        self.model_.restart(self.initial_)

    def after_task(self, task: TaskView) -> None:
        """Keep the model where a task label can ask for it."""
        if task.label is not None:
            self.models_[task.label] = {k: v.clone() for k, v in self.model_.state_dict().items()}

    @torch.no_grad()
    def predict(self, inputs: Inputs, query: Query) -> Tensor:
        """Scores of the task's own model; the untrained one for a task not seen yet."""
        if self.spec.protocol != "task-incremental":
            return super().predict(inputs, query)
        self.model_.eval()
        weights = self.models_.get(query.task_label or 0, self.initial_)
        return self.model_.scores(inputs, query, weights)
