"""The bridge to Avalanche and the declaration that lets torchvision be imported."""

from __future__ import annotations

import random
import subprocess
import sys
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from clbench.avalanche import as_avalanche, run_avalanche
from clbench.cards import Scenario
from clbench.errors import BadInput
from clbench.loop import prepare, run
from clbench.matrix import ScoreMatrix
from clbench.models import MLP
from clbench.places import cards
from clbench.seeds import Seeds
from clbench.strategies.naive import Naive
from clbench.strategy import Trainer
from clbench.stream import StreamSpec, TaskStream

# No momentum: with .9, Avalanche's loss over classes that never came before kills units when a task begins.
EPOCHS, BATCH, LR, MOMENTUM = 8, 32, 0.1, 0.0
pytestmark = [
    pytest.mark.xdist_group("avalanche"),  # its import takes seconds: once
    pytest.mark.filterwarnings("ignore:No loggers specified"),
    pytest.mark.filterwarnings("ignore:Call to deprecated function update"),
]


@cache
def digits(name: str = "split_digits-v1", **changes: Any) -> TaskStream:
    return Scenario.from_card({**cards()[name], "fingerprint": None, **changes}).build(Seeds.of(0))


def their_strategy(name: str, spec: StreamSpec, **options: Any) -> Any:
    import avalanche.training.supervised as supervised
    from avalanche.training.plugins import EvaluationPlugin

    body = [nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU()]
    model = nn.Sequential(*body, nn.Linear(64, spec.n_classes or 0))
    return getattr(supervised, name)(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=BATCH,
        eval_mb_size=BATCH,
        train_epochs=EPOCHS,
        evaluator=EvaluationPlugin(loggers=[]),
        **options,
    )


@cache
def theirs(name: str, **options: Any) -> ScoreMatrix:
    return run_avalanche(lambda spec: their_strategy(name, spec, **options), digits(), Seeds.of(0))


def test_avalanches_naive_forgets_and_its_replay_remembers() -> None:
    naive, replay = theirs("Naive").values, theirs("Replay", mem_size=200).values
    assert naive.shape == replay.shape == (6, 5)
    assert 0.1 < naive[5].mean() < 0.3  # the last of five tasks and nothing else
    assert replay[5].mean() > 0.7
    assert (np.diag(naive[1:]) > 0.9).all()


def test_row_zero_scores_the_untrained_model_of_the_seed() -> None:
    naive, replay = theirs("Naive").values, theirs("Replay", mem_size=200).values
    np.testing.assert_array_equal(naive[0], replay[0])
    assert naive[0].mean() < 0.6  # up to ten candidates, and nothing learned


def test_naive_of_clbench_and_of_avalanche_agree() -> None:
    """Same rows, network, optimiser and batch size; order of batches and initial weights differ, and Avalanche's
    loss lets classes to come compete. Both learn each pair of digits and end with the last pair: 1/5 correct.
    """
    strategy = Naive(trainer=Trainer(epochs=EPOCHS, batch_size=BATCH, lr=LR, momentum=MOMENTUM))
    cpu = torch.device("cpu")
    prepare(strategy, lambda spec: MLP(spec, width=64), digits(), Seeds.of(0), cpu)
    ours = run(strategy, digits(), Seeds.of(0), cpu).accuracy.values
    naive = theirs("Naive").values
    assert abs(ours[5].mean() - naive[5].mean()) < 0.04
    np.testing.assert_allclose(np.diag(ours[1:]), np.diag(naive[1:]), atol=0.06)


def test_the_same_seed_gives_the_same_matrix_and_the_global_random_state_stays() -> None:
    torch.manual_seed(11)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # type: ignore[index]  # noqa: NPY002
    again = run_avalanche(lambda spec: their_strategy("Naive", spec), digits(), Seeds.of(0))
    np.testing.assert_array_equal(again.values, theirs("Naive").values)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert (np.random.get_state()[1] == before[2]).all()  # type: ignore[index]  # noqa: NPY002


def test_building_a_benchmark_leaves_the_global_random_state_alone() -> None:
    before = torch.get_rng_state()
    as_avalanche(digits())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("n_tasks", [3, 5])
def test_every_class_and_sample_arrives_whatever_the_number_of_tasks(n_tasks: int) -> None:
    stream = digits(n_tasks=n_tasks)
    benchmark = as_avalanche(stream)
    for half, experiences in (("train", benchmark.train_stream), ("test", benchmark.test_stream)):
        assert len(experiences) == n_tasks
        for task, experience in zip(stream.tasks, experiences, strict=True):
            assert isinstance(experience.classes_in_this_experience, list)
            assert sorted(experience.classes_in_this_experience) == list(task.classes)
            assert len(experience.dataset) == len(getattr(task, half))
            x, y, *_ = experience.dataset[0]
            split = getattr(task, half)
            assert y == int(split.labels[0])
            assert torch.equal(x, split.take(torch.tensor([0]))["image"][0])


