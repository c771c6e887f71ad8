"""What a handful of seeds and streams can tell, and what they cannot."""

from __future__ import annotations

from clbench.statistics.aggregates import (
    grand_mean,
    iqm,
    median_of_stream_means,
    optimality_gap,
    performance_profile,
    probability_of_improvement,
    stratified_interval,
)
from clbench.statistics.means import ALPHA, INTERVALS, LEVEL, MAX_SEEDS_T, MIN_SEEDS, Estimate, estimate
from clbench.statistics.paired import Paired, differences, holm, least_p, p_value, paired, sign_flip_p
from clbench.statistics.ranking import Ranking, least_streams, nemenyi_critical_difference, rank_methods, too_few
from clbench.statistics.ties import Ties, in_words, tie_groups

__all__ = [
    "ALPHA",
    "INTERVALS",
    "LEVEL",
    "MAX_SEEDS_T",
    "MIN_SEEDS",
    "Estimate",
    "Paired",
    "Ranking",
    "Ties",
    "differences",
    "estimate",
    "grand_mean",
    "holm",
    "in_words",
    "iqm",
    "least_p",
    "least_streams",
    "median_of_stream_means",
    "nemenyi_critical_difference",
    "optimality_gap",
    "p_value",
    "paired",
    "performance_profile",
    "probability_of_improvement",
    "rank_methods",
    "sign_flip_p",
    "stratified_interval",
    "tie_groups",
    "too_few",
]
