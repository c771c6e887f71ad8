"""What every record must satisfy: the first thing that no run could have written is named.

Not checked, since it need not hold: that row 0 is near chance (a pretrained network is not) or equal for all methods of
a seed (some draw their network anew), and that a figure is likely. A record that was invented with care passes here;
``clbench verify`` repeats the run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from clbench.invariants.outline import Data, card, empty, identity, labels, outline
from clbench.invariants.scores import scores
from clbench.invariants.stream import counts, curves, stream, tasks

Check = Callable[[Data], Iterator[str]]
ALWAYS: Final[tuple[Check, ...]] = (outline, identity, labels, card)
FINISHED: Final[tuple[Check, ...]] = (tasks, stream, scores, counts, curves)
BROKEN = (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError)


def fault(data: Data) -> str | None:
    """What is wrong with the content of a ``record.json``; None where every check passes."""
    for check in (*ALWAYS, *(FINISHED if data["status"] == "ok" else (empty,))):
        try:
            found = next(check(data), None)
        except BROKEN as error:
            found = f"its {check.__name__} cannot be read ({type(error).__name__}: {error})"
        if found:
            return found
    return None