def test_task_labels_are_given_under_task_incremental_only() -> None:
    labels = [e.task_label for e in as_avalanche(digits("labelled_digits-v1")).train_stream]
    assert labels == [0, 1, 2, 3, 4]
    assert {e.task_label for e in as_avalanche(digits()).train_stream} == {0}


def test_a_growing_and_a_multi_head_model_are_scored_without_being_changed() -> None:
    from avalanche.models import IncrementalClassifier, as_multitask
    from avalanche.training.plugins import EvaluationPlugin
    from avalanche.training.supervised import Naive as TheirNaive

    def make(spec: StreamSpec) -> Any:
        model: Any = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU())
        if spec.protocol == "task-incremental":
            model.add_module("classifier", nn.Linear(64, 10))
            model = as_multitask(model, "classifier")
        else:
            model.add_module("classifier", IncrementalClassifier(64, 2))
        options: Any = {"train_mb_size": 32, "eval_mb_size": 32, "train_epochs": EPOCHS}
        sgd = torch.optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM)
        made.append(TheirNaive(model=model, optimizer=sgd, evaluator=EvaluationPlugin(loggers=[]), **options))
        return made[-1]

    made: list[Any] = []
    growing = run_avalanche(make, digits(), Seeds.of(0)).values
    assert (np.diag(growing[1:]) > 0.85).all()
    assert (growing[5, :4] == 0).all()
    with torch.random.fork_rng():  # the same training without a single question gives the same weights
        torch.manual_seed(Seeds.of(0).integer("init", "model"))
        unasked = make(digits().spec)
        for number, experience in enumerate(as_avalanche(digits()).train_stream, start=1):
            torch.manual_seed(Seeds.of(0).integer("shuffle", "avalanche", number))
            unasked.train(experience)
    for asked, other in zip(made[0].model.parameters(), unasked.model.parameters(), strict=True):
        assert torch.equal(asked, other)
    labelled = run_avalanche(make, digits("labelled_digits-v1"), Seeds.of(0)).values
    assert labelled[5].mean() > 0.85  # one head per task: little is forgotten


def test_augmented_cards_and_several_inputs() -> None:
    stream = digits(augment=None)
    noisy = replace(stream, augment=lambda images, rng: images + float(rng.random()))
    first = as_avalanche(noisy, Seeds.of(0)).train_stream[0].dataset[0][0]
    again = as_avalanche(noisy, Seeds.of(0)).train_stream[0].dataset[0][0]
    plain = as_avalanche(stream).train_stream[0].dataset[0][0]
    assert torch.equal(first, again)
    assert not torch.equal(first, plain)
    tests = [as_avalanche(each).test_stream[0].dataset.eval()[0][0] for each in (noisy, stream)]
    assert torch.equal(*tests)
    two = replace(stream, spec=replace(stream.spec, inputs={"image": (1, 8, 8), "row": (3,)}))
    with pytest.raises(BadInput, match="one input"):
        as_avalanche(two)


def test_without_avalanche_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "avalanche.benchmarks", None)
    with pytest.raises(BadInput, match="pip install avalanche-lib"):
        as_avalanche(digits())


def in_fresh_process(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("module", ["clbench", "clbench.cli", "clbench.session", "clbench.avalanche"])
def test_importing_clbench_imports_neither_avalanche_nor_torchvision(module: str) -> None:
    code = f"import sys, {module}; print({{'avalanche', 'torchvision'}} & set(sys.modules) or 'neither')"
    assert in_fresh_process(code) == "neither"


def test_torchvision_can_be_imported_once_its_schemas_are_declared_however_often() -> None:
    code = """
from clbench.torchvision_schemas import declare_torchvision_schemas as declare
first, second = declare(), declare()
assert first is second
import torchvision, torchvision.transforms.v2
declare.cache_clear()
assert declare() is None  # never a second definition, even for one who forgot the first
print(torchvision.__name__)
"""
    assert in_fresh_process(code) == "torchvision"


def test_without_torchvision_nothing_is_declared() -> None:
    code = """
import importlib.util, torch
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == 'torchvision' else find(name, *rest)
from clbench.torchvision_schemas import declare_torchvision_schemas as declare
print(declare(), hasattr(torch.ops.torchvision, 'nms'))
"""
    assert in_fresh_process(code) == "None False"
