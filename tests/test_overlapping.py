"""Tasks that share classes: windows in a ring, or listed one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import clbench
from clbench.cards import Scenario
from clbench.checks import check
from clbench.errors import BadInput
from clbench.places import cards
from clbench.seeds import Seeds
from clbench.stream import TaskStream
from tests.real_data import DATA
from tests.toy_streams import build


def windows(seeds: Seeds | int = 0, **fields: Any) -> TaskStream:
    return build(seeds, **{"rule": "overlapping", "protocol": "task-incremental", "increments": 4, **fields})


def test_each_window_begins_two_classes_after_the_one_before_and_the_last_wraps_around() -> None:
    stream = windows(class_order="natural")
    assert [t.classes for t in stream.tasks] == [
        (0, 1, 2, 3),
        (2, 3, 4, 5),
        (4, 5, 6, 7),
        (6, 7, 8, 9),
        (0, 1, 8, 9),
    ]
    assert [t.name for t in stream.tasks] == [f"classes {k}" for k in range(1, 6)]
    assert stream.tasks[3].class_names == ("6", "7", "8", "9")


@pytest.mark.parametrize(("n_tasks", "increments"), [(5, 3), (5, 10), (2, 6), (10, 2)])
def test_every_class_is_in_as_many_tasks_as_windows_lie_over_it(n_tasks: int, increments: int) -> None:
    stream = windows(n_tasks=n_tasks, increments=increments)
    counts = np.bincount([c for t in stream.tasks for c in t.classes], minlength=10)
    assert counts.sum() == n_tasks * increments and counts.min() >= 1
    assert counts.max() - counts.min() <= 1


def test_all_samples_of_a_shared_class_are_in_both_of_its_tasks_on_the_same_side() -> None:
    tasks = windows(class_order="natural").tasks
    for one, other, shared in ((0, 1, {2, 3}), (3, 4, {8, 9}), (4, 0, {0, 1})):
        for half in ("train", "test"):
            first, second = getattr(tasks[one], half), getattr(tasks[other], half)
            both = set(first.index.tolist()) & set(second.index.tolist())
            in_shared = np.isin(first.labels.numpy(), list(shared))
            assert both == set(first.index[in_shared].tolist()) and in_shared.any()
    train, test = ({int(r) for t in tasks for r in getattr(t, half).index} for half in ("train", "test"))
    assert not train & test and len(train | test) == 1797


def test_the_seed_orders_the_classes_of_the_ring_and_leaves_the_split_alone() -> None:
    base, other = windows(Seeds()), windows(Seeds(order=1))
    assert [t.classes for t in base.tasks] != [t.classes for t in other.tasks]
    rows = [{int(r) for t in stream.tasks for r in t.test.index} for stream in (base, other)]
    assert rows[0] == rows[1]
    assert windows(Seeds(order=1), class_order=7).fingerprint == windows(class_order=7).fingerprint


def test_windows_may_be_listed_and_what_is_in_none_of_them_is_left_out() -> None:
    stream = windows(n_tasks=3, increments=None, class_order=[[9, 0], [0, 1, 2], [5]])
    assert [t.classes for t in stream.tasks] == [(0, 9), (0, 1, 2), (5,)]
    assert {int(c) for t in stream.tasks for c in t.train.labels} == {0, 1, 2, 5, 9}
    assert stream.spec.n_classes == 10


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"increments": 2}, "above n_classes / n_tasks, at most all classes; got n_tasks 5, increments 2"),
        ({"increments": 11}, "increments 11"),
        ({"n_tasks": 1, "increments": 10}, "one number above n_classes / n_tasks"),
        ({"increments": None}, "increments None"),
        ({"increments": [4, 4, 4, 4, 4]}, "as increments one number"),
        ({"n_tasks": 3}, "n_tasks that divides the 10 classes"),
        ({"n_tasks": 20}, "n_tasks that divides the 10 classes"),
        ({"class_order": [[0, 1], [1, 2]]}, "the classes of each of the 5 tasks"),
        ({"class_order": [[0, 1], [1, 10]], "n_tasks": 2}, "different ones within 0..9"),
        ({"class_order": [[0, 1], [1, 1]], "n_tasks": 2}, "different ones"),
        ({"class_order": [[0, 1], []], "n_tasks": 2}, "different ones"),
        ({"class_order": [[0, 1], 2], "n_tasks": 2}, "must list the classes"),
        ({"class_order": [[[0]], [1]], "n_tasks": 2}, "must list the classes"),
        ({"class_order": [[0, 1], [1, 2]], "n_tasks": 2}, "increments is for tasks in a ring"),
        ({"increments": "4"}, "increments '4'"),
        ({"class_order": [0, 1, 2]}, r"permutation of 0\.\.9"),
    ],
)
def test_impossible_windows_are_refused_with_their_reason(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        windows(**fields)


def test_a_run_over_overlapping_tasks_keeps_a_head_for_each(tmp_path: Any) -> None:
    options = ["model=mlp_2x100", "model.head_mode=per_task", "trainer.epochs=2"]
    record = clbench.run("overlapping_digits-v1", "naive", records=tmp_path, overrides=options)
    values = record.matrix().values
    assert values.shape == (6, 5) and not np.isnan(values).any()
    assert np.diag(values[1:]).min() > 0.5 > values[0].mean()


def test_a_card_of_listed_windows_keeps_the_contract_but_for_the_classes_it_leaves_out() -> None:
    ring = [[k, (k + 1) % 10, (k + 2) % 10] for k in range(0, 10, 2)]
    card = {**cards()["overlapping_digits-v1"], "name": "mine-v1", "increments": None, "class_order": ring}
    card["fingerprint"] = Scenario.from_card(card).build(Seeds.of(0), DATA).fingerprint
    assert check(Scenario.from_card(card)).ok
    failed = check(Scenario.from_card({**card, "class_order": ring[:4], "n_tasks": 4})).failed
    assert {"no_class_is_dropped", "no_sample_is_dropped"} <= {outcome.clause for outcome in failed}
