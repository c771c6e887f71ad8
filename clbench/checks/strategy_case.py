"""The strategy under check, and its runs, each made once and shared by all clauses that look at it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from clbench.checks import continuation
from clbench.checks.clause import NotApplicable, describe
from clbench.checks.streams import AT_MOST, ORDER, SETTINGS, TRAINER, Setting, fresh_stream
from clbench.checks.trace import Trace, begin, quiet, run, step
from clbench.errors import BadInput
from clbench.evaluate import make_query
from clbench.seeds import Seeds
from clbench.strategy import Strategy, Trainer
from clbench.stream import Inputs, ProtocolName, Query, TaskStream

SEED, OTHER_SEED = Seeds.of(0), Seeds.of(1)


class Subject:
    """A strategy class with the hyperparameters it is checked under, and one case per protocol it declares."""

    def __init__(self, cls: type[Strategy], options: Mapping[str, Any]) -> None:
        self.cls = cls
        self.options = dict(options)
        names = {f.name: f for f in dataclasses.fields(cls) if f.init}
        if "trainer" in names:
            self.options.setdefault("trainer", _small(names["trainer"]))
        for name, most in AT_MOST.items():
            value = self.options.get(name, getattr(cls, name, None))
            if name in names and isinstance(value, int):
                self.options[name] = min(value, most)
        self.continued_under = self.protocols  # in the fresh process
        self._cases: dict[ProtocolName, StrategyCase] = {}

    def make(self) -> Strategy:
        """A new instance; ``BadInput`` when it cannot be made from these hyperparameters."""
        try:
            return self.cls(**self.options)
        except TypeError as error:
            raise BadInput(
                f"{self.cls.__name__} cannot be made from {self.options or 'its defaults'}: {error}\n"
                "  give every hyperparameter a default, or check an instance instead of the class"
            ) from error

    @property
    def protocols(self) -> tuple[ProtocolName, ...]:
        """The declared protocols that exist, in the order they are checked; never empty."""
        declared = getattr(self.cls, "protocols", ())
        found = tuple(p for p in ORDER if isinstance(declared, (set, frozenset)) and p in declared)
        return found or ORDER[:1]

    def case(self, protocol: ProtocolName) -> StrategyCase:
        """The runs under one protocol."""
        if protocol not in self._cases:
            self._cases[protocol] = StrategyCase(self, protocol)
        return self._cases[protocol]

    @cached_property
    def setting(self) -> Setting:
        """The first of the check settings that the strategy accepts; the plain one if it refuses them all.

        Raises ``BadInput`` where a setting that may be the one cannot be made here: an extra is missing.
        """
        for setting in SETTINGS:
            stream = fresh_stream(self.protocols[0], setting=setting)
            try:
                with quiet():
                    begin(self.make(), stream, SEED)
            except BadInput:
                continue
            except Exception:  # whatever a plugin raises is for a clause to tell
                break
            return setting
        return "plain"

    @cached_property
    def continued(self) -> dict[str, list[str]]:
        """Complaints of the fresh process, by protocol."""
        traces = {p: self.case(p).main for p in self.continued_under if self.case(p).error is None}
        return continuation.continued(self.cls, self.make().hyperparameters(), traces, SEED, self.setting)


def _small(trainer: dataclasses.Field[Any]) -> Trainer:
    """A trainer of few epochs, with the optimiser that a class says is its own; twice as many for SGD without momentum.

    Its steps are ten times smaller than those of the usual trainer.
    """
    own = trainer.default_factory() if callable(trainer.default_factory) else trainer.default
    if not isinstance(own, Trainer) or own == Trainer():
        return TRAINER
    epochs = 2 * TRAINER.epochs if own.optimizer == "sgd" and not own.momentum else TRAINER.epochs
    return dataclasses.replace(own, epochs=epochs, batch_size=TRAINER.batch_size)


class StrategyCase:
    """A strategy on the check stream of one protocol."""

    def __init__(self, subject: Subject, protocol: ProtocolName) -> None:
        self.subject = subject
        self.protocol = protocol

    def stream(self, label_space: str = "known") -> TaskStream:
        """A check stream of the protocol, in the strategy's setting."""
        return fresh_stream(self.protocol, label_space, self.subject.setting)

    @cached_property
    def _attempt(self) -> Trace | Exception:
        try:
            return run(self.subject.make(), self.stream(), SEED, noise=0)
        except Exception as error:  # whatever a plugin raises is for a clause to tell
            return error

    @property
    def error(self) -> Exception | None:
        """What the main run raised, if it did."""
        return self._attempt if isinstance(self._attempt, Exception) else None

    @property
    def main(self) -> Trace:
        """The run with seed 0 and all rows scored, exactly as the harness runs it."""
        if isinstance(self._attempt, Exception):
            raise NotApplicable(
                f"training under {self.protocol} failed, so there is nothing to look at: {describe(self._attempt)}"
            )
        return self._attempt

    def rerun(self, seeds: Seeds, answer: bool = True) -> Trace:
        """Another run of a new instance on the same stream."""
        return run(self.subject.make(), self.stream(), seeds, answer)

    @cached_property
    def other_seed(self) -> Trace:
        """A run on the same stream with every other random stream different."""
        return self.rerun(OTHER_SEED)

    @cached_property
    def interleaved(self) -> tuple[Trace, Trace]:
        """Two instances of different seeds in one process, taking turns task by task."""
        streams = self.stream(), self.stream()
        with quiet():
            first = begin(self.subject.make(), streams[0], SEED)
            second = begin(self.subject.make(), streams[1], OTHER_SEED)
            for index in range(1, len(streams[0]) + 1):
                step(first, index, SEED)
                step(second, index, OTHER_SEED)
        return first, second

    @property
    def query(self) -> Query:
        """What is asked of probe 1 after the last task."""
        tasks = self.main.stream.tasks
        return make_query(self.protocol, tasks, len(tasks), 1)

    def inputs(self, n: int) -> dict[str, Tensor]:
        """The first ``n`` samples of probe 1, or as many as it has."""
        probe = self.main.stream.tasks[0].test
        return probe.take(torch.arange(min(n, len(probe))))

    def ask(self, inputs: Inputs, query: Query) -> Tensor:
        """Predict after the last task, without the harness's safety net."""
        with torch.no_grad():
            return self.main.strategy.predict(inputs, query)
