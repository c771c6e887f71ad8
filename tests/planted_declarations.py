"""Broken strategies that declare something wrong, each with the clause meant to catch it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch

from clbench.buffer import Buffer
from clbench.strategies.naive import Naive
from clbench.strategies.replay import Replay
from clbench.stream import ProtocolName, TaskView
from tests.planted_strategies import breaks


@breaks("hyperparameters_stay_constant")
@dataclass(kw_only=True)
class AnnealsAHyperparameter(Naive):
    """Lowers a hyperparameter task by task."""

    strength: float = 1.0

    def after_task(self, task: TaskView) -> None:
        self.strength *= 0.5


@breaks("hyperparameters_are_stored_as_given")
@dataclass(kw_only=True)
class CorrectsAHyperparameter(Replay):
    """Caps what it is given without a word."""

    def __post_init__(self) -> None:
        self.memory = min(self.memory, 500)


class Options:
    """A bag of options, by mistake one for all."""

    def __init__(self) -> None:
        self.rates = [0.1]


SHARED = Options()


@breaks("hyperparameters_are_not_shared")
@dataclass(kw_only=True)
class SharesItsDefault(Naive):
    """Has a mutable object as a default."""

    options: Any = SHARED


@breaks("hyperparameters_are_plain")
@dataclass(kw_only=True)
class TakesAFunction(Naive):
    """Takes a function as a hyperparameter, which no record can hold."""

    activation: Any = field(default=torch.relu)


@breaks("hyperparameters_are_fields")
class ForgetsTheDecorator(Naive):
    """Annotates a hyperparameter without being a dataclass."""

    alpha: float = 0.5


@breaks("hyperparameters_are_fields")
@dataclass(kw_only=True)
class BuildsInInit(Naive):
    """Makes its buffer in __init__, where the stream is not known."""

    def __post_init__(self) -> None:
        self.buffer_ = Buffer(10)


@breaks("source_is_named")
@dataclass(kw_only=True)
class NamesNoSource(Naive):
    """A method from nowhere."""


@breaks("protocols_are_declared")
@dataclass(kw_only=True)
class InventsAProtocol(Naive):
    """Declares a protocol there is not."""

    protocols: ClassVar[frozenset[ProtocolName]] = frozenset({"online"})  # type: ignore[arg-type]


@breaks("protocols_are_declared")
@dataclass(kw_only=True)
class DeclaresNoProtocol(Naive):
    """Supports nothing, so that it could never fail."""

    protocols: ClassVar[frozenset[ProtocolName]] = frozenset()
