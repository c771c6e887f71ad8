"""Ids of metrics: ``quantity.definition[parameter=value]@k``, and what their parts mean."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from clbench.errors import BadInput
from clbench.metrics.metric import Array, Metric

_ID = re.compile(r"(?P<stem>[^\[\]@/]+)(?:\[(?P<options>[^\]]*)\])?(?:@(?P<tasks>\d+))?(?P<exp>/exp)?")
_CUT = {"R": lambda a, k: a[: k + 1, :k], "A": lambda a, k: a[: k + 1, :k], "test_sizes": lambda a, k: a[:k]}
_SHORT = {  # what people call them, and the definitions that leaderboards show
    "acc": "average_accuracy.gem2017",
    "accuracy": "average_accuracy.gem2017",
    "aia": "average_incremental_accuracy.icarl2017_macro",
    "bwt": "backward_transfer.gem2017",
    "forgetting": "forgetting.rwalk2018",
    "fwt": "forward_transfer.gem2017",
    "intransigence": "intransigence.rwalk2018",
}
_TERMS = {  # of what a metric averages: the function that gives it
    "transfer.mtil2023": "mtil.transfers",
    "mean_error.ctta2022": "adaptation.domain_errors",
    "order_disparity.apd2020_mean": "order.disparities",
    "order_disparity.apd2020_max": "order.disparities",
    "windowed_forgetting.delange2023": "during_training.largest_drops",
    "windowed_plasticity.delange2023": "during_training.largest_rises",
    "performance_maintenance.l2m_mrlep": "l2m_terms.performance_maintenance",
    "performance_maintenance.l2m_mrtlp": "l2m_terms.performance_maintenance",
    "performance_recovery.l2m": "l2m_terms.performance_recovery",
    "forward_transfer.l2m_ratio": "l2m_terms.forward_transfer",
    "forward_transfer.l2m_contrast": "l2m_terms.forward_transfer",
    "backward_transfer.l2m_ratio": "l2m_terms.backward_transfer",
    "backward_transfer.l2m_contrast": "l2m_terms.backward_transfer",
    "relative_performance.l2m": "l2m_terms.relative_performance",
    "sample_efficiency.l2m": "l2m_terms.sample_efficiency",
}
SHOWN = 8  # ids that hold a word


def named(id: str, known: Mapping[str, Metric]) -> Metric:
    """Return the metric with this id, made from a known one where the id has parameters, ``[log]`` or ``@k``.

    ``x[w=3]`` is x with another parameter, ``x@k`` x of the first k tasks, ``x[log]`` x of the logarithms of the
    scores and ``x[log]/exp`` its exponential. Raises ``BadInput`` with the nearest id otherwise.
    """
    if id in known:
        return known[id]
    parts = _ID.fullmatch(id)
    if parts is None:
        raise _unknown(id, known)
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
        found = _exponential(found)
    return replace(found, id=id)


def _with_parameters(id: str, stem: str, options: list[str], known: Mapping[str, Metric]) -> Metric:
    exact = f"{stem}[{','.join(options)}]" if options else stem
    if exact in known:
        return known[exact]
    words = dict(_parameter(word, id) for word in options)
    if len(words) < len(options):
        raise BadInput(f"expected each parameter once in the id of a metric; got '{id}'")
    for metric in known.values():
        if metric.id.partition("[")[0] == stem and metric.parameters and set(words) == set(metric.parameters):
            return _retold(metric, {name: _whole(name, word, metric, id) for name, word in words.items()})
    raise _unknown(id, known)


def _parameter(word: str, id: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if not equals:
        raise BadInput(f"expected [name=value] or [log] in the id of a metric; got '{id}'")
    return name, value


def _whole(name: str, word: str, metric: Metric, id: str) -> int:
    least = metric.least.get(name, 1)
    if not re.fullmatch(r"0|[1-9]\d{0,8}", word) or int(word) < least:
        raise BadInput(f"expected a whole number {name} >= {least}, as in '{metric.id}'; got '{id}'")
    return int(word)


def _retold(metric: Metric, values: Mapping[str, int]) -> Metric:
    """The metric with other parameters, and with them in title and formula."""
    title, formula = metric.title, metric.formula
    for name, new in values.items():
        old = metric.parameters[name]
        title = _said(title, str(old), str(new), f", {name} = {new}")
        formula = _said(formula, f"{name} = {old}", f"{name} = {new}", f"; {name} = {new}")
    return replace(metric, parameters=values, title=title, formula=formula)


def _said(text: str, old: str, new: str, added: str) -> str:
    """A text with another value where it names one, and otherwise with what is to be added."""
    changed, found = re.subn(rf"\b{re.escape(old)}\b", new, text)
    return changed if found else text + added


def _unknown(id: str, known: Mapping[str, Metric]) -> BadInput:
    """The error for an id that is none, with the nearest ones rather than all."""
    mean, terms, _ = id.partition("/")
    if terms and (told := _TERMS.get(mean.partition("[")[0])):
        return BadInput(f"unknown metric '{id}'; the terms of '{mean}' are what clbench.metrics.{told} returns")
    word = id.lower()
    close = [_SHORT[word]] if word in _SHORT else difflib.get_close_matches(id, known, n=1, cutoff=0.5)
    inside = [name for name in known if word and word in name and name not in close]
    inside.sort(key=lambda name: (name.startswith("lib."), not name.startswith(word)))
    hint = f"; did you mean '{close[0]}'?" if close else ""
    more = f"\n  {len(inside)} hold the word, e.g. {', '.join(inside[:SHOWN])}" if inside else ""
    return BadInput(f"unknown metric '{id}'{hint}{more}\n  see: clbench list metrics")


def _of_logarithms(metric: Metric) -> Metric:
    matrices = [name in ("R", "A") for name in metric.reads]
    if not any(matrices):
        raise BadInput(f"[log] takes logarithms of a score matrix; '{metric.id}' reads {', '.join(metric.reads)}")

    def function(*inputs: Any, **parameters: Any) -> float:
        return metric.function(
            *(_logarithm(x) if m else x for x, m in zip(inputs, matrices, strict=True)), **parameters
        )

    return replace(
        metric,
        title=f"{metric.title}, of log scores",
        formula=f"of the logarithms of the scores: {metric.formula}",
        function=function,
        bounds=(-np.inf, np.inf),
        unit="log of the score's unit",
    )


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
        order = parameters.pop("train_order", None)
        if order is not None and list(order[:k]) != list(range(1, k + 1)):
            return float("nan")  # the first k rows are not of the first k tasks
        cut = (_CUT[name](x, k) for name, x in zip(metric.reads, inputs, strict=True))
        return metric.function(*cut, **parameters)

    title, formula = f"{metric.title}, first {k} tasks", f"of the first {k} tasks: {metric.formula}"
    return replace(metric, title=title, formula=formula, function=function)


def _exponential(metric: Metric) -> Metric:
    return replace(
        metric,
        title=f"{metric.title}, exponential",
        formula=f"exp of that {metric.formula}",
        function=lambda *inputs, **parameters: float(np.exp(metric.function(*inputs, **parameters))),
        bounds=(0.0, np.inf),
        unit="ratio",
    )
