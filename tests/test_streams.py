"""Streams: split rules, random streams, fingerprints."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch

from clbench.cards import Scenario
from clbench.errors import BadInput
from clbench.places import cards
from clbench.seeds import Seeds
from clbench.stream import TaskStream
from tests.toy_streams import build, digits, pixels, scenario

# --- split rules


def test_ten_classes_in_three_tasks_are_four_three_and_three_with_none_dropped() -> None:
    stream = build(n_tasks=3)
    assert [len(t.classes) for t in stream.tasks] == [4, 3, 3]
    assert sorted(c for t in stream.tasks for c in t.classes) == list(range(10))
    assert sum(len(t.train) + len(t.test) for t in stream.tasks) == 1797


def test_explicit_increments_and_a_class_order_from_the_card_are_kept() -> None:
    order = [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]
    stream = build(n_tasks=3, increments=[5, 1, 4], class_order=order)
    assert [t.classes for t in stream.tasks] == [(5, 6, 7, 8, 9), (4,), (0, 1, 2, 3)]
    assert stream.tasks[1].class_names == ("4",)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"increments": [5, 4], "n_tasks": 2}, "sum to the 10 classes"),
        ({"increments": [10, 0], "n_tasks": 2}, "positive"),
        ({"increments": [5, 5], "n_tasks": 3}, "are 2 tasks, but n_tasks is 3"),
        ({"class_order": [0, 1, 2]}, "permutation of 0..9"),
        ({"class_order": [0] * 10}, "permutation of 0..9"),
        ({"n_tasks": 11}, "at most 10"),
        ({"n_tasks": 0}, "at least 1"),
        ({"rule": "clases"}, "did you mean 'classes'"),
        ({"rule": "domain"}, "needs data with domains"),
        ({"rule": "instances", "n_tasks": 100}, "fewer than n_tasks"),
        ({"test_fraction": 1.0}, "between 0 and 1"),
        ({"subset": {"train": 101}}, "multiple of the 10 classes"),
        ({"subset": {"train": 100000}}, "has only"),
        ({"data": {"source": "digit"}}, "did you mean 'digits'"),
        ({"data": {"source": "digits", "size": 3}}, "does not take these options"),
        ({"normalise": {"mean": [0.1, 0.2], "std": [1.0, 1.0]}}, "one per channel"),
    ],
)
def test_an_impossible_card_is_refused_with_its_reason(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        build(**fields)


def test_a_card_with_an_unknown_or_missing_field_or_protocol_names_it() -> None:
    with pytest.raises(BadInput, match="did you mean 'n_tasks'"):
        scenario(n_task=3)
    with pytest.raises(BadInput, match="lacks: name, summary"):
        Scenario.from_card({"protocol": "class-incremental"})
    with pytest.raises(BadInput, match="did you mean 'task-incremental'"):
        scenario(protocol="task-incremental-ish")


def test_permutation_moves_the_same_pixels_of_every_image_and_leaves_the_first_task_alone() -> None:
    stream = build(rule="permutation", n_tasks=3, protocol="domain-incremental")
    first, second, third = (pixels(t) for t in stream.tasks)
    assert not torch.equal(first, second)
    assert not torch.equal(second, third)
    torch.testing.assert_close(first.flatten(1).sort(1).values, second.flatten(1).sort(1).values)
    assert all(torch.equal(t.train.labels, stream.tasks[0].train.labels) for t in stream.tasks)
    columns, moved = first.flatten(1).T, second.flatten(1).T  # a pixel's values over all images move as one
    known = {column.numpy().tobytes() for column in columns}
    assert {column.numpy().tobytes() for column in moved} == known
    assert {column.numpy().tobytes() for column in pixels(stream.tasks[1], "test").flatten(1).T} == {
        column.numpy().tobytes() for column in pixels(stream.tasks[0], "test").flatten(1).T
    }


def test_rotation_turns_by_equal_steps() -> None:
    stream = build(rule="rotation", n_tasks=4, max_degrees=360, protocol="domain-incremental")
    assert [t.name for t in stream.tasks] == ["0 degrees", "90 degrees", "180 degrees", "270 degrees"]
    upright, quarter = pixels(stream.tasks[0]), pixels(stream.tasks[1])
    turned = torch.rot90(upright, 1, dims=(2, 3))
    assert (quarter - turned).abs().mean() < 0.01
    assert len(digits().tasks[0].classes) == 2
    assert stream.tasks[0].classes == tuple(range(10))


def test_instances_deal_all_rows_out_to_tasks_of_the_same_classes() -> None:
    stream = build(rule="instances", n_tasks=4, protocol="domain-incremental")
    rows = np.concatenate([np.concatenate([t.train.index, t.test.index]) for t in stream.tasks])
    assert sorted(rows.tolist()) == list(range(1797))
    for task in stream.tasks:
        assert task.classes == tuple(range(10))
        counts = torch.bincount(task.train.labels)
        assert counts.max() - counts.min() <= 6


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"n_tasks": 3},
        {"rule": "permutation", "protocol": "domain-incremental"},
        {"rule": "rotation", "protocol": "domain-incremental"},
        {"rule": "instances", "protocol": "domain-incremental"},
        {"data": {"source": "mnist5k"}, "subset": {"train": 1000, "test": 500}},
    ],
)
def test_no_training_row_of_any_task_is_a_test_row_of_any(fields: dict[str, Any]) -> None:
    stream = build(**fields)
    train = {int(r) for t in stream.tasks for r in t.train.index}
    test = {int(r) for t in stream.tasks for r in t.test.index}
    assert not train & test
    if fields.get("rule", "classes") in ("classes", "instances"):
        for one, other in combinations(stream.tasks, 2):
            assert not set(one.train.index) & set(other.train.index)
    if "subset" in fields:
        assert (len(train), len(test)) == (1000, 500)


# --- random streams and fingerprints


def split_of(stream: TaskStream) -> tuple[set[int], set[int]]:
    train = {int(r) for t in stream.tasks for r in t.train.index}
    return train, {int(r) for t in stream.tasks for r in t.test.index}


def test_the_order_seed_changes_the_order_of_classes_and_not_the_split_of_rows() -> None:
    base, other = build(Seeds()), build(Seeds(order=1))
    assert [t.classes for t in base.tasks] != [t.classes for t in other.tasks]
    assert split_of(base) == split_of(other)


def test_the_split_seed_changes_the_rows_and_not_the_order_of_classes() -> None:
    base, other = build(Seeds()), build(Seeds(split=1))
    assert [t.classes for t in base.tasks] == [t.classes for t in other.tasks]
    assert split_of(base) != split_of(other)


def test_seeds_of_training_leave_the_stream_alone() -> None:
    assert build(Seeds(init=1, shuffle=2, augment=3, strategy=4)).fingerprint == digits().fingerprint


def test_streams_of_one_seed_are_independent_and_repeat() -> None:
    seeds = Seeds.of(3)
    draws = [seeds.generator(s).random() for s in ("order", "split", "init", "shuffle", "augment", "strategy")]
    assert len(set(draws)) == 6
    assert seeds.generator("shuffle", 1, "train", 2).random() == seeds.generator("shuffle", 1, "train", 2).random()
    assert seeds.generator("shuffle", 1, "train", 2).random() != seeds.generator("shuffle", 1, "fisher", 2).random()
    assert 0 <= seeds.integer("init", "model") < 2**63


def test_building_uses_no_global_random_state() -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index]  # noqa: NPY002
    build(rule="permutation", protocol="domain-incremental")
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()  # type: ignore[index]  # noqa: NPY002


@pytest.mark.parametrize(
    "changed",
    [
        {"test_fraction": 0.3},
        {"n_tasks": 2},
        {"class_order": [2, 1, 0, 3, 4, 5, 6, 7, 8, 9]},
        {"normalise": {"mean": [0.1], "std": [1.0]}},
        {"protocol": "task-incremental"},
        {"rule": "rotation"},
        {"augment": {"crop": 1, "flip": True}},
        {"data": {"source": "mnist5k"}},
    ],
)
def test_the_fingerprint_changes_with_what_is_measured(changed: dict[str, Any]) -> None:
    base: dict[str, Any] = {"class_order": list(range(10))}
    assert build(**{**base, **changed}).fingerprint != build(**base).fingerprint


def test_the_fingerprint_does_not_change_with_prose_and_repeats() -> None:
    assert build(summary="Another.", notes="More.").fingerprint == digits().fingerprint == build().fingerprint


@pytest.mark.parametrize("name", ["split_digits-v1", "permuted_mnist5k-v1"])
def test_an_official_card_gives_the_stream_its_fingerprint_says(name: str) -> None:
    assert Scenario.from_card(cards()[name]).build(Seeds.of(0)).fingerprint == cards()[name]["fingerprint"]
