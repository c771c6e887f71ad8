"""Test-time adaptation: the errors a model makes on a stream of domains while it adapts to them."""

from __future__ import annotations

import numpy as np

from clbench.metrics.metric import Array, Metric, mean


def domain_errors(wrong: Array, counts: Array) -> Array:
    """Error on each domain in percent: (D,); wrong and counts (D,)."""
    return 100.0 * np.asarray(wrong) / np.asarray(counts)


def _mean_error(wrong: Array, counts: Array) -> float:
    return mean(domain_errors(wrong, counts))


ADAPTATION = (
    Metric(
        "mean_error.ctta2022",
        "mean error under continual test-time adaptation",
        "(1/D) sum_d 100 w_d / n_d, w_d = mistakes among the n_d samples of domain d, answered once, on arrival",
        "Wang et al., Continual Test-Time Domain Adaptation (CoTTA), CVPR 2022, as in its evaluation loop",
        False,
        (0.0, 100.0),
        _mean_error,
        reads=("wrong", "counts"),
        unit="percent",
    ),
)
