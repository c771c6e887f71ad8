"""A clause: one sentence that holds for every plugin, the function that finds out, and what came of it."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, NoReturn, TypeVar

S = TypeVar("S")
Status = Literal["passed", "failed", "not applicable"]


class Broken(AssertionError):
    """A clause does not hold; the message says what was expected, what came and what to do."""


class NotApplicable(Exception):
    """A clause has nothing to say about this plugin; the message is the reason."""


@dataclass(frozen=True)
class Clause(Generic[S]):
    """A function of the plugin under check that raises where its docstring, one sentence, is not true.

    ``every_protocol``: hold it against each protocol a strategy declares, not against the first alone.
    """

    run: Callable[[S], None]
    every_protocol: bool = False

    @property
    def name(self) -> str:
        """The function's name."""
        return self.run.__name__

    @property
    def sentence(self) -> str:
        """What must be true, for a person."""
        return " ".join((inspect.getdoc(self.run) or "").split())


@dataclass(frozen=True)
class Outcome:
    """What came of one clause; ``message`` is the complaint, or the reason why it does not apply."""

    clause: str
    sentence: str
    status: Status
    message: str = ""
    protocol: str | None = None


@dataclass(frozen=True)
class Report:
    """All outcomes for one plugin; ``kind`` is strategy, scenario or metric."""

    target: str
    kind: str
    outcomes: tuple[Outcome, ...]

    @property
    def failed(self) -> tuple[Outcome, ...]:
        """The clauses that do not hold."""
        return tuple(o for o in self.outcomes if o.status == "failed")

    @property
    def ok(self) -> bool:
        """Nothing failed, and something was really checked."""
        return not self.failed and any(o.status == "passed" for o in self.outcomes)


def judge(clause: Clause[S], subject: S, protocol: str | None = None) -> Outcome:
    """Hold one clause against a plugin; whatever the plugin raises is a failure of the clause."""
    status: Status = "passed"
    message = ""
    try:
        clause.run(subject)
    except NotApplicable as reason:
        status, message = "not applicable", str(reason)
    except Exception as error:  # the plugin is someone else's code
        status, message = "failed", describe(error)
    return Outcome(clause.name, clause.sentence, status, message, protocol)


def expect(holds: bool, expected: str, got: Any, advice: str) -> None:
    """Raise ``Broken`` with the three parts of a message for a person unless ``holds``."""
    if not holds:
        broken(expected, got, advice)


def broken(expected: str, got: Any, advice: str) -> NoReturn:
    """Raise ``Broken``: what was expected, what came, what to do."""
    raise Broken(f"expected {expected}; got {got}; {advice}")


def describe(error: Exception) -> str:
    """An error in one line: a clause's own message as it is, anything else with its kind and place."""
    if isinstance(error, Broken):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    place = f" (at {Path(frames[-1].filename).name}:{frames[-1].lineno}, in {frames[-1].name})" if frames else ""
    return f"{type(error).__name__}: {error}{place}"
