"""What a handful of seeds and streams can tell, and what they cannot."""

from __future__ import annotations

from clbench.statistics.means import LEVEL, MIN_SEEDS, Estimate, estimate, holm, p_value

__all__ = ["LEVEL", "MIN_SEEDS", "Estimate", "estimate", "holm", "p_value"]
