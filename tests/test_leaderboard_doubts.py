"""Records held against one another: what no single record shows is said, and nothing is left out for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from clbench.leaderboard import Leaderboard, make_leaderboard
from clbench.matrix import ScoreMatrix
from clbench.record import Record
from tests.toy_records import several, toy_record

CHANCE = (1 / 2, 1 / 4, 1 / 6, 1 / 8)  # two classes a task, the classes of the tasks so far are the candidates


def runs(strategy: str, *, first: float = 0.0, seeds: int = 3, to_come: float = 0.0, **changes: Any) -> list[Record]:
    """Runs of a stream of four tasks: row 0 is chance and ``first``, scores of tasks to come are ``to_come``."""
    found = []
    for seed in range(seeds):
        values = np.full((5, 4), to_come)
        values[0] = np.array(CHANCE) + first + 0.01 * seed
        kept = 0.05 * len(strategy)  # methods with names of different length forget differently
        for i in range(1, 5):
            values[i, :i] = kept + 0.01 * i
        found.append(toy_record(strategy, seed, matrix=ScoreMatrix(values), **changes))
    return found


def warnings(*records: Record) -> tuple[str, ...]:
    board: Leaderboard = make_leaderboard(records)
    assert sum(len(e.records) for t in board.tables for e in t.entries) == len(records)  # all of them stay
    assert board.warnings == make_leaderboard(records[::-1]).warnings
    return board.warnings


def test_sound_records_give_no_warning() -> None:
    assert warnings(*runs("naive"), *runs("replay"), *runs("joint", reference=True)) == ()


def test_more_than_chance_before_any_training_is_said_unless_a_network_was_pretrained() -> None:
    (warning,) = warnings(*runs("naive"), *runs("replay", first=0.3))
    assert warning.startswith("split_toy-v1: replay is 31 points above chance before any training")
    known = [Record(**{**_fields(r), "identity": r.identity | {"backbone": {}}}) for r in runs("replay", first=0.3)]
    assert warnings(*runs("naive"), *known) == ()


@pytest.mark.parametrize("protocol", ["task-incremental", "domain-incremental"])
def test_chance_is_one_in_as_many_as_the_protocol_asks_for(protocol: str) -> None:
    guess = 1 / 2 if protocol == "task-incremental" else 1 / 6
    for above, found in ((0.0, 0), (0.2, 1)):
        values = np.full((4, 3), 0.9)
        values[0] = guess + above
        records = several("naive", 0.9, matrix=ScoreMatrix(values))
        for record in records:
            record.card["protocol"] = protocol
        assert len(warnings(*records)) == found


def test_another_start_with_some_seeds_only_is_said_and_with_all_of_them_it_is_a_method_of_its_own() -> None:
    others = [*runs("naive", seeds=5), *runs("replay", seeds=5)]
    drawn_anew = runs("ewc", seeds=5, first=-0.1)
    assert warnings(*others, *drawn_anew) == ()
    (warning,) = warnings(*others, *runs("ewc", seeds=5)[:3], *drawn_anew[3:4], *runs("ewc", seeds=5)[4:])
    assert "ewc with seed 3 starts with other scores than others of its model" in warning


def test_where_no_start_is_that_of_most_nobody_starts_otherwise() -> None:
    """Two kinds of method of one model, as many of each, whose scores lie now above, now below the others'."""
    kinds = [*runs("naive", seeds=5), *runs("replay", seeds=5)]
    for strategy in ("gpm", "cuber"):
        above, below = runs(strategy, seeds=5, first=0.05), runs(strategy, seeds=5, first=-0.05)
        kinds += [*above[:3], below[3], above[4]]
    assert warnings(*kinds) == ()


def test_two_samples_that_another_processor_takes_for_another_class_are_no_other_start() -> None:
    others = [*runs("naive", seeds=5), *runs("replay", seeds=5)]
    rounded = runs("ewc", seeds=5, first=2e-6)  # of a million
    assert warnings(*others, *runs("ewc", seeds=5)[:4], rounded[4]) == ()
    assert len(warnings(*others, *runs("ewc", seeds=5)[:4], runs("ewc", seeds=5, first=3e-6)[4])) == 1


def test_two_references_that_might_be_meant_are_said_and_no_figure_is_compared_with_either() -> None:
    joint = [*runs("joint", reference=True), *runs("joint", reference=True, more=1)]
    (warning,) = warnings(*runs("naive"), *joint)
    assert warning == (
        "split_toy-v1: there are several runs of the reference joint · mlp · sgd with seeds 0, 1, 2: "
        "no figure is compared with any of them"
    )
    halves = [*runs("joint", reference=True)[:1], *runs("joint", reference=True, more=1)[1:]]
    assert warnings(*runs("naive"), *halves) == (), "with each seed it is known which one is meant"
    assert warnings(*runs("naive"), *runs("joint", reference=True), *runs("cumulative", reference=True)) == ()


def test_a_doubt_about_several_scenarios_is_one_line() -> None:
    records = [r for k in (1, 2) for r in runs("replay", first=0.3, scenario=f"split_toy-v{k}")]
    (warning,) = warnings(*records)
    assert warning.startswith("split_toy-v1, split_toy-v2: replay is 31 points above chance")


def test_scores_of_tasks_to_come_that_are_alike_for_methods_that_learned_different_things_are_said() -> None:
    (warning,) = warnings(*runs("naive", to_come=0.3), *runs("replay", to_come=0.3))
    assert "naive, replay score the same on each task before learning it" in warning or "replay, naive" in warning
    assert warnings(*runs("naive", to_come=0.3), *runs("replay", to_come=0.35)) == ()
    other_model = runs("replay", to_come=0.3, names={"model": "cnn"})
    assert warnings(*runs("naive", to_come=0.3), *_of_model(other_model)) == ()


def test_none_right_or_chance_for_classes_never_seen_is_alike_for_all_methods_and_no_doubt() -> None:
    assert warnings(*runs("naive", to_come=0.0), *runs("replay", to_come=0.0)) == ()
    alike = []
    for strategy in ("naive", "replay"):
        for record in runs(strategy):
            values = record.matrix().values.copy()
            values[2, 2], values[3, 3] = CHANCE[2:]
            alike.append(toy_record(strategy, record.seed, matrix=ScoreMatrix(values)))
    assert warnings(*alike) == ()


def _of_model(records: list[Record]) -> list[Record]:
    return [Record(**{**_fields(r), "identity": r.identity | {"model": {"target": "another"}}}) for r in records]


def _fields(record: Record) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__dataclass_fields__}


def test_seeds_that_are_copies_of_one_run_are_said() -> None:
    values = runs("naive", seeds=1)[0].matrix()
    copies = [toy_record("naive", seed, matrix=values, fingerprint="one stream") for seed in range(3)]
    (warning,) = warnings(*copies)
    assert warning.startswith("split_toy-v1: naive has one result on one stream for seeds 0, 1, 2: nothing in it is")
    streams = [toy_record("naive", seed, matrix=values, fingerprint=f"stream {seed}") for seed in range(3)]
    assert warnings(*streams) == ()
