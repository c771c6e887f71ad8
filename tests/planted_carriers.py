"""Broken strategies that carry more from task to task than their state, or lie about it."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from clbench.buffer import Buffer
from clbench.models import Model
from clbench.strategies.ewc import EWC
from clbench.strategies.naive import Naive
from clbench.strategies.replay import Replay
from clbench.strategy import Branch
from clbench.stream import Batch, StreamSpec, TaskView
from tests.planted_strategies import breaks

CACHE: list[dict[str, Tensor]] = []  # what one of the strategies below wrongly keeps in the module


@breaks("branches_never_change")
@dataclass(kw_only=True)
class CallsItsNetworkFrozen(Naive):
    """Says that a network is frozen which it goes on training.

    Source: none.
    Differs: the harness would hand out features of an earlier network.
    """

    def branches(self) -> dict[str, Branch]:
        return {"body": self.model_.features}


@breaks("past_tasks_are_closed")
@dataclass(kw_only=True)
class KeepsTheView(Naive):
    """Rehearses from the views of past tasks.

    Source: none.
    Differs: reads what is closed.
    """

    def setup(self, model: Model, spec: StreamSpec, rng: np.random.Generator) -> None:
        super().setup(model, spec, rng)
        self.views: list[TaskView] = []

    def after_task(self, task: TaskView) -> None:
        for view in self.views:
            _ = view.data.labels.float().mean()
        self.views.append(task)


@dataclass(kw_only=True)
class Rehearses(Naive):
    """Trains on whatever ``old`` gives besides the batch; what follows differs in where that lies."""

    def old(self) -> dict[str, Tensor]:
        return {}

    def loss(self, batch: Batch) -> Tensor:
        loss = super().loss(batch)
        old = self.old()
        if old:
            logits = self.model_({name: old[name] for name in batch.inputs})
            loss = loss + self.cross_entropy(logits, old["y"], old["label"])
        return loss


@breaks("state_is_all_that_is_carried")
@dataclass(kw_only=True)
class StashesInAnAttribute(Rehearses):
    """Keeps past samples in an attribute that is not part of the state."""

    def setup(self, model: Model, spec: StreamSpec, rng: np.random.Generator) -> None:
        super().setup(model, spec, rng)
        self.past: dict[str, Tensor] = {}

    def old(self) -> dict[str, Tensor]:
        return self.past

    def after_task(self, task: TaskView) -> None:
        self.past = {name: x[:40] for name, x in task.samples().items()}

    def stored_samples(self) -> int:
        return len(self.past["y"]) if self.past else 0


@breaks("instances_are_independent")
@dataclass(kw_only=True)
class SharesABuffer(Rehearses):
    """Keeps past samples in a buffer of the class."""

    shared: ClassVar[dict[int, dict[str, Tensor]]] = {}

    def setup(self, model: Model, spec: StreamSpec, rng: np.random.Generator) -> None:
        super().setup(model, spec, rng)
        self.shared.clear()

    def old(self) -> dict[str, Tensor]:
        return next(iter(self.shared.values()), {})

    def after_task(self, task: TaskView) -> None:
        rows = self.rng_.permutation(len(task.data))[:40]
        self.shared[0] = {name: x[torch.from_numpy(rows)] for name, x in task.samples().items()}


@breaks("state_is_all_that_is_carried")
@dataclass(kw_only=True)
class CachesInTheModule(Rehearses):
    """Keeps past samples in a list of its module, which no other process has."""

    def setup(self, model: Model, spec: StreamSpec, rng: np.random.Generator) -> None:
        super().setup(model, spec, rng)
        CACHE.clear()

    def old(self) -> dict[str, Tensor]:
        return CACHE[-1] if CACHE else {}

    def after_task(self, task: TaskView) -> None:
        CACHE.append({name: x[:40] for name, x in task.samples().items()})


@breaks("state_is_all_that_is_carried")
@dataclass(kw_only=True)
class ForgetsItsImportance(EWC):
    """Leaves the Fisher information out of its state."""

    def state_dict(self) -> dict[str, Any]:
        return {k: v for k, v in super().state_dict().items() if k != "fisher_"}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict({**state, "pull_": {}})


@breaks("state_is_all_that_is_carried")
@dataclass(kw_only=True)
class CountsTasksOnTheSide(Naive):
    """Slows down with a count of tasks that is not in its state."""

    def setup(self, model: Model, spec: StreamSpec, rng: np.random.Generator) -> None:
        super().setup(model, spec, rng)
        self.count = 0

    def after_task(self, task: TaskView) -> None:
        self.count += 1

    def loss(self, batch: Batch) -> Tensor:
        return super().loss(batch) / (1 + self.count)


@breaks("stored_samples_are_declared")
@dataclass(kw_only=True)
class HidesSamples(Naive):
    """Keeps images in its state and declares none."""

    def after_task(self, task: TaskView) -> None:
        self.prototypes_ = task.samples()["image"][:30].flatten(1)


@breaks("stored_samples_are_declared")
@dataclass(kw_only=True)
class HidesSamplesAsBytes(Naive):
    """Keeps images as bytes beside their labels, in a list."""

    def after_task(self, task: TaskView) -> None:
        samples = task.samples()
        pixels = (samples["image"][:20].flatten(1) * 255).round().to(torch.uint8)
        self.table_ = torch.cat([samples["y"][:20, None], pixels], dim=1).tolist()


@breaks("stored_samples_are_declared")
@dataclass(kw_only=True)
class UnderstatesItsMemory(Replay):
    """Declares half of what it keeps."""

    def stored_samples(self) -> int:
        return len(self.buffer_) // 2


@breaks("stored_samples_stay_within_memory")
@dataclass(kw_only=True)
class ExceedsItsMemory(Replay):
    """Gives every task a memory of its own."""

    def before_task(self, task: TaskView) -> None:
        self.buffer_.capacity = len(self.buffer_) + self.memory


@breaks("stored_samples_stay_within_memory")
@dataclass(kw_only=True)
class StoresWithoutAMemory(Naive):
    """Stores samples with no hyperparameter that says how many."""

    def setup(self, model: Model, spec: StreamSpec, rng: np.random.Generator) -> None:
        super().setup(model, spec, rng)
        self.buffer_ = Buffer(50)

    def after_task(self, task: TaskView) -> None:
        self.buffer_.add(task.samples(), self.rng_)

    def stored_samples(self) -> int:
        return len(self.buffer_)


@breaks("state_bytes_are_counted")
@dataclass(kw_only=True)
class HidesBytesInText(Naive):
    """Writes its weights into a text, whose bytes nobody counts."""

    def after_task(self, task: TaskView) -> None:
        weights = next(self.model_.parameters()).detach()
        self.notes_ = weights.numpy().tobytes().hex()


@breaks("state_is_plain")
@dataclass(kw_only=True)
class StatesAFunction(Naive):
    """Has a function in its state, which only pickle could save."""

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "schedule_": lambda epoch: 0.1}


@breaks("state_is_all_that_is_carried")
@dataclass(kw_only=True)
class StashesOnDisk(Rehearses):
    """Keeps past samples in a file, which a fresh process finds as well."""

    def setup(self, model: Model, spec: StreamSpec, rng: np.random.Generator) -> None:
        super().setup(model, spec, rng)
        self.past: dict[str, Tensor] = {}

    def path(self, n_seen: int) -> Path:
        return Path(tempfile.gettempdir()) / f"planted-{os.getuid()}-{n_seen}.pt"

    def before_task(self, task: TaskView) -> None:
        n_before = len(self.seen_) - len(task.classes)
        self.past = torch.load(self.path(n_before)) if n_before else {}

    def old(self) -> dict[str, Tensor]:
        return self.past

    def after_task(self, task: TaskView) -> None:
        self.past = {}
        torch.save({name: x[:40] for name, x in task.samples().items()}, self.path(len(self.seen_)))
