"""The runs of reference strategies, for the metrics that compare a run with one of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from clbench.metrics import References
from clbench.record import Record

EXPERT = "independent"  # the reference strategy that trains each task alone
Shared = tuple[str, int, str, str]  # scenario, seed, model, trainer


@dataclass(frozen=True)
class Oracles:
    """Accuracy matrices of finished reference runs by strategy, under what a run must share with them."""

    matrices: Mapping[Shared, References]

    @classmethod
    def among(cls, records: Iterable[Record]) -> Oracles:
        """Those among these records; a reference that is there twice for the same place is ambiguous and left out."""
        found: dict[Shared, dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
        for record in records:
            if record.reference and record.status == "ok":
                found[_shared(record)][record.names["strategy"]].append(record)
        return cls({key: {s: r[0].matrix() for s, r in by.items() if len(r) == 1} for key, by in found.items()})

    def beside(self, record: Record) -> References:
        """The matrices of the references on the scenario and seed of a run, with its model and trainer."""
        return self.matrices.get(_shared(record), {})


def runs_beside(record: Record, others: Iterable[Record]) -> dict[str, list[Record]]:
    """The finished runs of reference strategies that share with a run what they must, by strategy."""
    found: dict[str, list[Record]] = defaultdict(list)
    for other in others:
        if other.reference and other.status == "ok" and _shared(other) == _shared(record):
            found[other.names["strategy"]].append(other)
    return found


def _shared(record: Record) -> Shared:
    return record.names["scenario"], record.seed, record.names["model"], record.names["trainer"]
