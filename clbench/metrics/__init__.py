"""Continual-learning metrics: pure functions of what a run measured, each under an id that never changes meaning.

A metric that reads a missing cell is NaN; so is a difference over pairs of tasks when there is one task.
For a matrix whose scores are better when lower, differences change sign and best means smallest, so that
negative transfer and positive forgetting always mean damage.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from types import MappingProxyType

from clbench.matrix import ScoreMatrix
from clbench.metrics.accuracy import ACCURACY
from clbench.metrics.adaptation import ADAPTATION
from clbench.metrics.calibration import CALIBRATION
from clbench.metrics.cost import COST
from clbench.metrics.diaz import DIAZ_2018
from clbench.metrics.during_training import DURING_TRAINING
from clbench.metrics.forgetting import FORGETTING
from clbench.metrics.knowledge import KNOWLEDGE
from clbench.metrics.l2m import L2M
from clbench.metrics.libero import LIBERO
from clbench.metrics.libraries import LIBRARIES
from clbench.metrics.metric import READS, Metric, References
from clbench.metrics.mtil import MTIL
from clbench.metrics.naming import named
from clbench.metrics.order import ORDER
from clbench.metrics.references import REFERENCE
from clbench.metrics.transfer import TRANSFER

__all__ = ["FAMILIES", "HEADLINE", "METRICS", "READS", "Metric", "References", "metric", "score"]

FAMILIES: Mapping[str, tuple[Metric, ...]] = MappingProxyType(
    {
        "accuracy": ACCURACY,
        "forgetting": FORGETTING,
        "transfer": TRANSFER,
        "Díaz-Rodríguez": DIAZ_2018,
        "references": REFERENCE,
        "mtil": MTIL,
        "libero": LIBERO,
        "l2m": L2M,
        "during training": DURING_TRAINING,
        "knowledge": KNOWLEDGE,
        "adaptation": ADAPTATION,
        "order": ORDER,
        "calibration": CALIBRATION,
        "cost": COST,
        "libraries": LIBRARIES,
    }
)
METRICS: Mapping[str, Metric] = MappingProxyType({m.id: m for m in chain.from_iterable(FAMILIES.values())})

HEADLINE = (  # of the accuracy matrix
    "average_accuracy.gem2017",
    "average_incremental_accuracy.icarl2017_macro",
    "learning_accuracy.mer2019",
    "forgetting.rwalk2018",
    "backward_transfer.gem2017",
    "forward_transfer.gem2017",
    "forward_transfer.cuber2022",
    "intransigence.rwalk2018",
)


def metric(id: str) -> Metric:
    """Return the metric with this id, also ``id[p=v]``, ``id[log]`` and ``id@k``; ``BadInput`` otherwise."""
    return named(id, METRICS)


def score(
    matrix: ScoreMatrix, ids: tuple[str, ...] = HEADLINE, references: References | None = None
) -> dict[str, float]:
    """Compute several metrics of one matrix: ``{id: value}``, NaN where undefined."""
    return {id: metric(id)(matrix, references) for id in ids}
