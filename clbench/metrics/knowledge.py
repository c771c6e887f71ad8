"""Knowledge that a language model keeps, loses and gains, and perplexities under continual pre-training."""

from __future__ import annotations

import math

import numpy as np

from clbench.metrics.accuracy import diagonal, last_row
from clbench.metrics.metric import Array, Metric, mean

CKL = "Jang et al., Towards Continual Knowledge Learning of Language Models, ICLR 2022"
YILDIZ = "Yildiz et al., Investigating Continual Pretraining in Large Language Models, TMLR 2025"
_ONWARD = "from a second-hand account of the paper, which has no public code"


def forgotten_and_gained(invariant: Array, updated: Array, new: Array) -> tuple[float, float]:
    """Sums of what was forgotten and of what was gained: the two parts of FUAR, to be published beside it.

    ``invariant`` (n, n+1): row i holds the scores of models 0..n on probes of corpus i that must not be lost, all NaN
    where there is no such probe, and then corpus i does not count. ``updated``, ``new`` (n+1,): scores of models 0..n
    on the probes of what the last corpus changed and of what it added. Model x has been trained up to corpus x.
    """
    n = len(invariant)
    there = ~np.isnan(invariant).all(axis=1)
    lost = np.array([invariant[i, i] - invariant[i, n] for i in range(n)])
    gained = np.maximum(updated[n] - updated[:n], 0) + np.maximum(new[n] - new[:n], 0)
    return float(np.maximum(lost, 0)[there].sum()), float(gained[there].sum())


def _fuar(invariant: Array, updated: Array, new: Array) -> float:
    forgotten, gained = forgotten_and_gained(invariant, updated, new)
    return forgotten / gained if gained > 0 else math.nan


def geometric(values: Array) -> float:
    """The exponential of the mean logarithm; NaN where a value is not positive."""
    return float(np.exp(mean(np.log(values)))) if not (np.asarray(values) <= 0).any() else math.nan


def _untrained(r: Array) -> float:
    return mean(r[0])


def _against_untrained(r: Array, *, later: bool) -> float:
    row, column = np.triu_indices(r.shape[1], 1) if later else np.tril_indices(r.shape[1], -1)
    return mean(r[1 + row, column] - r[0, column])


def changes_by_distance(r: Array) -> dict[int, float]:
    """Mean of R[i,j] - R[0,j] by i - j, negative for domains still to come; R (T+1, T)."""
    n = r.shape[1]
    gains = r[1:] - r[0]
    return {d: mean(np.diagonal(gains, -d)) for d in range(1 - n, n)}


def _perplexities() -> tuple[Metric, ...]:
    rows = (
        ("zero_shot", "of the initial model", "ppl(M_0, D_j)", _untrained, lambda r: geometric(r[0]), "R"),
        ("adapted", "adapted on each domain alone", "ppl(M_0 adapted on D_j, D_j)", mean, geometric, "adapted"),
        ("cpt", "right after each domain", "ppl(M_j, D_j)", diagonal, lambda r: geometric(np.diagonal(r[1:])), "R"),
        ("last_checkpoint", "of the last model", "ppl(M_T, D_j)", last_row, lambda r: geometric(r[-1]), "R"),
    )
    return tuple(
        Metric(
            f"{name}_perplexity.yildiz2025{'[geometric]' if logs else ''}",
            f"perplexity {title}{', geometric mean' if logs else ''}",
            f"exp((1/T) sum_j log {cell})" if logs else f"(1/T) sum_j {cell}",
            YILDIZ,
            False,
            (1.0, math.inf),
            of_logs if logs else plain,
            reads=(read,),
            unit="perplexity",
            is_difference=False,
            matrix="perplexity",
            differs=_ONWARD,
        )
        for name, title, cell, plain, of_logs, read in rows
        for logs in (False, True)
    )


KNOWLEDGE = (
    Metric(
        "fuar.ckl2022",
        "forgotten per updated and acquired knowledge",
        "sum_{i<n} max(0, F_i(M_i) - F_i(M_n)) / sum_{i<n} (max(0, U(M_n) - U(M_i)) + max(0, A(M_n) - A(M_i))), over "
        "the corpora i with a probe F_i of what must not be lost; U, A = probes of what corpus n changed and added",
        f"{CKL} (FUAR)",
        False,
        (0.0, math.inf),
        _fuar,
        reads=("invariant_scores", "updated_scores", "new_scores"),
        unit="ratio",
        differs="undefined where nothing was gained; details of the indices from a second-hand account",
    ),
    *_perplexities(),
    Metric(
        "backward_transfer.yildiz2025",
        "backward transfer against the initial model",
        "mean_{i>j} (R[i,j] - R[0,j])",
        YILDIZ,
        True,
        (-math.inf, math.inf),
        lambda r: _against_untrained(r, later=False),
        unit="perplexity",
        matrix="perplexity",
        differs=f"{_ONWARD}; it plots the differences over i - j (changes_by_distance)",
    ),
    Metric(
        "forward_transfer.yildiz2025",
        "forward transfer against the initial model",
        "mean_{i<j} (R[i,j] - R[0,j])",
        YILDIZ,
        True,
        (-math.inf, math.inf),
        lambda r: _against_untrained(r, later=True),
        unit="perplexity",
        matrix="perplexity",
        differs=f"{_ONWARD}; it plots the differences over i - j (changes_by_distance)",
    ),
)
