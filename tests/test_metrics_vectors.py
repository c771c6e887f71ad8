"""Every number of the reference page, and the command and functions that lay variants side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from clbench import statistics
from clbench.checks.metric_clauses import value_of
from clbench.metrics import METRICS, metric
from clbench.metrics.adaptation import domain_errors
from clbench.metrics.during_training import largest_drops, largest_rises
from clbench.metrics.l2m_terms import (
    backward_transfer,
    data_range,
    forward_transfer,
    normalise,
    normalised,
    performance_maintenance,
    recovery_times,
    relative_performance,
    sample_efficiency,
    smooth,
)
from clbench.metrics.library_rules import avalanche_matrix, pyclad_steps
from clbench.metrics.mtil import transfers
from clbench.metrics.order import disparities
from tests.vectors import WORDED, Vector, own

ELSEWHERE = ("oracle.l2metrics.",)  # what the package prints, defects included: tests with the package itself
NOT_STORED = "computed"  # false: needs data that the page does not hold


def r(vector: Vector) -> Any:
    return np.array(vector["matrix"], dtype=np.float64)


def given(vector: Vector, *names: str) -> list[Any]:
    return [np.array(vector["inputs"][name]) if name != "blocks" else vector["inputs"][name] for name in names]


def curves_and_experts(vector: Vector) -> list[Any]:
    return [vector["inputs"][name] for name in ("blocks", "expert_blocks", "train_order")]


def firsts(pairs: Mapping[tuple[int, int], list[float]]) -> dict[str, float]:
    return {f"{a}->{b}": values[0] for (a, b), values in pairs.items()}


def recoveries(vector: Vector) -> list[list[float]]:
    order, blocks = vector["inputs"]["train_order"], vector["inputs"]["blocks"]
    own_blocks = ([b for b, t in zip(blocks, order, strict=True) if t == task] for task in sorted(set(order)))
    return [recovery_times(b) for b in own_blocks]


def x(vector: Vector, name: str = "x") -> Any:
    return np.array(vector["inputs"][name], dtype=np.float64)


def windows(of: Callable[..., Any], w: int) -> Callable[[Vector], Any]:
    return lambda vector: of(*given(vector, "curves"), w)


Found = Callable[[Vector], Any]
TERMS: dict[str, Found] = {  # ids of the page that are no metric: terms before averaging, steps on the way, statistics
    "transfer.mtil2023/tasks": lambda v: transfers(r(v)),
    "mean_error.ctta2022/domains": lambda v: domain_errors(*given(v, "wrong", "counts")),
    "order_disparity.apd2020/tasks": lambda v: disparities(*given(v, "order_scores")),
    **{f"windowed_forgetting.delange2023[w={w}]/tasks": windows(largest_drops, w) for w in (2, 3, 10)},
    **{f"windowed_plasticity.delange2023[w={w}]/tasks": windows(largest_rises, w) for w in (2, 3, 10)},
    "lib.avalanche.forgetting_matrix": lambda v: avalanche_matrix(r(v), v["inputs"].get("learned_at_row")),
    "lib.pyclad.forgetting_steps": lambda v: pyclad_steps(r(v)),
    "performance_maintenance.l2m_mrlep/tasks": lambda v: list(
        performance_maintenance(r(v), v["inputs"]["train_order"]).values()
    ),
    "forward_transfer.l2m_ratio/pairs": lambda v: firsts(forward_transfer(r(v), v["inputs"]["train_order"])),
    "backward_transfer.l2m_ratio/pairs": lambda v: firsts(backward_transfer(r(v), v["inputs"]["train_order"])),
    "relative_performance.l2m/tasks": lambda v: list(relative_performance(*curves_and_experts(v)).values()),
    "sample_efficiency.l2m/tasks": lambda v: list(sample_efficiency(*curves_and_experts(v)).values()),
    "recovery_times/tasks": recoveries,
    "l2m.smooth_flat[window=3]": lambda v: smooth(x(v), window=3),
    "l2m.normalise_task": lambda v: normalise(x(v), x(v).min(), x(v).max()),
    "l2m.data_range": lambda v: data_range(v["inputs"]),
    "stats.mean/x": lambda v: statistics.grand_mean(x(v)),
    "stats.mean/y": lambda v: statistics.grand_mean(x(v, "y")),
    "stats.median_of_stream_means/x": lambda v: statistics.median_of_stream_means(x(v)),
    "stats.median_of_stream_means/y": lambda v: statistics.median_of_stream_means(x(v, "y")),
    "stats.iqm": lambda v: statistics.iqm(x(v)),
    "stats.iqm/x": lambda v: statistics.iqm(x(v)),
    "stats.iqm/y": lambda v: statistics.iqm(x(v, "y")),
    "stats.probability_of_improvement/x_over_y": lambda v: statistics.probability_of_improvement(x(v), x(v, "y")),
    "stats.probability_of_improvement/y_over_x": lambda v: statistics.probability_of_improvement(x(v, "y"), x(v)),
    "stats.performance_profile/x[tau=1]": lambda v: statistics.performance_profile(x(v), [1.0])[0],
    "stats.optimality_gap[gamma=1]": lambda v: statistics.optimality_gap(x(v), gamma=1.0),
    "stats.nemenyi_critical_difference[k=4,N=10,alpha=0.05]": lambda _: statistics.nemenyi_critical_difference(4, 10),
    "t_quantile[p=0.975,df=2]": lambda _: half_width_in_standard_errors(3),
    "t_quantile[p=0.975,df=4]": lambda _: half_width_in_standard_errors(5),
    "wilcoxon_min_two_sided_p[N=5]": lambda _: statistics.least_p(5),
    "wilcoxon_min_two_sided_p[N=6]": lambda _: statistics.least_p(6),
    "sign_flip_min_two_sided_p[n=3]": lambda _: statistics.sign_flip_p([0.1, 0.2, 0.4]),
    "sign_flip_min_two_sided_p[n=5]": lambda _: statistics.sign_flip_p([0.1, 0.2, 0.4, 0.8, 1.6]),
}


def half_width_in_standard_errors(n: int) -> float:
    """What the t interval of n seeds multiplies the standard error with."""
    values = [float(i) for i in range(n)]
    made = statistics.estimate(values)
    return float((made.high - made.mean) / (np.std(values, ddof=1) / np.sqrt(n)))


def scaled(vector: Vector, how: str) -> Vector:
    """The scores as l2metrics maps them before it compares."""
    if how == "none":
        return vector
    scale: Any = (0.0, 1.0) if how == "task_range_0_1" else how
    matrix, blocks, _ = normalised(r(vector), vector["inputs"]["blocks"], how=scale)
    return vector | {"matrix": matrix.tolist(), "inputs": {"blocks": blocks}}


def found(vector: Vector, id: str) -> Any:
    """What clbench computes for an id of the page; ``BadInput`` where it is neither a metric nor in TERMS."""
    if id in TERMS:
        return TERMS[id](vector)
    stem, normalisation, how = id.rstrip("]").partition("[normalisation=")
    if normalisation:
        return value_of(metric(stem), scaled(vector, how))
    return value_of(metric(id), vector)


CASES = [(vector, id) for vector in WORDED for id in vector["expected"]]
LEFT = [(v["id"], id) for v, id in CASES if not v[NOT_STORED] or id.startswith(ELSEWHERE)]


@pytest.mark.parametrize("vector", WORDED, ids=lambda vector: vector["id"])
def test_every_number_of_the_page_is_computed(vector: Vector) -> None:
    for id, wanted in vector["expected"].items():
        if (vector["id"], id) in LEFT:
            continue
        got = found(vector, id)
        if isinstance(wanted, dict):
            assert flat(got) == pytest.approx(flat(wanted), abs=vector["tolerance"]), id
        else:
            target = np.array(wanted, dtype=np.float64)  # null is NaN
            assert np.shape(got) == target.shape, id
            assert np.allclose(got, target, rtol=0, atol=vector["tolerance"], equal_nan=True), (id, got, wanted)


def flat(nested: Mapping[str, Any]) -> dict[str, float]:
    """A mapping of numbers, or of mappings of numbers, as one mapping of numbers."""
    parts = {key: value if isinstance(value, dict) else {"": value} for key, value in nested.items()}
    return {f"{key}.{name}": number for key, part in parts.items() for name, number in part.items()}


def test_only_what_cannot_be_computed_from_the_page_is_left_out() -> None:
    assert {id for id, _ in LEFT} == {"l2m.multi_task.log_only", "l2m.two_task_block_quirk"}
    assert len(CASES) - len(LEFT) > 300


@pytest.mark.parametrize("vector", own(), ids=lambda vector: vector["id"])
def test_every_number_worked_by_hand_is_computed(vector: Vector) -> None:
    for id, wanted in vector["expected"].items():
        got = value_of(metric(id), vector)
        assert got == pytest.approx(np.nan if wanted is None else wanted, abs=vector["tolerance"], nan_ok=True), id


def test_every_metric_has_a_number_that_is_no_nan() -> None:
    known = {id for v in (*WORDED, *own()) for id, wanted in v["expected"].items() if wanted is not None}
    assert set(METRICS) - known == set()
