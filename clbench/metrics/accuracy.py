"""Accuracy and its averages over tasks and over time."""

from __future__ import annotations

import numpy as np

from clbench.metrics.metric import Array, Metric, mean

GEM = "Lopez-Paz and Ranzato, Gradient Episodic Memory, NeurIPS 2017"


def last_row(r: Array) -> float:
    """Mean over tasks after the last one; R (T+1, T)."""
    return mean(r[-1])


def micro_last_row(r: Array, sizes: Array) -> float:
    """Mean over test samples after the last task; R (T+1, T), sizes (T,)."""
    return float(r[-1] @ sizes / np.sum(sizes))


def diagonal(r: Array) -> float:
    """Mean over tasks of the score right after learning; R (T+1, T)."""
    return mean(np.diagonal(r[1:]))


def incremental(r: Array) -> float:
    """Mean over rows of the mean over the tasks seen, tasks weighted equally; R (T+1, T)."""
    return mean([mean(row[: i + 1]) for i, row in enumerate(r[1:])])


def micro_incremental(r: Array, sizes: Array) -> float:
    """Mean over rows of the mean over the test samples of the tasks seen; R (T+1, T), sizes (T,)."""
    return mean([row[: i + 1] @ sizes[: i + 1] / np.sum(sizes[: i + 1]) for i, row in enumerate(r[1:])])


def _joint_gap(r: Array, a: Array) -> float:
    return last_row(a) - last_row(r)


ACCURACY = (
    Metric(
        "average_accuracy.gem2017",
        "average accuracy",
        "(1/T) sum_j R[T,j]",
        f"{GEM} (ACC)",
        True,
        (0.0, 1.0),
        last_row,
        is_difference=False,
    ),
    Metric(
        "average_accuracy.micro",
        "average accuracy over samples",
        "sum_j n_j R[T,j] / sum_j n_j, n_j = test samples of task j",
        "Renate; the 'total' of PyCIL",
        True,
        (0.0, 1.0),
        micro_last_row,
        reads=("R", "test_sizes"),
        is_difference=False,
    ),
    Metric(
        "average_incremental_accuracy.icarl2017_macro",
        "average incremental accuracy",
        "(1/T) sum_i (1/i) sum_{j<=i} R[i,j]",
        "Rebuffi et al., iCaRL, CVPR 2017; tasks weighted equally",
        True,
        (0.0, 1.0),
        incremental,
        is_difference=False,
    ),
    Metric(
        "average_incremental_accuracy.icarl2017_micro",
        "average incremental accuracy over samples",
        "(1/T) sum_i (sum_{j<=i} n_j R[i,j] / sum_{j<=i} n_j), n_j = test samples of task j",
        "Rebuffi et al., iCaRL, CVPR 2017; samples weighted equally, as PyCIL and PILOT print it",
        True,
        (0.0, 1.0),
        micro_incremental,
        reads=("R", "test_sizes"),
        is_difference=False,
    ),
    Metric(
        "learning_accuracy.mer2019",
        "learning accuracy",
        "(1/T) sum_j R[j,j]",
        "Riemer et al., Meta-Experience Replay, ICLR 2019",
        True,
        (0.0, 1.0),
        diagonal,
        is_difference=False,
    ),
    Metric(
        "task_inference_accuracy.last",
        "task inference accuracy",
        "(1/T) sum_j I[T,j], I[i,j] = share of task j's test samples taken for task j after task i",
        "the task is inferred as in Wortsman et al., Supermasks in Superposition, NeurIPS 2020; "
        "read from the matrix `task_inference_accuracy`",
        True,
        (0.0, 1.0),
        last_row,
        is_difference=False,
        matrix="task_inference_accuracy",
    ),
    Metric(
        "joint_gap",
        "gap to joint training",
        "(1/T) sum_j (J[T,j] - R[T,j]), J = matrix of the reference 'joint' on the same card and seed",
        "defined by clbench: the difference of two average accuracies",
        False,
        (-1.0, 1.0),
        _joint_gap,
        reads=("R", "A"),
        reference="joint",
    ),
)
