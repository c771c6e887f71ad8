"""ADAM and EASE: two branches, subspaces, completed prototypes, and what never changes after the first task."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from clbench.backbones.backbone import Filling
from clbench.checks.streams import fresh_stream, small_model
from clbench.compose import compose
from clbench.errors import BadInput
from clbench.experiment import experiment
from clbench.features import with_features
from clbench.loop import prepare, run, train_one
from clbench.models import Features
from clbench.places import names, read_yaml
from clbench.seeds import Seeds
from clbench.state import load_state, save_state
from clbench.strategies.adam import ADAM
from clbench.strategies.ease import EASE, complete
from clbench.strategies.ranpac_tuned import TunedRanPAC
from clbench.strategies.simplecil import SimpleCIL
from clbench.strategy import Strategy
from clbench.stream import Inputs, ProtocolName, Query, TaskStream
from clbench.tuning import Tune
from tests.few_images import few_images
from tests.real_data import DATA

CPU, SEEDS = torch.device("cpu"), Seeds.of(0)
ALL = Query(None, tuple(range(10)), ())
QUICK: dict[str, Any] = {"epochs": 2, "lr": 0.05}
SETTING: dict[Tune, Any] = {"batch_norm": "convolutional", "finetune": "convolutional"}


@cache
def stream(setting: Any = "transformer", protocol: ProtocolName = "class-incremental") -> TaskStream:
    return fresh_stream(protocol, setting=setting)


def started(strategy: Any, source: TaskStream, model: Any = small_model) -> TaskStream:
    torch.set_num_threads(1)
    return prepare(strategy, model, source, SEEDS, CPU)


def learnt(strategy: Any, source: TaskStream, n_tasks: int = 3, model: Any = small_model) -> Any:
    read = started(strategy, source, model)
    for index in range(1, n_tasks + 1):
        train_one(strategy, read, index, SEEDS, CPU)
    return strategy


def probe(source: TaskStream, n: int = 60) -> Inputs:
    """Test samples of all tasks."""
    parts = [task.test.take(torch.arange(n)) for task in source.tasks]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def ranpac() -> TunedRanPAC:
    return TunedRanPAC(n_projections=50, **QUICK)


def parameters(strategy: Any) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in strategy.model_.state_dict().items()}


@pytest.mark.parametrize("tune", ["finetune", "vpt_deep", "ssf", "adapter", "batch_norm"])
def test_features_are_those_of_the_frozen_network_and_then_of_the_tuned_one(tune: Tune) -> None:
    source = stream(SETTING.get(tune, "transformer"))
    strategy, simple = learnt(ADAM(tune=tune, **QUICK), source), learnt(SimpleCIL(), source, model=Features)
    means, frozen, n = strategy.means_.means(), simple.means_.means(), strategy.model_.n_features
    assert means.shape == (10, 2 * n)
    assert torch.equal(means[:, :n], frozen), "the frozen half is SimpleCIL's bit by bit"
    asked = probe(source)
    with torch.no_grad():
        tuned = strategy.model_.features(asked)
    assert torch.allclose(strategy.branches()["tuned"](asked), tuned, atol=1e-5)
    assert not torch.allclose(tuned, asked["features"], atol=1e-4)
    both = F.normalize(torch.cat([asked["features"], tuned], dim=1).double(), dim=1)
    wanted = both @ F.normalize(means, dim=1).T
    assert torch.allclose(strategy.predict(asked, ALL).double(), wanted, atol=1e-5)


@pytest.mark.parametrize("tune", ["adapter", "finetune", "batch_norm"])
def test_without_a_training_step_predictions_are_those_of_simplecil(tune: Tune) -> None:
    source = stream(SETTING.get(tune, "transformer"))
    asked = probe(source)
    strategy = learnt(ADAM(tune=tune, epochs=0), source)
    simple = learnt(SimpleCIL(), source, model=Features)
    assert torch.allclose(strategy.predict(asked, ALL).double(), simple.predict(asked, ALL).double(), atol=1e-5)
    assert torch.equal(strategy.predict(asked, ALL).argmax(1), simple.predict(asked, ALL).argmax(1))


@pytest.mark.parametrize("tune", ["finetune", "vpt_shallow", "ssf", "adapter", "batch_norm"])
def test_after_the_first_task_no_parameter_changes_by_a_bit(tune: Tune) -> None:
    source = stream(SETTING.get(tune, "transformer"))
    strategy: Any = ADAM(tune=tune, **QUICK)
    read = started(strategy, source)
    untrained = parameters(strategy)
    train_one(strategy, read, 1, SEEDS, CPU)
    tuned = parameters(strategy)
    assert any(not torch.equal(v, untrained[k]) for k, v in tuned.items())
    assert not any(p.requires_grad for p in strategy.model_.network.parameters())
    branch = strategy.branches()["tuned"](probe(source))
    for index in (2, 3):
        counts = train_one(strategy, read, index, SEEDS, CPU)
        assert counts["samples"] == len(read.tasks[index - 1].train), "one pass for the means"
    assert all(torch.equal(v, tuned[k]) for k, v in parameters(strategy).items())
    assert torch.equal(strategy.branches()["tuned"](probe(source)), branch)


@pytest.mark.parametrize("make", [lambda: ADAM(**QUICK), lambda: EASE(**QUICK), ranpac], ids=["ADAM", "EASE", "RanPAC"])
def test_with_branches_handed_out_answers_are_those_without(make: Any) -> None:
    strategy = learnt(make(), stream())
    asked = probe(stream())
    branches = {name: branch(asked) for name, branch in strategy.branches().items()}
    assert len(branches) == (3 if isinstance(strategy, EASE) else 1)
    assert torch.allclose(strategy.predict({**asked, **branches}, ALL), strategy.predict(asked, ALL), atol=1e-6)
    given = {name: torch.randn_like(features) for name, features in branches.items()}
    assert not torch.allclose(strategy.predict({**asked, **given}, ALL), strategy.predict(asked, ALL), atol=1e-2)


@pytest.mark.parametrize(
    "make", [lambda: ADAM(tune="vpt_deep", **QUICK), lambda: EASE(**QUICK), ranpac], ids=["ADAM", "EASE", "RanPAC"]
)
def test_a_saved_strategy_goes_on_as_the_one_that_saved_it(make: Any, tmp_path: Path) -> None:
    first = learnt(make(), stream(), n_tasks=2)
    save_state(tmp_path / "state", first.state_dict())
    second: Any = make()
    read = prepare(second, small_model, stream(), Seeds.of(5), CPU)
    second.load_state_dict(load_state(tmp_path / "state"))
    for strategy in (first, second):
        train_one(strategy, read, 3, SEEDS, CPU)
    assert torch.equal(first.predict(probe(stream()), ALL), second.predict(probe(stream()), ALL))


@pytest.mark.parametrize("protocol", ["class-incremental", "task-incremental", "domain-incremental"])
@pytest.mark.parametrize("make", [lambda: ADAM(tune="ssf", epochs=1), lambda: EASE(module="ssf", epochs=1)])
def test_every_protocol_is_learnt_on_a_convolutional_network(make: Any, protocol: ProtocolName) -> None:
    strategy = make()
    read = started(strategy, stream("convolutional", protocol))
    scores = run(strategy, read, SEEDS, CPU).accuracy.values
    assert scores[1, 0] > 0.6 and np.isfinite(scores).all()


def test_the_first_subspace_alone_is_a_prototype_classifier() -> None:
    strategy = learnt(EASE(**QUICK), stream(), n_tasks=1)
    data = stream().tasks[0].train
    given, asked = data.take(torch.arange(len(data))), probe(stream())
    with torch.no_grad():
        features, found = (strategy.branches()["subspace_1"](x) for x in (given, asked))
    classes = stream().tasks[0].classes
    means = torch.stack([features[data.labels == c].double().mean(0) for c in classes])
    wanted = F.normalize(found.double(), dim=1) @ F.normalize(means, dim=1).T
    assert torch.allclose(strategy.predict(asked, Query(None, classes, ())).double(), wanted, atol=1e-5)


def test_old_subspaces_stay_and_only_small_modules_are_kept_of_each() -> None:
    strategy: Any = EASE(**QUICK)
    read = started(strategy, stream())
    plain = {k: v for k, v in parameters(strategy).items() if ".adapter." not in k}
    asked = probe(stream())
    before: list[Tensor] = []
    for index in (1, 2, 3):
        train_one(strategy, read, index, SEEDS, CPU)
        found = [branch(asked) for branch in strategy.branches().values()]
        assert len(found) == index
        assert all(torch.equal(old, new) for old, new in zip(before, found, strict=False))
        before = found
    assert not torch.allclose(before[0], before[1], atol=1e-4)
    now = parameters(strategy)
    assert all(torch.equal(v, now[k]) for k, v in plain.items())
    assert all({f"network.{k}" for k in kept} == set(now) - set(plain) for kept in strategy.subspaces_)


def test_old_prototypes_are_completed_by_a_softmax_over_new_classes() -> None:
    drawn = torch.Generator().manual_seed(0)
    old, new = (torch.randn(*shape, generator=drawn) for shape in ((2, 5, 8), (3, 4, 8)))
    owners = torch.tensor([0, 0, 1, 1, 1])
    found = complete(old, owners, new)
    for i in range(5):  # as the paper writes it
        o = int(owners[i])
        cosines = torch.stack([F.cosine_similarity(old[o, i], new[o, j], dim=0) for j in range(4)])
        weights = cosines.exp() / cosines.exp().sum()
        assert torch.allclose(found[i], sum(w * p for w, p in zip(weights, new[2], strict=True)), atol=1e-6)
    single = complete(old, owners, new[:, :1])
    assert torch.allclose(single, new[2, :1].expand(5, -1)), "with one new class each is that one"
    alike = complete(old, owners, torch.cat([new[:2], torch.ones(1, 4, 8)]))
    assert torch.allclose(alike, torch.ones(5, 8)), "weights sum to 1: of equal new means each is that mean"


def test_with_alpha_zero_a_class_is_scored_in_its_own_subspace_only() -> None:
    strategy = learnt(EASE(alpha=0.0, **QUICK), stream())
    asked = probe(stream())
    scores = strategy.predict(asked, ALL)
    for number, (branch, task) in enumerate(zip(strategy.branches().values(), stream().tasks, strict=True)):
        own = F.normalize(strategy.prototypes_[number][strategy.owners_ == number], dim=1)
        wanted = F.normalize(branch(asked), dim=1) @ own.T
        assert torch.allclose(scores[:, list(task.classes)], wanted, atol=1e-6)


def test_mean_and_sum_of_the_other_subspaces_agree_up_to_two_tasks_and_not_beyond() -> None:
    mean, added = learnt(EASE(**QUICK), stream(), 2), learnt(EASE(others="sum", **QUICK), stream(), 2)
    asked = probe(stream())
    assert torch.equal(mean.predict(asked, ALL), added.predict(asked, ALL))
    for strategy in (mean, added):
        train_one(strategy, stream(), 3, SEEDS, CPU)
    halved = learnt(EASE(others="sum", alpha=0.05, **QUICK), stream(), 3)
    assert not torch.equal(mean.predict(asked, ALL), added.predict(asked, ALL))
    assert torch.allclose(mean.predict(asked, ALL), halved.predict(asked, ALL), atol=1e-6)


def test_ranpac_s_first_phase_is_adam_s_and_its_features_are_those_of_the_tuned_network_alone() -> None:
    source = stream()
    adam = learnt(ADAM(tune="ssf", **QUICK), source)
    strategy = learnt(TunedRanPAC(tune="ssf", n_projections=100, **QUICK), source)
    wanted = adam.branches()["tuned"](probe(source))
    assert torch.equal(strategy.branches()["tuned"](probe(source)), wanted)
    hidden = F.relu(wanted.double() @ strategy.projection_.double())
    assert strategy.projection_.shape == (strategy.model_.n_features, 100)
    assert torch.allclose(strategy.predict(probe(source), ALL), hidden @ strategy.weights_.T)


@pytest.mark.parametrize("make", [ADAM, EASE, TunedRanPAC])
def test_a_model_without_a_network_is_refused(make: type[Strategy]) -> None:
    with pytest.raises(BadInput, match=r"give model=pretrained and a backbone with a network"):
        started(make(), stream(), Features)


def test_what_ease_does_not_know_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(BadInput, match="did you mean 'adapter'"):
        started(EASE(module="adaptor"), stream())  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="did you mean 'mean'"):
        started(EASE(others="means"), stream())  # type: ignore[arg-type]


def test_the_configurations_are_the_authors() -> None:
    long = {"epochs": 20, "lr": 0.01, "batch_size": 48, "weight_decay": 5e-4}
    wanted: dict[str, dict[str, Any]] = {
        "adam_finetune": {**long, "tune": "finetune", "epochs": 5, "batch_size": 128},
        "adam_adapter": {**long, "tune": "adapter", "bottleneck": 64},
        "adam_ssf": {**long, "tune": "ssf"},
        "adam_vpt_shallow": {**long, "tune": "vpt_shallow", "n_tokens": 5, "token_init": "zero"},
        "adam_vpt_deep": {
            **{"tune": "vpt_deep", "n_tokens": 5, "token_init": "zero"},
            **{"epochs": 5, "lr": 0.05, "batch_size": 16, "weight_decay": 5e-4},
        },
        "adam_batch_norm": {"tune": "batch_norm", "epochs": 10, "batch_size": 128},  # no gradient, so no lr
        "ease": {**long, "module": "adapter", "bottleneck": 16, "alpha": 0.1, "others": "mean"},
        "ranpac_tuned": {**long, "tune": "adapter"},
    }
    found = {name: read_yaml(path) for name, path in names("strategy").items()}
    assert {name for name in found if name.startswith("adam_")} <= set(wanted)
    assert {name: {key: found[name][key] for key in settings} for name, settings in wanted.items()} == wanted


@pytest.mark.parametrize("words", [["adam_ssf"], ["adam_batch_norm"], ["ease", "strategy.module=ssf"]])
def test_photographs_are_learnt_with_lite0(words: list[str], tmp_path: Path) -> None:
    options = [*few_images(tmp_path), f"strategy={words[0]}", *words[1:], "strategy.epochs=1", "backbone=lite0"]
    exp = experiment(compose([*options, f"data_dir={DATA}"]))
    source = with_features(exp.scenario.build(exp.seeds, exp.data_dir), exp.backbone, Filling(CPU))  # type: ignore[arg-type]
    read = started(exp.strategy, source, exp.make_model)
    scores = run(exp.strategy, read, exp.seeds, CPU).accuracy.values
    assert scores[1, 0] > 0.7 and scores[-1].mean() > 0.4
