"""Random score matrices for the properties of metrics."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from clbench.metrics import METRICS, metric

Array = NDArray[np.float64]
SCORES = st.integers(0, 1000).map(lambda thousandths: thousandths / 1000)
POSITIVE = st.integers(1, 1000).map(lambda thousandths: thousandths / 1000)
OF_R = [m for m in METRICS.values() if set(m.reads) <= {"R", "A", "test_sizes"}]
ROUNDING = 1e-12

PROPERTY = settings(
    max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


@st.composite
def matrices(draw: st.DrawFn, least: int = 2, most: int = 6, scores: st.SearchStrategy[float] = SCORES) -> Array:
    """R (T+1, T) of scores in [0, 1]."""
    n = draw(st.integers(least, most))
    return draw(arrays.arrays(np.float64, (n + 1, n), elements=scores))


def of(id: str, r: Array, **inputs: Any) -> float:
    return metric(id).of(R=r, **inputs)


def near(value: float) -> Any:
    return pytest.approx(value, abs=ROUNDING)
