"""Clauses on doing it again: same seed, another seed, with and without evaluation, side by side."""

from __future__ import annotations

from clbench.checks.answering import equal
from clbench.checks.clause import NotApplicable, expect
from clbench.checks.strategy_case import SEED, StrategyCase
from clbench.checks.trace import Trace


def same_seed_gives_the_same_scores(case: StrategyCase) -> None:
    """The same seeds give the same scores, bit by bit."""
    advice = "draw from the generator that setup() is given, never from global random state or the clock"
    expect(_alike(case.main, case.rerun(SEED)), "equal scores from equal seeds", "others", advice)


def another_seed_gives_other_scores(case: StrategyCase) -> None:
    """Other seeds give other scores on the same stream, unless the class declares deterministic = True."""
    alike = _alike(case.main, case.other_seed)
    if case.subject.cls.deterministic:
        expect(alike, "equal scores from every seed, as declared", "others", "take deterministic = True away")
    else:
        advice = "use the model and generator given to setup(), or declare deterministic = True"
        expect(not alike, "other scores from other seeds", "the same ones", advice)


def evaluation_has_no_side_effects(case: StrategyCase) -> None:
    """The state after each task is the same bit by bit whether or not the probes were scored in between."""
    blind = case.rerun(SEED, answer=False)
    for row, (seen, unseen) in enumerate(zip(case.main.states, blind.states, strict=True)):
        changed = [k for k in seen if k not in unseen or not equal(seen[k], unseen[k])]
        advice = "change nothing in predict()"
        expect(not changed, f"the same state after task {row} without evaluation", f"another {changed}", advice)


def instances_are_independent(case: StrategyCase) -> None:
    """Two strategies that take turns in one process do as each does alone: nothing is kept in classes or modules."""
    first, second = case.interleaved
    advice = "keep state in the instance, not in the class or module"
    for one, alone in ((first, case.main), (second, case.other_seed)):
        same = equal(one.states, alone.states)
        same = same and all(equal(one.scores[row], alone.scores[row]) for row in one.scores)
        expect(same, "the same results with a second instance in the process", "others", advice)


def _alike(one: Trace, other: Trace) -> bool:
    if not one.scores:
        raise NotApplicable("no row was scored")
    return equal(one.scores, other.scores)
