"""Forward transfer and intransigence: what earlier tasks did for later ones, and how well each was learned."""

from __future__ import annotations

import numpy as np

from clbench.metrics.accuracy import GEM
from clbench.metrics.forgetting import DIAZ, over_tasks
from clbench.metrics.metric import Array, Metric, mean


def gains_before_learning(r: Array) -> Array:
    """Of each task but the first, its score just before it is trained minus the untrained one: (T-1,); R (T+1, T)."""
    return np.asarray(np.diagonal(r[:-1]) - r[0])[1:]


def _forward_transfer(r: Array) -> float:
    return mean(gains_before_learning(r))


def above_diagonal(r: Array) -> float:
    """Mean of R[i,j] over every pair i < j; R (T+1, T)."""
    row, column = np.triu_indices(r.shape[1], 1)
    return mean(r[1 + row, column])


def over_reference(r: Array, a: Array) -> float:
    """Mean over tasks of how much better each was learned than by the reference; R and A (T+1, T)."""
    return mean(np.diagonal(r[1:]) - np.diagonal(a[1:]))


def _intransigence(r: Array, a: Array) -> float:
    return mean(np.diagonal(a[1:]) - np.diagonal(r[1:]))


TRANSFER = (
    Metric(
        "forward_transfer.gem2017",
        "forward transfer",
        "(1/(T-1)) sum_{j=2..T} (R[j-1,j] - R[0,j])",
        f"{GEM} (FWT)",
        True,
        (-1.0, 1.0),
        _forward_transfer,
    ),
    Metric(
        "forward_transfer.gem2017_code",
        "forward transfer, released code of GEM",
        "(1/T) sum_{j=2..T} (R[j-1,j] - R[0,j])",
        f"the code released with {GEM}; also BeGin",
        True,
        (-1.0, 1.0),
        lambda r: over_tasks(r, float(gains_before_learning(r).sum())),
        differs="from the paper: divided by T, not T-1",
    ),
    Metric(
        "forward_transfer.diaz2018",
        "score before learning",
        "sum_{i<j} R[i,j] / (T(T-1)/2); no baseline",
        f"{DIAZ} (FWT); what pyCLAD prints",
        True,
        (0.0, 1.0),
        above_diagonal,
        is_difference=False,
    ),
    Metric(
        "forward_transfer.cuber2022",
        "forward transfer (CUBER)",
        "(1/T) sum_j (R[j,j] - a_j), a_j = A[j,j], A = matrix of the reference 'independent' on the same card and seed",
        "Lin et al., Beyond Not-Forgetting (CUBER), NeurIPS 2022 (FWT); "
        "the paper prints it minus that of GPM, where a_j cancels",
        True,
        (-1.0, 1.0),
        over_reference,
        reads=("R", "A"),
        reference="independent",
    ),
    Metric(
        "independent_gain",
        "gain over learning alone",
        "(1/T) sum_j (R[j,j] - a_j), a_j = A[j,j], A = matrix of the reference 'independent' on the same card and seed",
        "in the style of CTrL (Veniat et al., ICLR 2021) and NEVIS'22; the number of forward_transfer.cuber2022",
        True,
        (-1.0, 1.0),
        over_reference,
        reads=("R", "A"),
        reference="independent",
    ),
    Metric(
        "intransigence.rwalk2018",
        "intransigence",
        "(1/T) sum_k (C[k,k] - R[k,k]), C = matrix of the reference 'cumulative' on the same card and seed",
        "Chaudhry et al., Riemannian Walk, ECCV 2018",
        False,
        (-1.0, 1.0),
        _intransigence,
        reads=("R", "A"),
        reference="cumulative",
    ),
)
