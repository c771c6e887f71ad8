"""Digits with pixels in a new order for every task, and what strategies that pack tasks into one network must keep."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import pytest
import torch
from torch import Tensor

from clbench.errors import UnsupportedProtocol
from clbench.evaluate import make_query
from clbench.loop import RunResult, prepare, run, train_one
from clbench.metrics import metric
from clbench.models import MLP, Model
from clbench.seeds import Seeds
from clbench.strategies.naive import Naive
from clbench.strategy import Strategy, Trainer
from clbench.stream import StreamSpec, TaskStream
from tests.toy_streams import CPU, build

SEEDS = Seeds.of(0)
ROUGH = {  # all that moves a weight without a gradient
    "momentum": Trainer(epochs=2, momentum=0.9, weight_decay=1e-2),
    "adam": Trainer(epochs=2, optimizer="adam", lr=0.005, momentum=0.0, weight_decay=1e-2),
}
HEADS = [("linear", "sliced"), ("linear", "shared"), ("linear", "per_task"), ("linear", "growing")]
HEADS += [("cosine", "growing"), ("cosine", "shared"), ("cosine", "per_task")]
HEADS += [("language", "sliced"), ("language", "growing"), ("language", "per_task")]


@cache
def permuted(n_tasks: int = 3) -> TaskStream:
    """Ten digits in every task, with task labels."""
    sizes = {"train": 600, "test": 300}
    return build(0, rule="permutation", protocol="task-incremental", n_tasks=n_tasks, subset=sizes)


@cache
def split() -> TaskStream:
    """Two digits in every task, with task labels."""
    return build(0, protocol="task-incremental", n_tasks=3, subset={"train": 400, "test": 200})


def network(spec: StreamSpec, **options: Any) -> Model:
    return MLP(spec, width=100, depth=2, **options)


Make = Callable[[StreamSpec], Model]


def begun(strategy: Any, stream: TaskStream | None = None, make: Make = network) -> TaskStream:
    """Set the strategy up for a stream, which is returned as it reads it."""
    torch.set_num_threads(1)
    return prepare(strategy, make, stream or permuted(), SEEDS, CPU)


def trained(strategy: Any, stream: TaskStream | None = None, make: Make = network) -> Iterator[int]:
    """Train task by task; gives each task's number when it is done."""
    read = begun(strategy, stream, make)
    for index in range(1, len(read) + 1):
        train_one(strategy, read, index, SEEDS, CPU)
        yield index


def result(strategy: Strategy, stream: TaskStream | None = None, make: Make = network) -> RunResult:
    read = begun(strategy, stream, make)
    return run(strategy, read, SEEDS, CPU)


def logits(strategy: Strategy, stream: TaskStream, task: int) -> Tensor:
    """Answers to the test half of a task."""
    probe = stream.tasks[task - 1].test
    query = make_query("task-incremental", stream.tasks, task, task)
    return strategy.predict(probe.take(torch.arange(len(probe))), query)


def drift(strategy: Any, stream: TaskStream | None = None, make: Make = network) -> float:
    """The largest change of a logit of an earlier task, from right after its training to the end of the stream."""
    stream = stream or permuted()
    then = [logits(strategy, stream, index) for index in trained(strategy, stream, make)]
    now = [logits(strategy, stream, index) for index in range(1, len(stream) + 1)]
    return max(float((a - b).abs().max()) for a, b in zip(then[:-1], now[:-1], strict=True))


def assert_nothing_old_changes(strategy: Any, stream: TaskStream | None = None, make: Make = network) -> None:
    """Answers to earlier tasks stay the same bit by bit."""
    moved = drift(strategy, stream, make)
    assert moved == 0.0, f"old logits moved by up to {moved:.3g}"


def assert_goes_on_from_its_state(new: Callable[[], Any], stream: TaskStream | None = None) -> None:
    """Saved after the first task and loaded into another instance, training gives the same bit by bit."""
    stream = stream or permuted()
    whole, first, second = new(), new(), new()
    for _ in trained(whole, stream):
        pass
    begun(first, stream)
    train_one(first, stream, 1, SEEDS, CPU)
    begun(second, stream)
    second.load_state_dict(first.state_dict())
    for index in range(2, len(stream) + 1):
        train_one(second, stream, index, SEEDS, CPU)
    for index in range(1, len(stream) + 1):
        assert torch.equal(logits(whole, stream, index), logits(second, stream, index))


def with_head(kind: str, mode: str) -> Make:
    return partial(network, head=kind, head_mode=mode, targets={"dim": 384} if kind == "language" else None)


def naive_forgets(stream: TaskStream | None = None) -> float:
    """Points of accuracy that plain training loses on the earlier tasks, on average."""
    return -backward_transfer(result(Naive(), stream))


def backward_transfer(outcome: RunResult) -> float:
    """Mean change of the earlier tasks' accuracy since each was learnt, in points."""
    return 100 * metric("backward_transfer.gem2017")(outcome.accuracy)


def accuracy(outcome: RunResult) -> float:
    """Mean accuracy over tasks at the end, in points."""
    return 100 * metric("average_accuracy.gem2017")(outcome.accuracy)


def assert_refuses_other_protocols(strategy: Strategy, words: str) -> None:
    """Without task labels it says why it cannot answer."""
    with pytest.raises(UnsupportedProtocol, match=words):
        begun(strategy, build(0, n_tasks=2))


def assert_frozen_entries_never_move(strategy: Any, entries: Callable[[int], dict[str, Tensor]]) -> None:
    """The weights in ``entries(task)`` (masks by weight) are equal bit by bit after every later task."""
    kept: list[tuple[dict[str, Tensor], dict[str, Tensor]]] = []
    for index in trained(strategy):
        weights = {name: weight.detach().clone() for name, weight in strategy.model_.named_parameters()}
        for masks, then in kept:
            for name, mask in masks.items():
                assert torch.equal(weights[name][mask], then[name][mask]), f"{name} moved in task {index}"
        kept.append((entries(index), weights))
    assert all(bool(mask.any()) for masks, _ in kept for mask in masks.values())
