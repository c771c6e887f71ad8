"""Every error a person can cause, and the nearest valid name to what they typed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ClbenchError(Exception):
    """A message for a person: what was expected, what came, what to do. The command line exits with code 2."""


class BadInput(ClbenchError, ValueError):
    """Something given to clbench is not what it should be."""


class DataMissing(BadInput):
    """A data folder or file is missing, empty or unreadable."""


class UnsupportedProtocol(BadInput):
    """The strategy does not support the protocol of the scenario."""


class TaskClosedError(ClbenchError):
    """Data of a task were read after its training had ended."""


class NonFiniteLoss(ClbenchError):
    """The training loss became NaN or infinite."""


class RecordError(ClbenchError):
    """A record is truncated, foreign, inconsistent, or cannot be written."""


def unknown(kind: str, name: str, known: Iterable[str]) -> BadInput:
    """Make the error for an unknown name, with the nearest valid one and the list.

    >>> print(unknown("strategy", "replai", ["naive", "replay"]))
    unknown strategy 'replai'; did you mean 'replay'?
      known: naive, replay
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"; did you mean '{close[0]}'?" if close else ""
    return BadInput(f"unknown {kind} '{name}'{hint}\n  known: {', '.join(names) or '(none)'}")
