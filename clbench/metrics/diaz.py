"""Accuracy over all rows, and the criteria of Díaz-Rodríguez et al. that are made of several numbers."""

from __future__ import annotations

import numpy as np

from clbench.metrics.forgetting import DIAZ
from clbench.metrics.metric import Array, Metric, mean


def accuracy(r: Array) -> float:
    """Mean of R[i,j] over every pair i >= j; R (T+1, T)."""
    row, column = np.tril_indices(r.shape[1])
    return mean(r[1 + row, column])


def _weighted(criteria: Array, weights: Array) -> float:
    return float(np.mean(criteria, axis=0) @ weights / np.sum(weights))


def _steadiness(criteria: Array, weights: Array) -> float:
    return float(1.0 - np.std(criteria, axis=0) @ weights / np.sum(weights)) if len(criteria) > 1 else float("nan")


CRITERIA = (
    "c_i in [0, 1]: of the paper accuracy.diaz2018, remembering.diaz2018, positive_backward_transfer.diaz2018, "
    "forward_transfer.diaz2018, model_size.diaz2018, sample_storage.diaz2018, compute.diaz2018"
)
DIAZ_2018 = (
    Metric(
        "accuracy.diaz2018",
        "accuracy over all rows",
        "sum_{i>=j} R[i,j] / (T(T+1)/2)",
        f"{DIAZ} (A); what Continuum and pyCLAD print",
        True,
        (0.0, 1.0),
        accuracy,
        is_difference=False,
    ),
    Metric(
        "cl_score.diaz2018",
        "weighted score of several criteria",
        f"sum_i w_i c_i / sum_i w_i, c_i = mean over runs of criterion i; {CRITERIA}",
        f"{DIAZ} (CL score)",
        True,
        (0.0, 1.0),
        _weighted,
        reads=("criteria", "weights"),
        differs="weights need not add up to 1: they are divided by their sum",
    ),
    Metric(
        "cl_stability.diaz2018",
        "steadiness of several criteria over runs",
        f"1 - sum_i w_i std(c_i) / sum_i w_i, std over runs (divided by their number); {CRITERIA}",
        f"{DIAZ} (CL stability)",
        True,
        (0.0, 1.0),
        _steadiness,
        reads=("criteria", "weights"),
        differs="weights need not add up to 1: they are divided by their sum; undefined for one run",
    ),
)
