"""Every planted defect and the clause that catches it: ``python -m tests.planted`` lists them, and any that escape."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clbench.checks import METRIC_CLAUSES, SCENARIO_CLAUSES, STRATEGY_CLAUSES, Outcome, judge
from clbench.checks.contract import subject
from clbench.checks.metric_clauses import MetricCase
from clbench.checks.scenario_clauses import ScenarioCase
from clbench.strategy import Strategy
from tests import (
    planted_carriers,
    planted_declarations,
    planted_metrics,
    planted_predictors,
    planted_scenarios,
    planted_strategies,
)


@dataclass(frozen=True)
class Defect:
    """A broken plugin and the clause that is meant for it; ``judge`` holds that clause alone against it."""

    kind: str
    name: str
    clause: str
    judge: Callable[[], list[Outcome]]


def defects() -> list[Defect]:
    """All planted defects; the modules of broken strategies put theirs into one list as they are imported."""
    assert planted_carriers and planted_declarations and planted_predictors
    found = [Defect("strategy", c.__name__, w, _strategy(c, w)) for c, w in planted_strategies.SUBMITTED.items()]
    for name, clause in planted_scenarios.SUBMITTED.items():
        found.append(Defect("scenario", name, clause, _scenario(getattr(planted_scenarios, name), clause)))
    for name, (metric, clause) in planted_metrics.SUBMITTED.items():
        found.append(Defect("metric", name, clause, _metric(metric, clause)))
    return found


def caught(outcomes: list[Outcome]) -> str | None:
    """The first complaint, None when the defect escapes."""
    return next((o.message for o in outcomes if o.status == "failed"), None)


def _strategy(cls: type[Strategy], clause_name: str) -> Callable[[], list[Outcome]]:
    def run() -> list[Outcome]:
        plugin = subject(cls)
        clause = next(c for c in STRATEGY_CLAUSES if c.name == clause_name)
        some = plugin.protocols if clause_name == "declared_protocols_work" else plugin.protocols[:1]
        plugin.continued_under = some
        return [judge(clause, plugin.case(protocol), protocol) for protocol in some]

    return run


def _scenario(cls: type[planted_scenarios.Correct], clause_name: str) -> Callable[[], list[Outcome]]:
    clause = next(c for c in SCENARIO_CLAUSES if c.name == clause_name)
    return lambda: [judge(clause, ScenarioCase(cls(), Path("data")))]


def _metric(metric: Any, clause_name: str) -> Callable[[], list[Outcome]]:
    clause = next(c for c in METRIC_CLAUSES if c.name == clause_name)
    return lambda: [judge(clause, MetricCase(metric))]


def main() -> int:
    escaped = 0
    for defect in defects():
        message = caught(defect.judge())
        escaped += message is None
        said = "ESCAPED" if message is None else f"caught: {message.splitlines()[0] if message else '(no message)'}"
        sys.stdout.write(f"{defect.kind:9} {defect.name:32} {defect.clause:40} {said[:160]}\n")
        sys.stdout.flush()
    sys.stdout.write(f"{len(defects())} planted defects, {escaped} escaped\n")
    return 1 if escaped else 0


if __name__ == "__main__":
    sys.exit(main())
