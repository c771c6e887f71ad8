"""ExSSNeT through every kind and mode of a head, on texts, and as users run it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import clbench
from clbench.compose import compose
from clbench.evaluate import make_query
from clbench.experiment import experiment
from clbench.strategies.exssnet import ExSSNeT
from clbench.strategies.ssnet import SSNeT
from clbench.strategy import Trainer
from tests.real_data import DATA
from tests.toy_exssnet import ADAM, exssnet
from tests.toy_packers import HEADS, assert_nothing_old_changes, logits, split, trained, with_head
from tests.toy_streams import build

DECAY = replace(ADAM, weight_decay=1e-3)


@pytest.mark.parametrize(("kind", "mode"), HEADS)
def test_a_task_is_learnt_through_any_head_and_stays_bit_by_bit(kind: str, mode: str) -> None:
    stream, strategy = split(), exssnet(trainer=replace(DECAY, epochs=5), weight_epochs=5)
    assert_nothing_old_changes(strategy, stream, with_head(kind, mode))
    for task in stream.tasks:
        found = torch.tensor(task.classes)[logits(strategy, stream, task.index).argmax(1)]
        assert float((found == task.test.labels).double().mean()) > 0.8


@pytest.mark.parametrize(("kind", "mode"), [("cosine", "sliced"), ("cosine", "growing"), ("linear", "per_task")])
def test_rows_of_other_tasks_do_not_move(kind: str, mode: str) -> None:
    strategy = exssnet(trainer=DECAY)
    before = torch.empty(0)
    for index in trained(strategy, split(), with_head(kind, mode)):
        head, classes = strategy.model_.head, split().tasks[index - 1].classes
        others = torch.ones(len(head.weight), dtype=torch.bool)
        others[head.rows(classes, index)] = False
        others[len(before) :] = False
        if index > 1:
            assert int(others.sum()) >= 2 and torch.equal(head.weight[others], before[others[: len(before)]])
        before = head.weight.detach().clone()


def test_the_public_command_trains_forgets_nothing_and_loads_back(tmp_path: Path) -> None:
    quick = ["trainer.epochs=3", "strategy.weight_epochs=3", "model.width=100"]
    record = clbench.run("labelled_digits-v1", "exssnet", records=tmp_path, overrides=quick)
    values = record.matrix().values
    assert record.status == "ok"
    assert np.array_equal(values[-1], np.diagonal(values[1:])) and values[-1].mean() > 0.9
    (folder,) = {path.parent for path in tmp_path.rglob("state.safetensors")}
    strategy = clbench.load(folder)
    assert isinstance(strategy, ExSSNeT) and len(strategy.masks_) == 5 and not strategy.scores_
    stream = build(0, protocol="task-incremental", class_order="seed", test_fraction=0.25)
    for index, task in enumerate(stream.tasks, start=1):
        query = make_query("task-incremental", stream.tasks, index, index)
        found = strategy.predict(task.test.take(torch.arange(len(task.test))), query).argmax(1)
        accuracy = (torch.tensor(task.classes)[found] == task.test.labels).double().mean()
        assert float(accuracy) == pytest.approx(values[-1][index - 1], abs=1e-9)


def test_without_task_labels_it_says_why_not(tmp_path: Path) -> None:
    record = clbench.run("permuted_digits-v1", "exssnet", records=tmp_path)
    assert record.status == "skipped" and "label of its task" in str(record.reason)


@pytest.mark.parametrize("name", ["ssnet", "exssnet", "exssnet_kkt"])
def test_the_configured_trainer_is_the_papers_and_the_class_has_the_same(name: str) -> None:
    configured = experiment(compose(["scenario=labelled_digits-v1", f"strategy={name}"])).strategy
    assert isinstance(configured, SSNeT)
    assert configured.trainer == type(configured)().trainer == Trainer(optimizer="adam", lr=0.01, momentum=0.0)
    assert configured.kkt == ("best" if name == "exssnet_kkt" else "none")


def on_questions(strategy: str, folder: Path, *overrides: str) -> NDArray[np.float64]:
    words = ["model.width=100", "keep=false", f"data_dir={DATA}", *overrides]
    record = clbench.run("clinc150_domains-v1", strategy, records=folder, overrides=words)
    assert record.status == "ok", record.reason
    return record.matrix().values


def test_few_questions_of_ten_domains_are_learnt_and_not_forgotten(tmp_path: Path) -> None:
    few = ("scenario.subset={train: 750, test: 300}", "trainer.batch_size=8", "trainer.epochs=6")
    values = on_questions("exssnet", tmp_path, *few)
    assert np.array_equal(values[-1], np.diagonal(values[1:]))
    assert values[-1].mean() > 0.25  # of 15 intents, from 5 questions each


@pytest.mark.slow
def test_on_all_questions_trained_weights_beat_masks_alone_that_are_trained_as_long(tmp_path: Path) -> None:
    both, alone = on_questions("exssnet", tmp_path), on_questions("supsup", tmp_path, "trainer.epochs=20")
    assert both[-1].mean() > 0.85
    assert both[-1].mean() > alone[-1].mean() + 0.3
