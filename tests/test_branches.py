"""Frozen branches: what never changes again is run once over every sample, and changes no score."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from clbench.checks.streams import CPU, fresh_stream, small_model
from clbench.loop import Progress, prepare, run
from clbench.seeds import Seeds
from clbench.state import State
from clbench.strategies.adam import ADAM
from clbench.strategies.ease import EASE
from clbench.strategy import Branch, Strategy
from clbench.stream import Inputs, TaskStream

SEEDS = Seeds.of(0)


class Counted(ADAM):
    """ADAM that counts the samples its tuned network is run on once it is frozen."""

    forwarded = 0

    def _branch(self, inputs: Inputs) -> Tensor:
        type(self).forwarded += len(inputs["image"])
        return super()._branch(inputs)


class WithoutBranches(ADAM):
    def branches(self) -> dict[str, Branch]:
        return {}


class EaseWithoutBranches(EASE):
    def branches(self) -> dict[str, Branch]:
        return {}


def ready(strategy: Strategy) -> TaskStream:
    return prepare(strategy, small_model, fresh_stream("class-incremental", "known", "convolutional"), SEEDS, CPU)


def accuracy(strategy: Strategy) -> NDArray[np.float64]:
    return run(strategy, ready(strategy), SEEDS, CPU).accuracy.values


def test_a_frozen_branch_is_run_once_over_every_sample() -> None:
    Counted.forwarded = 0
    accuracy(Counted(tune="ssf", epochs=1))
    stream = fresh_stream("class-incremental", "known", "convolutional")
    first = len(stream.tasks[0].train)  # its prototypes are taken before the harness knows of the branch
    assert Counted.forwarded == first + sum(len(t.train) for t in stream.tasks[1:]) + sum(
        len(t.test) for t in stream.tasks
    )


@pytest.mark.parametrize(
    ("with_branches", "without"),
    [
        (ADAM(tune="ssf", epochs=1), WithoutBranches(tune="ssf", epochs=1)),
        (EASE(module="ssf", epochs=1), EaseWithoutBranches(module="ssf", epochs=1)),
    ],
    ids=["ADAM", "EASE"],
)
def test_branches_change_no_score(with_branches: Strategy, without: Strategy) -> None:
    assert np.array_equal(accuracy(with_branches), accuracy(without))


def test_a_run_that_goes_on_from_a_checkpoint_has_its_branches_again() -> None:
    saved: list[tuple[Progress, State]] = []

    def keep(progress: Progress, state: State) -> None:
        if progress.tasks_done == 2:
            saved.append((Progress([*progress.rows], [*progress.counts], [*progress.costs]), state))

    strategy = EASE(module="ssf", epochs=1)
    whole = run(strategy, ready(strategy), SEEDS, CPU, checkpoint=keep)
    again = EASE(module="ssf", epochs=1)
    stream = ready(again)
    (progress, state) = saved[0]
    again.load_state_dict(state)
    rest = run(again, stream, SEEDS, CPU, progress=progress)
    assert np.array_equal(whole.accuracy.values, rest.accuracy.values)
    assert all(torch.equal(torch.as_tensor(whole.kept[k]), torch.as_tensor(rest.kept[k])) for k in whole.kept)
