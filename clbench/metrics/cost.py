"""Memory and compute: what a run took, as totals and as scores between 0 and 1."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from clbench.metrics.forgetting import DIAZ
from clbench.metrics.metric import Array, Metric, mean

NEVIS = "Bornschein et al., NEVIS'22, JMLR 2023, as in its code"


def total(values: Array) -> float:
    """The sum; NaN when an addend is missing, and of nothing."""
    return float(np.sum(values)) if len(values) else math.nan


def largest(values: Array) -> float:
    """The maximum; NaN when a value is missing, and of nothing."""
    return float(np.max(values)) if len(values) else math.nan


def last(values: Array) -> float:
    """The last value; NaN of nothing."""
    return float(values[-1]) if len(values) else math.nan


def _at_most_one(value: float) -> float:
    return min(1.0, value) if not math.isnan(value) else value


def _model_size(sizes: Array) -> float:
    sizes = np.asarray(sizes, dtype=np.float64)
    return _at_most_one(mean(sizes[0] / sizes)) if (sizes != 0).all() else math.nan


def _sample_storage(stored: Array, seen: Array) -> float:
    return 1.0 - _at_most_one(mean(np.asarray(stored) / np.sum(seen))) if np.sum(seen) != 0 else math.nan


def _compute(passes: Array, used: Array, epochs: float) -> float:
    return _at_most_one(mean(np.asarray(passes) * epochs / (1.0 + np.asarray(used, dtype=np.float64))))


_TOTALS: tuple[tuple[str, str, str, str, str, Callable[[Array], float], str], ...] = (
    ("stored_samples", "stored samples", "max over tasks of the samples kept", "samples", "counted", largest, ""),
    ("state_bytes", "state", "size of all that is carried on after the last task", "bytes", "counted", last, ""),
    ("samples_seen", "samples seen", "sum over tasks of the samples trained on", "samples", "counted", total, ""),
    ("optimiser_steps", "optimiser steps", "sum over tasks of the batches trained on", "steps", "counted", total, ""),
    ("train_seconds", "training time", "sum over tasks of seconds in train_task", "seconds", "measured", total, ""),
    ("evaluate_seconds", "scoring time", "sum over tasks of seconds spent scoring", "seconds", "measured", total, ""),
    ("energy_joules", "energy", "sum over tasks of the energy spent in train_task", "joules", "measured", total, ""),
    ("peak_memory_bytes", "peak memory", "max over tasks", "bytes", "measured", largest, "reset before each task"),
)
COST = (
    Metric(
        "model_size.diaz2018",
        "model size efficiency",
        "min(1, (1/T) sum_i p_1 / p_i), p_i = parameters after task i",
        f"{DIAZ} (MS); as in Continuum",
        True,
        (0.0, 1.0),
        _model_size,
        reads=("parameters",),
        unit="score",
        differs="counts parameters where the paper counts their memory: the same for numbers of one kind",
    ),
    Metric(
        "sample_storage.diaz2018",
        "sample storage efficiency",
        "1 - min(1, (1/T) sum_i m_i / n), m_i = samples stored after task i, n = training samples of all tasks",
        f"{DIAZ} (SSS)",
        True,
        (0.0, 1.0),
        _sample_storage,
        reads=("stored_samples", "train_samples"),
        unit="score",
        differs="counts samples where the paper counts their memory; formula from one independent implementation",
    ),
    Metric(
        "compute.diaz2018",
        "computational efficiency",
        "min(1, (1/T) sum_i p_i ε / (1 + o_i)), p_i = operations of one forward and backward pass over task i, "
        "o_i = operations its training took, ε = epochs",
        f"{DIAZ} (CE)",
        True,
        (0.0, 1.0),
        _compute,
        reads=("pass_flops", "train_flops", "epochs"),
        unit="score",
        differs="formula from memory of the paper; ε is the number of epochs, its default there",
    ),
    Metric(
        "cumulative_train_flops.nevis2022",
        "training operations",
        "sum over tasks of the floating-point operations of training",
        f"{NEVIS}; counted by torch.utils.flop_counter",
        False,
        (0.0, math.inf),
        total,
        reads=("train_flops",),
        unit="operations",
        differs="the search for hyper-parameters is not included; only products and convolutions are counted",
    ),
    Metric(
        "peak_parameters.nevis2022",
        "most parameters",
        "max over tasks of the number of parameters",
        NEVIS,
        False,
        (0.0, math.inf),
        largest,
        reads=("parameters",),
        unit="parameters",
    ),
    Metric(
        "peak_parameters.nevis2022[bytes]",
        "most bytes of parameters",
        "max over tasks of the bytes of the parameters",
        NEVIS,
        False,
        (0.0, math.inf),
        largest,
        reads=("parameter_bytes",),
        unit="bytes",
    ),
    *(
        Metric(id, title, formula, f"{how} by clbench", False, (0.0, math.inf), f, (id,), unit, differs=differs)
        for id, title, formula, unit, how, f, differs in _TOTALS
    ),
)
