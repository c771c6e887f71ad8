"""Small heads with frozen rows, and streams, strategies and runs to train them by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import clbench
from clbench.evaluate import Row
from clbench.experiment import make_strategy
from clbench.loop import prepare
from clbench.models import MLP, Head
from clbench.models.frozen import Targets
from clbench.places import names, read_yaml
from clbench.record import Record
from clbench.seeds import Seeds
from clbench.strategy import SGDStrategy, Trainer
from clbench.stream import Batch, StreamSpec, TaskStream
from tests.toy_streams import CPU, build

ARMS = ("cosine", "random_frozen", "language_permuted", "language")
FROZEN = ARMS[1:]
ANIMALS = ("cat", "dog", "frog", "truck", "ship", "airplane")
TARGETS = {"dim": 384}
FEW = Trainer(epochs=1, batch_size=32)


def spec(*class_names: str, n_features: int = 16, protocol: Any = "class-incremental") -> StreamSpec:
    known = class_names or ANIMALS
    return StreamSpec(protocol, {"features": (n_features,)}, "known", len(known), "image", known)


def open_spec(n_features: int = 16) -> StreamSpec:
    return StreamSpec("class-incremental", {"features": (n_features,)}, "open")


def head(
    kind: Any = "language", mode: Any = "sliced", of: StreamSpec | None = None, d: int = 16, **options: Any
) -> Head:
    torch.manual_seed(0)
    return Head(d, of or spec(), kind, mode, Targets(**{"dim": 384, **options}))


@cache
def stream(label_space: str = "known", protocol: str = "class-incremental") -> TaskStream:
    sizes: dict[str, Any] = {"subset": {"train": 300, "test": 100}, "n_tasks": 3}
    made = build(0, label_space=label_space, protocol=protocol, **sizes)
    return replace(made, tasks=tuple(replace(t, train=t.train.on(CPU), test=t.test.on(CPU)) for t in made.tasks))


def prepared(strategy: Any, mode: Any = "sliced", label_space: str = "known", kind: Any = "language") -> TaskStream:
    model = partial(MLP, width=24, depth=1, head=kind, head_mode=mode, targets=TARGETS)
    return prepare(strategy, model, stream(label_space), Seeds.of(0), CPU)


class FirstBatch:
    """A watcher that looks once, before the first step of a task: the head has its rows and is not yet trained."""

    def __init__(self, look: Callable[[], Tensor]) -> None:
        self._look = look
        self.seen = torch.empty(0)

    def started(self, n_tasks: int) -> None:
        """Nothing to do."""

    def stepped(self, task: int, phase: str, batch: Batch) -> None:
        """Look, the first time."""
        if not self.seen.numel():
            self.seen = self._look().detach()

    def finished_task(self, task: int, row: Row, seconds: float) -> None:
        """Nothing to do."""


def shipped_strategy(name: str) -> SGDStrategy:
    config = {k: v for k, v in read_yaml(names("strategy")[name]).items() if k != "defaults"}
    config |= {k: v for k, v in {"memory": 60, "fit_epochs": 3}.items() if k in config}
    made = make_strategy(config, FEW)
    assert isinstance(made, SGDStrategy)
    return made


def language_run(folder: Path, strategy: str, *overrides: str, model: str = "mlp_language") -> Record:
    quick = ["trainer.epochs=1", "model.width=24", "scenario.subset={train: 300, test: 100}"]
    return clbench.run("split_digits-v1", strategy, model=model, records=folder, overrides=[*quick, *overrides])
