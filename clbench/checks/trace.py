"""One training run of a strategy on a check stream, and everything the clauses want to know of it."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clbench.checks.copies import count_samples
from clbench.checks.streams import CPU, small_model
from clbench.evaluate import make_query, no_side_effects
from clbench.loop import prepare, train_one
from clbench.seeds import Seeds
from clbench.state import State
from clbench.strategy import Strategy
from clbench.stream import TaskStream

UNLIKELY = 86753090  # no strategy seeds a global generator with this or the next few numbers


@dataclass
class Trace:
    """What a run left behind; lists and keys count rows: 0 is the strategy just set up, k after task k.

    ``scores[k][j]``: scores of probe j+1 in row k. ``found``: training samples seen in the strategy's attributes.
    ``branches``: what each frozen branch makes of the first samples of probe 1. ``altered``: settings of the process
    that training changed. ``started``: when the run began, in seconds since 1970.
    """

    strategy: Strategy
    stream: TaskStream
    states: list[State] = field(default_factory=list)
    scores: dict[int, list[Tensor]] = field(default_factory=dict)
    stored: list[Any] = field(default_factory=list)
    found: list[int] = field(default_factory=list)
    altered: list[str] = field(default_factory=list)
    branches: list[dict[str, Tensor]] = field(default_factory=list)
    started: float = field(default_factory=time.time)


def begin(strategy: Strategy, stream: TaskStream, seeds: Seeds) -> Trace:
    """Set a strategy up for a stream."""
    trace = Trace(strategy, prepare(strategy, small_model, stream, seeds, CPU))
    note(trace)
    return trace


def step(trace: Trace, index: int, seeds: Seeds, answer: bool = True) -> None:
    """Train on one task and note what came of it; with ``answer`` the probes are scored as the harness does."""
    before = _settings()
    train_one(trace.strategy, trace.stream, index, seeds, CPU)
    after = _settings()
    trace.altered += [name for name in before if before[name] != after[name] and name not in trace.altered]
    if answer and (trace.strategy.measured_rows == "all" or index == len(trace.stream)):
        trace.scores[index] = answers(trace.strategy, trace.stream, index)
    note(trace)


def note(trace: Trace) -> None:
    """Note state and stored samples as they are now."""
    trace.states.append(trace.strategy.state_dict())
    trace.stored.append(trace.strategy.stored_samples())
    trace.found.append(count_samples(vars(trace.strategy), trace.stream))
    with no_side_effects(trace.strategy):
        inputs = trace.stream.tasks[0].test.take(torch.arange(8))
        trace.branches.append({name: branch(inputs) for name, branch in trace.strategy.branches().items()})


def run(strategy: Strategy, stream: TaskStream, seeds: Seeds, answer: bool = True, noise: int = 1) -> Trace:
    """Train a new strategy on a whole stream; ``noise`` seeds the global random states nobody should draw from."""
    with quiet(noise):
        trace = begin(strategy, stream, seeds)
        if answer:
            trace.scores[0] = answers(strategy, stream, 0)
        for index in range(1, len(stream) + 1):
            step(trace, index, seeds, answer)
    return trace


def answers(strategy: Strategy, stream: TaskStream, row: int) -> list[Tensor]:
    """Scores of all probes in one row, asked for as the harness does."""
    scores = []
    with no_side_effects(strategy):
        for column, task in enumerate(stream.tasks, start=1):
            inputs = task.test.take(torch.arange(len(task.test)))
            scores.append(strategy.predict(inputs, make_query(stream.spec.protocol, stream.tasks, row, column)))
    return scores


@contextmanager
def quiet(noise: int = 1) -> Iterator[None]:
    """One thread, global random states of their own, and everything put back afterwards as it was."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 (put back, not used)
    threads, dtype, grad = torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled()
    strict = torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(UNLIKELY + noise)
            random.seed(UNLIKELY + noise)
            np.random.seed(UNLIKELY + noise)  # noqa: NPY002 (to catch those who draw from it)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002 (put back, not used)
        torch.set_num_threads(threads)
        torch.set_default_dtype(dtype)
        torch.set_grad_enabled(grad)
        torch.use_deterministic_algorithms(strict)


def random_states() -> tuple[Any, ...]:
    """The states of the global generators of Python, NumPy and torch, to be compared."""
    numpy = np.random.get_state(legacy=False)["state"]  # noqa: NPY002 (looked at, not used)
    return random.getstate(), (numpy["key"].tobytes(), numpy["pos"]), torch.get_rng_state().numpy().tobytes()


def _settings() -> dict[str, Any]:
    python, numpy, _ = random_states()  # torch's own is forked
    return {
        "gradient mode": torch.is_grad_enabled(),
        "number of threads": torch.get_num_threads(),
        "default dtype": torch.get_default_dtype(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "Python's global random state": python,
        "NumPy's global random state": numpy,
    }
