"""The contract, held against everything clbench ships: strategies, scenario cards, metrics."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from clbench.cards import Scenario
from clbench.checks import METRIC_CLAUSES, SCENARIO_CLAUSES, STRATEGY_CLAUSES, Clause, Outcome, check, judge
from clbench.checks.contract import find, subject
from clbench.checks.metric_clauses import VECTORS, MetricCase
from clbench.checks.scenario_clauses import ScenarioCase
from clbench.checks.strategy_case import Subject
from clbench.errors import BadInput
from clbench.metrics import METRICS
from clbench.places import cards, names
from clbench.places import config as configuration
from tests.vectors import EVERY, PAGE

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("CLBENCH_DATA", ROOT.parent / "shared" / "data"))
STRATEGIES = sorted(names("strategy"))
REFERENCES = {"joint", "cumulative", "independent"}

# Where a clause has nothing to say about something shipped, and why. Anything else that does not apply is a failure.
SILENT_FOR_STRATEGIES: dict[str, str | tuple[str, ...]] = {
    "number_of_tasks_is_not_known": "a declared reference is told",
    "predict_ranks_candidates_consistently": "only class-incremental queries",
    "classes_may_arrive_with_the_tasks": (
        "setup() refuses an open label space: tasks are inferred from outputs that all masks share",  # SupSup
        "under domain-incremental all classes are there",
    ),
}


@cache
def strategy(name: str) -> Subject:
    """One subject a worker, so that all clauses share its runs."""
    config = configuration("strategy", name)
    return subject(find(config.pop("_target_")), **config)


@cache
def scenario(name: str) -> ScenarioCase:
    return ScenarioCase(Scenario.from_card(cards()[name]), DATA)


def strategy_cases() -> list[Any]:
    cases = []
    for name in STRATEGIES:
        for clause in STRATEGY_CLAUSES:
            protocols = strategy(name).protocols if clause.every_protocol else strategy(name).protocols[:1]
            cases += [pytest.param(name, clause, p, id=f"{name}-{clause.name}-{p}") for p in protocols]
    return cases


def scenario_cases() -> list[Any]:
    return [
        pytest.param(name, clause, id=f"{name}-{clause.name}")
        for name, card in sorted(cards().items())
        if "obtain" not in card  # the data are the user's: tests/test_paper_cards.py
        for clause in SCENARIO_CLAUSES
    ]


def explain(outcome: Outcome) -> str:
    return f"{outcome.sentence}\n  {outcome.message}"


@pytest.mark.parametrize(("name", "clause", "protocol"), strategy_cases())
def test_shipped_strategy_keeps(name: str, clause: Clause[Any], protocol: Any) -> None:
    outcome = judge(clause, strategy(name).case(protocol), protocol)
    if outcome.status == "not applicable":
        assert outcome.message.startswith(SILENT_FOR_STRATEGIES.get(clause.name, "(never)")), explain(outcome)
        assert name in REFERENCES or clause.name != "number_of_tasks_is_not_known", explain(outcome)
    else:
        assert outcome.status == "passed", explain(outcome)


@pytest.mark.parametrize(("name", "clause"), scenario_cases())
def test_shipped_scenario_keeps(name: str, clause: Clause[Any]) -> None:
    assert DATA.is_dir(), f"no data folder at '{DATA}'; set CLBENCH_DATA to the folder with cifar10_jpeg.zip"
    outcome = judge(clause, scenario(name))
    assert outcome.status == "passed", explain(outcome)


@pytest.mark.parametrize("clause", METRIC_CLAUSES, ids=lambda clause: clause.name)
@pytest.mark.parametrize("name", sorted(METRICS))
def test_shipped_metric_keeps(name: str, clause: Clause[Any]) -> None:
    outcome = judge(clause, MetricCase(METRICS[name], [*VECTORS, *EVERY]))
    if outcome.status == "not applicable":
        assert clause.name == "metric_points_the_right_way" and "R" not in METRICS[name].reads, explain(outcome)
    else:
        assert outcome.status == "passed", explain(outcome)


def test_every_shipped_strategy_supports_a_shipped_scenario() -> None:
    offered = {card["protocol"] for card in cards().values()}
    idle = [name for name in STRATEGIES if not offered & strategy(name).cls.protocols]
    assert not idle, f"{idle} would be skipped on every scenario"


def test_every_shipped_strategy_and_card_is_held_against_the_contract() -> None:
    assert len(STRATEGIES) >= 15 and len(cards()) >= 10
    assert {v["id"] for v in PAGE} >= {"v4", "vpos", "vzs", "w1", "w2", "edge.lower_is_better"}


def test_every_clause_is_one_sentence() -> None:
    clauses: list[Clause[Any]] = [*STRATEGY_CLAUSES, *SCENARIO_CLAUSES, *METRIC_CLAUSES]
    assert len({c.name for c in clauses}) == len(clauses)
    for clause in clauses:
        assert clause.sentence.endswith(".") and clause.sentence.count(". ") == 0, clause.name


def test_check_takes_metrics_scenarios_cards_and_paths() -> None:
    assert check(METRICS["forgetting.rwalk2018"]).ok
    assert check(str(names("scenario")["split_digits-v1"])).ok
    assert check(Scenario.from_card(cards()["split_digits-v1"])).kind == "scenario"


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("clbench.strategies.replay:Replai", "did you mean 'Replay'"),
        ("clbench.strategies.replays:Replay", "cannot be imported"),
        ("Replay", "expected my_pkg.mine:Mine"),
        ("clbench.strategy:Strategy", "abstract"),
        ("clbench.buffer:Buffer", "derive your class"),
        ("nowhere.yaml", "nowhere.yaml"),
    ],
)
def test_check_says_what_is_wrong_with_a_target(target: str, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        check(target)


def test_check_names_the_nearest_hyperparameter() -> None:
    with pytest.raises(BadInput, match="did you mean 'memory'"):
        check("clbench.strategies.replay:Replay", memori=10)
