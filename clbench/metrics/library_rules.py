"""The rules of libraries that no definition of a paper states, as read in their public code."""

from __future__ import annotations

import math

import numpy as np

from clbench.metrics.forgetting import changes, since_learned_nonneg
from clbench.metrics.metric import Array, mean


def avalanche_matrix(r: Array, learned_at_row: Array | None = None) -> Array:
    """Avalanche's forgetting of every task after every row but row 0: its first score minus the present one.

    R (E+1, T), ``learned_at_row`` (T,): the row right after each task was learned (default: row j of task j).
    Zero up to that row.
    """
    rows = np.arange(1, r.shape[1] + 1) if learned_at_row is None else np.asarray(learned_at_row)
    first = r[rows, np.arange(r.shape[1])]
    return np.where(np.arange(1, len(r))[:, None] > rows, first - r[1:], 0.0)


def pyclad_steps(r: Array) -> list[float]:
    """PyCLAD's forgetting after each task: (T,), 0 after the first; R (T+1, T)."""
    return [pyclad_forgetting(r[: k + 1, :k]) if k > 1 else 0.0 for k in range(1, r.shape[1] + 1)]


def pyclad_forgetting(r: Array) -> float:
    """PyCLAD: mean drop from the best earlier row, the last task included; R (T+1, T)."""
    return mean(r[1:-1].max(axis=0) - r[-1]) if r.shape[1] > 1 else math.nan


def pyclad_backward(r: Array) -> float:
    """PyCLAD: mean change from one row to the next; R (T+1, T)."""
    row, column = np.tril_indices(r.shape[1], -1)
    return mean(r[1 + row, column] - r[row, column])


def libcontinual_forgetting(r: Array) -> float:
    """LibContinual: drops from right after learning, the last but one task left out; R (T+1, T)."""
    return float(-changes(r)[:-1].sum() / (r.shape[1] - 1)) if r.shape[1] > 1 else math.nan


def libcontinual_backward(r: Array) -> float:
    """LibContinual: changes since learned, of each row its latest task left out; R (T+1, T)."""
    n = r.shape[1]
    row, column = np.tril_indices(n, -2)
    return float((r[1 + row, column] - r[1 + column, column]).sum() / (n * (n - 1) / 2)) if n > 1 else math.nan


def coda_forgetting(r: Array) -> float:
    """CODA-Prompt: mean drop from one row to the next; R (T+1, T)."""
    return mean([mean(r[t - 1, : t - 1] - r[t, : t - 1]) for t in range(2, len(r))])


def mammoth_run(r: Array) -> float:
    """Mammoth inside a run: drops from the best row since the one before learning; R (T+1, T)."""
    n = r.shape[1]
    return mean([r[max(j, 1) :, j].max() - r[-1, j] for j in range(n - 1)])


def mammoth_rows(r: Array) -> float:
    """Mammoth: mean over rows of the mean over tasks to come; R (T+1, T)."""
    return mean([mean(r[i, i:]) for i in range(1, r.shape[1])])


def pycil_forgetting(r: Array) -> float:
    """PyCIL: forgetting of percentages rounded to two decimals; R (T+1, T)."""
    return since_learned_nonneg(np.round(100 * r, 2) / 100)


def continuum_forward(r: Array) -> float:
    """Continuum: mean score just before learning, no baseline; R (T+1, T)."""
    return mean(np.diagonal(r[1:], 1))


def continuum_incremental(r: Array) -> float:
    """Continuum: mean over rows of all tasks, not learned ones too; R (T+1, T)."""
    return mean(r[1:])


def pooled(wrong: Array, counts: Array) -> float:
    """Percentage of mistakes over all samples; wrong and counts (D,)."""
    return float(100 * np.sum(wrong) / np.sum(counts))


def shortcut_plasticity(curves: Array, w: int) -> float:
    """Mean over tasks of the largest rise from a new maximum of a window of w; curves (T, N)."""
    if np.isnan(curves).any():
        return math.nan
    return mean([max(_shortcut_rise(curve[max(0, n - w + 1) : n + 1]) for n in range(len(curve))) for curve in curves])


def _shortcut_rise(window: Array) -> float:
    starts = np.flatnonzero(window[:-1] >= np.maximum.accumulate(window[:-1]))  # only new maxima are start points
    return max([0.0, *(float(np.max(window[s + 1 :]) - window[s]) for s in starts)])
