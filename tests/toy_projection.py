"""Permuted digits for gradient projection, strategies that note what they look at, and what every one must keep to."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from clbench.capture import HEAD, Unit
from clbench.loop import prepare, train_one
from clbench.models import MLP, Model
from clbench.projection import ProjectedSGD, energy_along
from clbench.seeds import Seeds
from clbench.strategies.gpm import GPM
from clbench.strategies.sgp import SGP
from clbench.strategies.trgp import TRGP
from clbench.strategy import Trainer
from clbench.stream import Inputs, Query, TaskStream, TaskView
from tests.toy_streams import CPU, build

FEW = Trainer(epochs=2, batch_size=20, lr=0.05, momentum=0.0)
ALL: dict[str, Any] = {"threshold": 1.0, "first_threshold": None, "n_samples": 16}  # every direction of a few samples
SEEDS = Seeds.of(0)


class Noting(ProjectedSGD):
    """Notes the samples it has drawn last in each task, and before and after what it has enlarged each basis."""

    def setup(self, *args: Any) -> None:
        super().setup(*args)
        self.drawn: dict[int, Inputs] = {}
        self.steps: list[tuple[Unit, Tensor, float, Tensor, Tensor]] = []

    def draw(self, task: TaskView) -> tuple[Inputs, Tensor]:
        drawn = super().draw(task)
        self.drawn[self.label_] = drawn[0]
        return drawn

    def remember(self, unit: Unit, gram: Tensor, share: float) -> None:
        before = self.bases_[unit.name]
        super().remember(unit, gram, share)
        self.steps.append((unit, gram, share, before, self.bases_[unit.name]))


class NotingGPM(Noting, GPM):
    """GPM that notes."""


class NotingSGP(Noting, SGP):
    """SGP that notes."""


class NotingTRGP(Noting, TRGP):
    """TRGP that notes."""


@cache
def permuted(n_tasks: int = 3, protocol: str = "task-incremental", train: int = 300, seed: int = 0) -> TaskStream:
    sizes = {"train": train, "test": 200}
    return build(seed, rule="permutation", protocol=protocol, n_tasks=n_tasks, subset=sizes)


@cache
def split(protocol: str = "task-incremental", n_tasks: int = 3) -> TaskStream:
    return build(protocol=protocol, n_tasks=n_tasks, subset={"train": 500, "test": 200})


def mlp(**options: Any) -> Callable[..., Model]:
    return partial(MLP, **{"width": 100, "head_mode": "sliced", **options})


def learnt(
    strategy: Any,
    stream: TaskStream | None = None,
    model: Callable[..., Model] | None = None,
    look: Callable[[Any, int], None] | None = None,
    upto: int | None = None,
) -> Any:
    """The strategy, trained; ``look`` is called with it before the first task and after each."""
    torch.set_num_threads(1)
    stream = stream or permuted()
    read = prepare(strategy, model or mlp(), stream, SEEDS, CPU)
    if look:
        look(strategy, 0)
    for index in range(1, (upto or len(read)) + 1):
        train_one(strategy, read, index, SEEDS, CPU)
        if look:
            look(strategy, index)
    return strategy


def matrices(strategy: Any) -> dict[str, Tensor]:
    """The weight (out, d_in) of every unit, as it is now."""
    model = strategy.model_
    return {unit.name: unit.rows(model.get_parameter(unit.weight)).detach().clone() for unit in strategy.units}


def answers(strategy: Any, label: int, inputs: Inputs) -> Tensor:
    """Scores of all ten digits as a task of this label."""
    scores: Tensor = strategy.predict(inputs, Query(label, tuple(range(10)), ()))
    return scores


def check_updates_stay_outside(strategy: Any, stream: TaskStream | None = None, model: Any = None) -> None:
    """Invariant 2: what a task changes lies outside the bases of the tasks before it."""
    kept: dict[str, tuple[Tensor, Tensor]] = {}
    worst: list[float] = []
    moved: list[float] = []

    def look(strategy: Any, index: int) -> None:
        now = matrices(strategy)
        for name, (before, basis) in kept.items():
            rows = slice(len(before)) if name == HEAD else slice(None)
            update = (now[name] - before)[rows]
            if 0 < basis.shape[1] < len(basis):
                worst.append(float((update @ basis).norm() / update.norm()))
                moved.append(float(update.norm()))
        kept.update({name: (now[name], strategy.bases_[name].clone()) for name in now})

    learnt(strategy, stream, model, look)
    assert moved and min(moved) > 1e-2, "something has to be learnt"
    assert max(worst) < 1e-4, f"{max(worst):.2g} of an update lies in the basis of old tasks"


def check_old_answers_stand(strategy: Any, stream: TaskStream | None = None, model: Any = None) -> None:
    """Invariant 4: with threshold 1 the logits of the samples looked at never change again."""
    first: dict[int, Tensor] = {}

    def look(strategy: Any, index: int) -> None:
        if index:
            first[index] = answers(strategy, index, strategy.drawn[index])

    learnt(strategy, stream, model, look)
    for label, before in first.items():
        change = float((answers(strategy, label, strategy.drawn[label]) - before).abs().max() / before.abs().max())
        assert change < 2e-5, f"logits of task {label} have changed by {change:.2g} of their size"


def check_energy_is_held(strategy: Any) -> None:
    """Invariant 3 and 1: after each task every basis is orthonormal and holds the share of the task's energy."""
    learnt(strategy)
    for unit, gram, share, before, after in strategy.steps:
        assert torch.equal(after[:, : before.shape[1]], before)
        assert (after.T @ after - torch.eye(after.shape[1])).abs().max() < 1e-5
        held = float(energy_along(gram, after).sum() / gram.trace())
        assert held >= share - 1e-6, f"{unit.name} holds {held:.4f} of the energy instead of {share}"
