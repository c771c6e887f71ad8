"""Fine-tuning: train on each task as it comes."""

from __future__ import annotations

from dataclasses import dataclass

from clbench.strategy import SGDStrategy


@dataclass(kw_only=True)
class Naive(SGDStrategy):
    """Fine-tune on each task with nothing done against forgetting; the lower reference of every comparison.

    Source: McCloskey and Cohen, Catastrophic interference in connectionist networks, 1989.
    Differs: not at all; it is the shared training loop.
    """
