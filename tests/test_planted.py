"""A contract that catches nothing is worth nothing: every planted defect fails in the clause meant for it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from clbench.checks import METRIC_CLAUSES, SCENARIO_CLAUSES, STRATEGY_CLAUSES, Clause, check
from clbench.seeds import Seeds
from tests import planted_declarations, planted_metrics, planted_scenarios, planted_strategies
from tests.planted import Defect, caught, defects


@pytest.mark.parametrize("defect", defects(), ids=lambda d: f"{d.kind}-{d.name}-{d.clause}")
def test_defect_is_caught_by_the_clause_meant_for_it(defect: Defect) -> None:
    message = caught(defect.judge())
    assert message is not None, f"{defect.name} escaped {defect.clause}"
    assert len(message) > 10


def test_every_clause_catches_a_planted_defect() -> None:
    meant = {d.clause for d in defects()}
    clauses: list[Clause[Any]] = [*STRATEGY_CLAUSES, *SCENARIO_CLAUSES, *METRIC_CLAUSES]
    every = {clause.name for clause in clauses}
    assert every - meant == set()
    counts = Counter(d.kind for d in defects())
    assert counts["strategy"] >= 20 and counts["scenario"] >= 7 and counts["metric"] >= 4


def test_the_correct_twin_of_the_strategies_passes() -> None:
    report = check("tests.planted_strategies:Correct")
    assert report.ok, report.failed
    assert report.kind == "strategy"


def test_the_correct_twin_of_the_scenarios_passes() -> None:
    plain = planted_scenarios.Correct()
    card = planted_scenarios.Correct(fingerprint=plain.build(Seeds.of(0), Path("data")).fingerprint)
    report = check(card)
    assert report.ok, report.failed


def test_the_correct_twin_of_the_metrics_passes() -> None:
    report = check(planted_metrics.CORRECT)
    assert report.ok, report.failed


def test_a_deterministic_strategy_that_says_so_passes_the_clause() -> None:
    class Declared(planted_strategies.IgnoresTheSeed):
        """As its parent, but honest."""

        deterministic = True

    report = check(Declared)
    outcome = next(o for o in report.outcomes if o.clause == "another_seed_gives_other_scores")
    assert outcome.status == "passed", outcome.message


def test_a_strategy_that_supports_nothing_fails_the_check() -> None:
    report = check(planted_declarations.DeclaresNoProtocol)
    assert not report.ok
    assert any("training" in o.message for o in report.outcomes if o.status == "not applicable")
