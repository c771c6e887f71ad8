"""Clauses on predict(): pure, shaped by the query, one sample at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from clbench.checks.clause import NotApplicable, expect
from clbench.checks.strategy_case import SEED, StrategyCase
from clbench.checks.trace import answers, begin, quiet, random_states
from clbench.evaluate import make_query
from clbench.state import freeze
from clbench.strategy import Strategy
from clbench.stream import Query

TOLERANCE = 1e-5


def predict_is_shaped_by_the_query(case: StrategyCase) -> None:
    """predict() returns a floating tensor of scores with one row a sample and one column a candidate class."""
    size = case.main.strategy.group_size
    for n in (size, 2 * size, 9 * size):
        for columns in (case.query, _newest(case)):
            inputs = case.inputs(n)
            scores = case.ask(inputs, columns)
            wanted = (len(next(iter(inputs.values()))), len(columns.classes))
            got = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
            advice = "return one column for each of query.classes and no others"
            expect(got == wanted, f"scores of shape {wanted}", got, advice)
            expect(scores.is_floating_point(), "floating-point scores", scores.dtype, "return scores, not classes")


def predict_follows_the_order_of_the_query(case: StrategyCase) -> None:
    """Column k scores query.classes[k]: the same candidates in another order get the same scores in that order."""
    query, inputs = case.query, case.inputs(17)
    order = list(reversed(range(len(query.classes))))
    plain, turned = case.ask(inputs, query), case.ask(inputs, _picked(query, order))
    same = plain.shape == turned.shape and _close(plain[:, order], turned)
    expect(
        same,
        "the scores in reverse order for the candidates in reverse order",
        "others",
        "index scores by query.classes",
    )


def predict_ranks_candidates_consistently(case: StrategyCase) -> None:
    """Fewer candidates leave the order of the others as it was: no class overtakes another by who else is asked for."""
    if case.protocol != "class-incremental":
        raise NotApplicable("only class-incremental queries ask for some of the classes")
    query, inputs = case.query, case.inputs(17)
    chosen = list(range(0, len(query.classes), 2))
    whole, part = case.ask(inputs, query)[:, chosen].double(), case.ask(inputs, _picked(query, chosen)).double()
    for a in range(len(chosen)):
        gap_whole, gap_part = whole[:, a : a + 1] - whole, part[:, a : a + 1] - part
        clear = (gap_whole.abs() > TOLERANCE) & (gap_part.abs() > TOLERANCE)
        turned = bool((clear & (gap_whole.sign() != gap_part.sign())).any())
        expect(
            not turned, "the same order among candidates in a smaller query", "another", "score each class by itself"
        )


def predict_gives_no_nan(case: StrategyCase) -> None:
    """No score is NaN, in any row of the matrix and for any probe; minus infinity says 'never'."""
    for row, cells in case.main.scores.items():
        for column, scores in enumerate(cells, start=1):
            advice = "return float('-inf') where a class cannot be scored"
            expect(not bool(torch.isnan(scores).any()), "no NaN", f"NaN in cell R[{row},{column}]", advice)


def predict_answers_before_it_has_learnt(case: StrategyCase) -> None:
    """Right after setup(), and for classes of tasks still to come, predict() answers without an error or NaN."""
    with quiet():
        trace = begin(case.subject.make(), case.stream(), SEED)
        cells = answers(trace.strategy, trace.stream, 0)
    for column, scores in enumerate(cells, start=1):
        nan = bool(torch.isnan(scores).any())
        expect(
            not nan, f"an answer of the untrained strategy in cell R[0,{column}]", "NaN", "return float('-inf') instead"
        )


def predict_changes_nothing(case: StrategyCase) -> None:
    """predict() changes no weight, no attribute and no random state."""
    strategy = case.main.strategy
    inputs = case.inputs(17)
    given = {name: x.clone() for name, x in inputs.items()}
    with quiet():
        case.ask(inputs, case.query)  # whatever is made once has been made
        before, random_before = attributes(strategy), random_states()
        case.ask(inputs, case.query)
        random_after = random_states()
    changed = [k for k, v in attributes(strategy).items() if k not in before or not equal(v, before[k])]
    expect(not changed, "the same attributes after predict()", f"changes in {changed}", "keep predict() free of state")
    expect(
        random_before == random_after,
        "random states left alone",
        "a draw from a global one",
        "draw nothing in predict()",
    )
    written = [k for k in given if not torch.equal(given[k], inputs[k])]
    expect(not written, "the inputs left as they were", f"changed inputs {written}", "do not work in place on them")


def predict_gives_the_same_answer_twice(case: StrategyCase) -> None:
    """Asked the same again, predict() gives the same scores bit by bit, whatever mode training left modules in."""
    inputs, strategy = case.inputs(17), case.main.strategy
    with quiet():
        first = case.ask(inputs, case.query)
        for training in (False, True):
            for module in (m for m in vars(strategy).values() if isinstance(m, nn.Module)):
                module.train(training)
            again = case.ask(inputs, case.query)
            advice = "switch modules to eval() in predict() and draw nothing at random"
            expect(equal(first, again), "equal scores at the second call", "others", advice)


def predict_answers_each_sample_by_itself(case: StrategyCase) -> None:
    """A sample's scores do not depend on who else is in the batch, beyond 1e-5 or its declared group."""
    size = case.main.strategy.group_size
    inputs = case.inputs(6 * size)
    count = len(next(iter(inputs.values()))) // size * size
    inputs = {name: x[:count] for name, x in inputs.items()}
    whole = case.ask(inputs, case.query)
    mates: dict[str, Callable[[Tensor], Tensor]] = {
        "alone": lambda x: x,
        "beside blank samples": lambda x: torch.cat([x, torch.zeros_like(x), torch.zeros_like(x)]),
        "beside bright samples": lambda x: torch.cat([x, 5 * torch.ones_like(x)]),
    }
    for how, company in mates.items():
        for start in range(0, count, size):
            group = {name: company(x[start : start + size]) for name, x in inputs.items()}
            scores = case.ask(group, case.query)[:size]
            advice = "do not use statistics of the batch, or declare group_size"
            expect(_close(whole[start : start + size], scores), f"the same scores of a sample {how}", "others", advice)


def attributes(strategy: Strategy) -> dict[str, Any]:
    """Copies of all public attributes that can be copied."""
    copies = {}
    for name, value in vars(strategy).items():
        if not name.startswith("_"):
            try:
                copies[name] = freeze(value, name)
            except TypeError:
                continue
    return copies


def equal(a: Any, b: Any) -> bool:
    """Whether two plain states are the same bit by bit; NaN equals NaN."""
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        if not (isinstance(a, Tensor) and isinstance(b, Tensor)) or a.shape != b.shape or a.dtype != b.dtype:
            return False
        return torch.equal(a, b) or (a.is_floating_point() and torch.allclose(a, b, rtol=0, atol=0, equal_nan=True))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(equal, a, b))
    return bool(a == b) or (a != a and b != b)


def _close(a: Tensor, b: Tensor) -> bool:
    finite = a[torch.isfinite(a)].abs()
    scale = max(1.0, float(finite.max()) if finite.numel() else 1.0)
    return a.shape == b.shape and torch.allclose(a, b, rtol=0, atol=TOLERANCE * scale)


def _picked(query: Query, columns: list[int]) -> Query:
    classes, names = [query.classes[k] for k in columns], [query.class_names[k] for k in columns]
    return Query(query.task_label, tuple(classes), tuple(names))


def _newest(case: StrategyCase) -> Query:
    tasks = case.main.stream.tasks
    return make_query(case.protocol, tasks, 1, 1)
