"""Clauses on scenarios: a complete card, an honest fingerprint, and streams that leak and lose nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clbench.cards import Scenario
from clbench.checks.clause import NotApplicable, expect
from clbench.checks.trace import random_states
from clbench.data import Source, load_source
from clbench.seeds import Seeds
from clbench.stream import PROTOCOLS, Split, Task, TaskStream

LOOKED_AT = 512  # samples per half whose pixels are looked at; rows and labels are always looked at all


class ScenarioCase:
    """A scenario, the folder of its data, and its stream for seed 0."""

    def __init__(self, scenario: Scenario, data_dir: Path) -> None:
        self.scenario = scenario
        self.data_dir = data_dir

    def build(self, seeds: Seeds | None = None, scenario: Scenario | None = None) -> TaskStream:
        """A stream; the one for seed 0 unless told otherwise."""
        return (scenario or self.scenario).build(seeds or Seeds.of(0), self.data_dir)

    @cached_property
    def stream(self) -> TaskStream:
        """The stream for seed 0."""
        return self.build()

    @cached_property
    def source(self) -> Source:
        """The data behind the stream."""
        return load_source(dict(self.scenario.data), self.data_dir)

    @property
    def halves(self) -> Iterator[tuple[str, Task, Split]]:
        """Every half of every task, with a name for messages."""
        for task in self.stream.tasks:
            yield f"the training half of task {task.index}", task, task.train
            yield f"the test half of task {task.index}", task, task.test


def card_is_complete(case: ScenarioCase) -> None:
    """The card has a versioned name, a summary, a licence, a citation and a protocol, and notes if data are lossy."""
    card = case.scenario
    named = re.fullmatch(r"[a-z0-9][a-z0-9_]*-v\d+", card.name) is not None
    expect(named, "a name like split_digits-v1", repr(card.name), "end the name with its version")
    for field in ("summary", "licence", "citation"):
        text = str(getattr(card, field) or "").strip()
        expect(bool(text), f"a {field} on the card", "none", "say what the data are and whom to thank and ask")
    expect(
        card.protocol in PROTOCOLS, f"one of {sorted(PROTOCOLS)}", repr(card.protocol), "correct the card's protocol"
    )
    lossy = re.search(r"jpe?g", str(dict(card.data)).lower()) is not None
    said = not lossy or "lossy" in card.notes.lower()
    expect(said, "a note that JPEG copies are lossy", repr(card.notes), "say in notes that figures are not comparable")


def fingerprint_is_the_cards(case: ScenarioCase) -> None:
    """The card carries the fingerprint of its stream for seed 0."""
    got = case.stream.fingerprint
    wanted = case.scenario.fingerprint
    expect(
        wanted == got,
        f"fingerprint {wanted} as on the card",
        got,
        "a new card takes it over; a changed one is a new -vN",
    )


def fingerprint_covers_the_content(case: ScenarioCase) -> None:
    """Streams of other rows, labels or pixels have other fingerprints."""
    variants = {
        "another seed": case.build(Seeds.of(1)),
        "another order": case.build(replace(Seeds.of(0), order=1)),
        "another split": case.build(replace(Seeds.of(0), split=1)),
    }
    if case.source.modality == "image":
        normalised = replace(case.scenario, normalise={"mean": [0.25], "std": [2.0]})
        variants["another normalisation"] = case.build(scenario=normalised)
    for how, other in variants.items():
        told = other.fingerprint != case.stream.fingerprint or _same(case.stream, other)
        expect(told, f"another fingerprint for {how}", "the same one", "hash rows, labels and transform parameters")
        for mine, theirs in zip(case.stream.tasks, other.tasks, strict=False):
            told = mine.fingerprint != theirs.fingerprint or _same_task(mine, theirs)
            expect(
                told, f"another fingerprint of task {mine.index} for {how}", "the same one", "hash what the task holds"
            )


def same_seed_gives_the_same_stream(case: ScenarioCase) -> None:
    """Building twice with the same seeds gives the same fingerprint, rows, labels and pixels."""
    again = case.build()
    same = again.fingerprint == case.stream.fingerprint
    expect(same, "the same fingerprint", again.fingerprint, "draw from seeds.generator() only")
    expect(_same(case.stream, again), "the same samples", "others", "draw from seeds.generator() only")


def another_seed_gives_another_stream(case: ScenarioCase) -> None:
    """Building with other seeds gives other rows, order or transforms, unless nothing is drawn at all."""
    card = case.scenario
    fixed = dict.fromkeys(("classes", "overlapping"), card.class_order)
    fixed |= dict.fromkeys(("groups", "domain"), card.domain_order)
    drawn = fixed.get(card.rule, "seed") == "seed"
    if case.source.is_test is not None and not card.subset and not drawn:
        raise NotApplicable("official split, no subset and a fixed order: the seed decides nothing")
    differ = not _same(case.stream, case.build(Seeds.of(1)))
    expect(differ, "another stream for another seed", "the same one", "use the seeds that build() is given")


def building_leaves_random_state_alone(case: ScenarioCase) -> None:
    """Building a stream does not touch the global random states."""
    before = random_states()
    case.build()
    expect(random_states() == before, "global random states as they were", "others", "draw from seeds.generator() only")


def train_and_test_are_disjoint(case: ScenarioCase) -> None:
    """No source row is trained on in one task and tested on in this or any other."""
    train = np.concatenate([t.train.index for t in case.stream.tasks])
    test = np.concatenate([t.test.index for t in case.stream.tasks])
    both = np.intersect1d(train, test)
    expect(
        not len(both),
        "no row in both halves",
        f"{len(both)} rows, the first {both[:3].tolist()}",
        "split before tasks are made",
    )


def no_class_is_dropped(case: ScenarioCase) -> None:
    """Every class of the source occurs in some task; where the rule deals out classes, in one task only."""
    listed = [c for task in case.stream.tasks for c in task.classes]
    missing = sorted(set(np.unique(case.source.y).tolist()) - set(listed))
    expect(
        not missing, "every class of the source in a task", f"none of classes {missing}", "deal out the remainder too"
    )
    if case.scenario.rule in ("classes", "groups"):
        twice = sorted({c for c in listed if listed.count(c) > 1})
        expect(not twice, "each class in one task", f"classes {twice} in several", "make the tasks' classes disjoint")


def no_sample_is_dropped(case: ScenarioCase) -> None:
    """Every source row, or as many as the card's subset says, is in the stream, and only once in a task."""
    for what, _, half in case.halves:
        once = len(np.unique(half.index)) == len(half)
        expect(once, f"each row once in {what}", "some rows twice", "list every row once")
    subset = dict(case.scenario.subset or {})
    rows = {name: _rows(case.stream, name) for name in ("train", "test")}
    is_test = case.source.is_test
    total = sum(len(np.unique(r)) for r in rows.values())
    if not subset:
        expect(
            total == len(case.source), f"all {len(case.source)} rows of the source", total, "deal out the remainder too"
        )
    for name, size in ((k, v) for k, v in subset.items() if k != "rows"):
        kept = len(np.unique(rows[name]))
        expect(kept == int(size), f"{size} rows in the {name} halves", kept, "keep as many rows as the subset says")
    if is_test is not None:
        expect(bool(is_test[rows["test"]].all()), "the official test rows", "others", "keep to the official split")
        expect(not is_test[rows["train"]].any(), "the official training rows", "others", "keep to the official split")


