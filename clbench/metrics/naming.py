"""Ids of metrics: ``quantity.definition[parameter=value]@k``, and what their parts mean."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from clbench.errors import BadInput, unknown
from clbench.metrics.metric import Array, Metric

_ID = re.compile(r"(?P<stem>[^\[\]@/]+)(?:\[(?P<options>[^\]]*)\])?(?:@(?P<tasks>\d+))?(?P<exp>/exp)?")
_CUT = {"R": lambda a, k: a[: k + 1, :k], "A": lambda a, k: a[: k + 1, :k], "test_sizes": lambda a, k: a[:k]}


def named(id: str, known: Mapping[str, Metric]) -> Metric:
    """Return the metric with this id, made from a known one where the id has parameters, ``[log]`` or ``@k``.

    ``x[w=3]`` is x with another parameter, ``x@k`` x of the first k tasks, ``x[log]`` x of the logarithms of the
    scores and ``x[log]/exp`` its exponential. Raises ``BadInput`` with the nearest id otherwise.
    """
    if id in known:
        return known[id]
    parts = _ID.fullmatch(id)
    if parts is None:
        raise unknown("metric", id, known)
    options = [word.strip() for word in (parts["options"] or "").split(",") if word.strip()]
    log = "log" in options
    found = _with_parameters(id, parts["stem"], [word for word in options if word != "log"], known)
    if log:
        found = _of_logarithms(found)
    if parts["tasks"]:
        found = _of_first_tasks(found, int(parts["tasks"]))
    if parts["exp"]:
        if not log:
            raise BadInput(f"/exp undoes a logarithm: expected {parts['stem']}[log]/exp; got '{id}'")
        found = replace(found, function=_exponential(found), bounds=(0.0, np.inf), unit="ratio")
    return replace(found, id=id)


def _with_parameters(id: str, stem: str, options: list[str], known: Mapping[str, Metric]) -> Metric:
    exact = f"{stem}[{','.join(options)}]" if options else stem
    if exact in known:
        return known[exact]
    values = dict(_parameter(word, id) for word in options)
    for metric in known.values():
        if metric.id.partition("[")[0] == stem and metric.parameters and set(values) == set(metric.parameters):
            wrong = [n for n, v in values.items() if isinstance(v, str) != isinstance(metric.parameters[n], str)]
            if wrong:
                raise BadInput(f"expected {wrong[0]} as in '{metric.id}'; got '{id}'")
            return replace(metric, parameters=values)
    raise unknown("metric", id, known)


def _parameter(word: str, id: str) -> tuple[str, Any]:
    name, equals, value = word.partition("=")
    if not equals:
        raise BadInput(f"expected [name=value] or [log] in the id of a metric; got '{id}'")
    for kind in (int, float):
        try:
            return name, kind(value)
        except ValueError:
            continue
    return name, value


def _of_logarithms(metric: Metric) -> Metric:
    matrices = [name in ("R", "A") for name in metric.reads]
    if not any(matrices):
        raise BadInput(f"[log] takes logarithms of a score matrix; '{metric.id}' reads {', '.join(metric.reads)}")

    def function(*inputs: Any, **parameters: Any) -> float:
        return metric.function(
            *(_logarithm(x) if m else x for x, m in zip(inputs, matrices, strict=True)), **parameters
        )

    return replace(metric, function=function, bounds=(-np.inf, np.inf), unit="log of the score's unit")


def _logarithm(scores: Array) -> Array:
    """Of positive scores, or of their negatives as differences of losses are taken; of zero there is none."""
    size = np.abs(scores)
    logs = np.log(size, where=size > 0, out=np.full_like(scores, np.nan))
    return np.copysign(1.0, scores) * logs


def _of_first_tasks(metric: Metric, k: int) -> Metric:
    if k < 1 or not set(metric.reads) <= set(_CUT):
        raise BadInput(f"'{metric.id}@{k}': only a metric of the matrix can be taken of its first k >= 1 tasks")

    def function(*inputs: Any, **parameters: Any) -> float:
        if inputs[0].shape[-1] < k:
            return float("nan")
        cut = (_CUT[name](x, k) for name, x in zip(metric.reads, inputs, strict=True))
        return metric.function(*cut, **parameters)

    return replace(metric, function=function, formula=f"of the first {k} tasks: {metric.formula}")


def _exponential(metric: Metric) -> Any:
    return lambda *inputs, **parameters: float(np.exp(metric.function(*inputs, **parameters)))
