"""The list of clauses, and ``check``: hold a plugin against all that apply to it."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clbench.cards import Scenario
from clbench.checks import answering, carrying, declaring, metric_clauses, repeating, scenario_clauses, training
from clbench.checks.clause import Clause, Report, judge
from clbench.checks.metric_clauses import MetricCase
from clbench.checks.scenario_clauses import ScenarioCase
from clbench.checks.strategy_case import StrategyCase, Subject
from clbench.errors import BadInput, unknown
from clbench.metrics import Metric
from clbench.strategy import Strategy

STRATEGY_CLAUSES: tuple[Clause[StrategyCase], ...] = (
    Clause(declaring.hyperparameters_are_fields),
    Clause(declaring.hyperparameters_are_stored_as_given),
    Clause(declaring.hyperparameters_are_not_shared),
    Clause(declaring.hyperparameters_are_plain),
    Clause(declaring.hyperparameters_stay_constant),
    Clause(declaring.source_is_named),
    Clause(declaring.protocols_are_declared),
    Clause(declaring.declared_protocols_work, every_protocol=True),
    Clause(training.current_task_is_learnt, every_protocol=True),
    Clause(training.past_tasks_are_closed, every_protocol=True),
    Clause(training.training_data_are_left_alone, every_protocol=True),
    Clause(training.training_leaves_the_process_alone),
    Clause(training.number_of_tasks_is_not_known),
    Clause(training.classes_may_arrive_with_the_tasks),
    Clause(answering.predict_is_shaped_by_the_query, every_protocol=True),
    Clause(answering.predict_follows_the_order_of_the_query, every_protocol=True),
    Clause(answering.predict_ranks_candidates_consistently, every_protocol=True),
    Clause(answering.predict_gives_no_nan, every_protocol=True),
    Clause(answering.predict_answers_before_it_has_learnt, every_protocol=True),
    Clause(answering.predict_changes_nothing),
    Clause(answering.predict_gives_the_same_answer_twice),
    Clause(answering.predict_answers_each_sample_by_itself, every_protocol=True),
    Clause(carrying.state_is_plain),
    Clause(carrying.state_is_all_that_is_carried, every_protocol=True),
    Clause(carrying.branches_never_change, every_protocol=True),
    Clause(carrying.state_bytes_are_counted),
    Clause(carrying.stored_samples_stay_within_memory, every_protocol=True),
    Clause(carrying.stored_samples_are_declared, every_protocol=True),
    Clause(repeating.same_seed_gives_the_same_scores),
    Clause(repeating.another_seed_gives_other_scores),
    Clause(repeating.evaluation_has_no_side_effects),
    Clause(repeating.instances_are_independent),
)

SCENARIO_CLAUSES: tuple[Clause[ScenarioCase], ...] = (
    Clause(scenario_clauses.card_is_complete),
    Clause(scenario_clauses.fingerprint_is_the_cards),
    Clause(scenario_clauses.fingerprint_covers_the_content),
    Clause(scenario_clauses.same_seed_gives_the_same_stream),
    Clause(scenario_clauses.another_seed_gives_another_stream),
    Clause(scenario_clauses.building_leaves_random_state_alone),
    Clause(scenario_clauses.train_and_test_are_disjoint),
    Clause(scenario_clauses.no_class_is_dropped),
    Clause(scenario_clauses.no_sample_is_dropped),
    Clause(scenario_clauses.labels_match_the_classes),
    Clause(scenario_clauses.inputs_match_the_spec),
    Clause(scenario_clauses.reading_changes_nothing),
)

METRIC_CLAUSES: tuple[Clause[MetricCase], ...] = (
    Clause(metric_clauses.metric_is_described),
    Clause(metric_clauses.metric_agrees_with_the_vectors),
    Clause(metric_clauses.metric_leaves_its_input_alone),
    Clause(metric_clauses.missing_cells_give_nan),
    Clause(metric_clauses.one_task_gives_nan_or_a_score),
    Clause(metric_clauses.metric_stays_within_bounds),
    Clause(metric_clauses.metric_points_the_right_way),
)


def check(
    target: Any,
    *,
    data_dir: Path | str | None = None,
    vectors: Sequence[metric_clauses.Vector] | None = None,
    **hyperparameters: Any,
) -> Report:
    """Hold a strategy (class or instance), scenario or metric against the contract.

    ``target`` may be a text: ``my_pkg.mine:Mine``, or the path of a scenario card. ``data_dir``: for a scenario,
    the folder of its data (default ``$CLBENCH_DATA``). ``vectors``: for a metric, numbers it must give.
    Raises ``BadInput`` when the target is none of these.
    """
    name = target if isinstance(target, str) else getattr(target, "__name__", type(target).__name__)
    plugin = find(target) if isinstance(target, str) else target
    if isinstance(plugin, type) and issubclass(plugin, Scenario):
        plugin = _made(plugin)
    if isinstance(plugin, Strategy) or (isinstance(plugin, type) and issubclass(plugin, Strategy)):
        return _strategy(name, subject(plugin, **hyperparameters))
    if isinstance(plugin, Scenario):
        folder = Path(data_dir or os.environ.get("CLBENCH_DATA", "data"))
        scenario_case = ScenarioCase(plugin, folder)
        return Report(name, "scenario", tuple(judge(clause, scenario_case) for clause in SCENARIO_CLAUSES))
    if isinstance(plugin, Metric):
        metric_case = MetricCase(plugin, metric_clauses.VECTORS if vectors is None else vectors)
        return Report(name, "metric", tuple(judge(clause, metric_case) for clause in METRIC_CLAUSES))
    raise BadInput(
        f"cannot check {name}: expected a Strategy class, a Scenario or a Metric; got a {type(plugin).__name__}\n"
        "  derive your class from clbench.strategy.Strategy, or name it as module:Class"
    )


def subject(plugin: Strategy | type[Strategy], **hyperparameters: Any) -> Subject:
    """The strategy to check, with its hyperparameters; ``BadInput`` where it cannot be made."""
    cls = plugin if isinstance(plugin, type) else type(plugin)
    if inspect.isabstract(cls):
        raise BadInput(f"strategy {cls.__name__} is abstract: it must define train_task(self, task)")
    if isinstance(plugin, Strategy):
        own = {f.name: getattr(plugin, f.name) for f in dataclasses.fields(plugin) if f.init}
        hyperparameters = {**own, **hyperparameters}
    known = {f.name for f in dataclasses.fields(cls) if f.init}
    for name in hyperparameters:
        if name not in known:
            raise unknown(f"hyperparameter of {cls.__name__}", name, known)
    made = Subject(cls, hyperparameters)
    made.make()
    return made


def find(target: str) -> Any:
    """What a text names: ``module:attribute`` (or with a dot), or a card's path. Raises ``BadInput``."""
    if target.endswith((".yaml", ".yml")):
        from clbench.places import read_yaml

        return Scenario.from_card(read_yaml(Path(target)))
    module_name, colon, name = target.partition(":")
    if not colon:
        module_name, _, name = target.rpartition(".")
    if not module_name or not name:
        raise BadInput(f"expected my_pkg.mine:Mine or the path of a card; got '{target}'")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # importing runs someone else's code
        raise BadInput(
            f"'{target}' cannot be imported: {type(error).__name__}: {error}\n"
            "  expected module:Class, importable from the current folder"
        ) from error
    if not hasattr(module, name):
        raise unknown(f"name in {module_name}", name, [n for n in vars(module) if not n.startswith("_")])
    return getattr(module, name)


def _strategy(name: str, plugin: Subject) -> Report:
    outcomes = (
        judge(clause, plugin.case(protocol), protocol)
        for clause in STRATEGY_CLAUSES
        for protocol in (plugin.protocols if clause.every_protocol else plugin.protocols[:1])
    )
    return Report(name, "strategy", tuple(outcomes))


def _made(cls: type[Scenario]) -> Scenario:
    try:
        return cls()  # type: ignore[call-arg]  # a user's subclass may want none
    except TypeError as error:
        raise BadInput(f"scenario {cls.__name__} cannot be made: {error}; check an instance of it instead") from error