def labels_match_the_classes(case: ScenarioCase) -> None:
    """Labels are those of the source rows, and each of a task's classes occurs in both of its halves, no other does."""
    for what, task, half in case.halves:
        y = half.labels.numpy()
        same = bool((y == case.source.y[half.index]).all())
        expect(same, f"the source's labels in {what}", "others", "take labels by row")
        expect(sorted(task.classes) == list(task.classes), "sorted classes", task.classes, "sort them")
        present = np.unique(y).tolist()
        expect(
            present == list(task.classes),
            f"classes {list(task.classes)} in {what}",
            present,
            "name the classes there are",
        )
    for number, task in enumerate(case.stream.tasks, start=1):
        names = tuple(case.source.class_names[c] for c in task.classes)
        expect(task.class_names == names, f"class names {names}", task.class_names, "keep names parallel to classes")
        expect(task.index == number, f"index {number}", task.index, "count tasks from 1")
    wanted, got = case.scenario.n_tasks, len(case.stream)
    expect(got == wanted, f"{wanted} tasks as on the card", got, "make as many tasks as n_tasks says")


def inputs_match_the_spec(case: ScenarioCase) -> None:
    """Inputs have the names and shapes of the stream's spec; images are float32 and finite, texts bytes."""
    wanted = torch.float32 if case.stream.spec.modality == "image" else torch.uint8
    shapes = {name: tuple(shape) for name, shape in case.stream.spec.inputs.items()}
    for what, _, half in case.halves:
        inputs = half.take(_spread(half))
        got = {name: tuple(x.shape[1:]) for name, x in inputs.items()}
        expect(got == shapes, f"inputs {shapes} in {what}", got, "give every sample the shape in the spec")
        for name, x in inputs.items():
            expect(x.dtype == wanted, f"{wanted} values of '{name}' in {what}", x.dtype, "scale pixels, encode texts")
            wrong = int((~torch.isfinite(x)).sum())
            expect(
                not wrong, f"finite values of '{name}' in {what}", f"{wrong} that are not", "look for a division by 0"
            )


def reading_changes_nothing(case: ScenarioCase) -> None:
    """Reading the same rows twice gives the same values, even where the first ones were written into."""
    for what, _, half in case.halves:
        rows = _spread(half)[:64]
        first = half.take(rows)
        kept = {name: x.clone() for name, x in first.items()}
        for x in first.values():
            x.add_(1)
        second = half.take(rows)
        same = all(torch.equal(kept[name], second[name]) for name in kept)
        expect(
            same,
            f"the same values at the second reading of {what}",
            "others",
            "hand out copies, draw nothing while reading",
        )


def _spread(half: Split) -> Tensor:
    return torch.linspace(0, len(half) - 1, min(len(half), LOOKED_AT)).long()


def _rows(stream: TaskStream, half: str) -> NDArray[np.int64]:
    return np.concatenate([getattr(task, half).index for task in stream.tasks])


def _same(a: TaskStream, b: TaskStream) -> bool:
    return len(a) == len(b) and a.spec == b.spec and all(map(_same_task, a.tasks, b.tasks))


def _same_task(a: Task, b: Task) -> bool:
    for x, y in ((a.train, b.train), (a.test, b.test)):
        if not np.array_equal(x.index, y.index) or not torch.equal(x.labels, y.labels):
            return False
        left, right = x.take(_spread(x)), y.take(_spread(y))
        if left.keys() != right.keys() or not all(torch.equal(left[k], right[k]) for k in left):
            return False
    return a.classes == b.classes
