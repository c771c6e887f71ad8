"""The contract: what every strategy, scenario and metric must do, held against a plugin clause by clause."""

from clbench.checks.clause import Broken, Clause, NotApplicable, Outcome, Report, judge
from clbench.checks.contract import METRIC_CLAUSES, SCENARIO_CLAUSES, STRATEGY_CLAUSES, check

__all__ = [
    "METRIC_CLAUSES",
    "SCENARIO_CLAUSES",
    "STRATEGY_CLAUSES",
    "Broken",
    "Clause",
    "NotApplicable",
    "Outcome",
    "Report",
    "check",
    "judge",
]
