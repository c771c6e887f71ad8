"""Broken strategies that train wrongly, each with the clause meant to catch it; and a correct one, which passes all."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from clbench.models import Model
from clbench.strategies.naive import Naive
from clbench.strategies.replay import Replay
from clbench.strategy import SGDStrategy, Strategy
from clbench.stream import Batch, Inputs, Query, StreamSpec, TaskView

SUBMITTED: dict[type[Strategy], str] = {}  # strategy: name of the clause that is meant to catch it


def breaks(clause: str) -> Callable[[type[Strategy]], type[Strategy]]:
    def note(cls: type[Strategy]) -> type[Strategy]:
        SUBMITTED[cls] = clause
        return cls

    return note


@dataclass(kw_only=True)
class Correct(Replay):
    """The twin of all that follow, with nothing wrong.

    Source: as ``Replay``.
    Differs: not at all.
    """


@breaks("same_seed_gives_the_same_scores")
@dataclass(kw_only=True)
class DrawsFromGlobalState(Naive):
    """Adds noise from Python's global generator to the loss."""

    def loss(self, batch: Batch) -> Tensor:
        return super().loss(batch) * (0.5 + random.random())


@breaks("same_seed_gives_the_same_scores")
@dataclass(kw_only=True)
class DrawsUnseededInSetup(Naive):
    """Draws initial weights anew from a generator that is seeded by the clock."""

    def setup(self, model: Model, spec: StreamSpec, rng: np.random.Generator) -> None:
        super().setup(model, spec, rng)
        clock = torch.Generator()
        clock.seed()
        nn.init.xavier_uniform_(model.head.weight, generator=clock)


@breaks("another_seed_gives_other_scores")
@dataclass(kw_only=True)
class IgnoresTheSeed(Strategy):
    """The nearest class mean of pixels, which draws nothing and does not say so.

    Source: none.
    Differs: not at all.
    """

    def setup(self, model: Model, spec: StreamSpec, rng: np.random.Generator) -> None:
        super().setup(model, spec, rng)
        self.means_: dict[int, Tensor] = {}

    def train_task(self, task: TaskView) -> None:
        samples = task.samples()
        for label in task.classes:
            self.means_[label] = samples["image"][samples["y"] == label].mean(0).flatten()

    def predict(self, inputs: Inputs, query: Query) -> Tensor:
        x = inputs["image"].flatten(1)
        never = torch.full((len(x),), -torch.inf)
        gaps = [-(x - self.means_[c]).square().sum(1) if c in self.means_ else never for c in query.classes]
        return torch.stack(gaps, dim=1)


@breaks("another_seed_gives_other_scores")
@dataclass(kw_only=True)
class SaysItIsDeterministic(Naive):
    """Declares that the seed changes nothing, though it does."""

    deterministic = True


@breaks("current_task_is_learnt")
@dataclass(kw_only=True)
class NeverLearns(Naive):
    """Multiplies its loss by nothing."""

    def loss(self, batch: Batch) -> Tensor:
        return super().loss(batch) * 0.0


@breaks("current_task_is_learnt")
@dataclass(kw_only=True)
class ShufflesItsLabels(Naive):
    """Loses the order of labels against images."""

    def cross_entropy(
        self, logits: Tensor, y: Tensor, labels: Tensor | None = None, over: Tensor | None = None
    ) -> Tensor:
        return super().cross_entropy(logits, y[torch.randperm(len(y))], labels, over)


@breaks("declared_protocols_work")
@dataclass(kw_only=True)
class FailsWithTaskLabels(Naive):
    """Declares task-incremental and fails there."""

    def before_task(self, task: TaskView) -> None:
        if task.label is not None:
            raise NotImplementedError("task labels")


@breaks("training_data_are_left_alone")
@dataclass(kw_only=True)
class NormalisesInPlace(Naive):
    """Scales the images of the task where they lie."""

    def before_task(self, task: TaskView) -> None:
        for images in task.data.inputs.values():
            if isinstance(images, Tensor):
                images.sub_(0.3)


@breaks("training_leaves_the_process_alone")
@dataclass(kw_only=True)
class SwitchesGradientsOff(SGDStrategy):
    """Switches gradients off after training and never on again for others.

    Source: none.
    Differs: not at all.
    """

    def before_task(self, task: TaskView) -> None:
        torch.set_grad_enabled(True)

    def after_task(self, task: TaskView) -> None:
        torch.set_grad_enabled(False)


@breaks("training_leaves_the_process_alone")
@dataclass(kw_only=True)
class SeedsEverybody(Naive):
    """Seeds NumPy's global generator for everybody."""

    def before_task(self, task: TaskView) -> None:
        np.random.seed(0)  # noqa: NPY002


@breaks("number_of_tasks_is_not_known")
@dataclass(kw_only=True)
class LooksForTheEnd(Naive):
    """Walks up the stack to the stream and counts its tasks."""

    def after_task(self, task: TaskView) -> None:
        import sys

        frame: Any = sys._getframe()
        while frame is not None and "stream" not in frame.f_locals:
            frame = frame.f_back
        self.left_ = len(frame.f_locals["stream"]) if frame is not None else 0


@breaks("classes_may_arrive_with_the_tasks")
@dataclass(kw_only=True)
class CountsOnAllClasses(Naive):
    """Makes a table of all classes in setup(), which an open label space does not have."""

    def setup(self, model: Model, spec: StreamSpec, rng: np.random.Generator) -> None:
        super().setup(model, spec, rng)
        self.counts_ = torch.zeros(spec.n_classes or 0)

    def after_task(self, task: TaskView) -> None:
        self.counts_[list(task.classes)] += 1
