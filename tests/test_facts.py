"""One fact from each method's paper, visible on real data; and the exact properties a method claims."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from clbench.cards import Scenario
from clbench.compose import compose
from clbench.experiment import experiment
from clbench.loop import RunResult, prepare, run, train_one
from clbench.matrix import ScoreMatrix
from clbench.metrics import metric
from clbench.places import cards
from clbench.seeds import Seeds
from clbench.strategies.agem import AGEM
from clbench.strategies.ewc import EWC
from clbench.strategies.icarl import herd
from clbench.strategies.si import SI
from clbench.strategy import Trainer
from clbench.stream import Batch, Query, TaskView

ACCURACY, FORGETTING = "average_accuracy.gem2017", "forgetting.rwalk2018"
SPLIT, LABELLED, PERMUTED = "split_digits-v1", "labelled_digits-v1", "permuted_digits-v1"
CPU = torch.device("cpu")


@functools.cache
def result(scenario: str, strategy: str, seed: int, *overrides: str) -> RunResult:
    exp = experiment(compose([f"scenario={scenario}", f"strategy={strategy}", f"seed={seed}", *overrides]))
    stream = exp.scenario.build(exp.seeds)
    torch.set_num_threads(1)
    prepare(exp.strategy, exp.make_model, stream, exp.seeds, CPU)
    return run(exp.strategy, stream, exp.seeds, CPU)


def mean(id: str, scenario: str, strategy: str, *overrides: str, seeds: Sequence[int] = (0, 1)) -> float:
    return float(np.mean([metric(id)(result(scenario, strategy, s, *overrides).accuracy) for s in seeds]))


def test_naive_answers_with_the_last_task_only() -> None:
    assert mean(ACCURACY, SPLIT, "naive") == pytest.approx(0.2, abs=0.02)
    assert mean(FORGETTING, SPLIT, "naive") > 0.8


@pytest.mark.parametrize("strategy", ["replay", "replay_balanced", "derpp", "er_ace", "gdumb", "icarl"])
def test_a_memory_of_200_samples_prevents_most_forgetting(strategy: str) -> None:
    assert mean(ACCURACY, SPLIT, strategy) > 0.7
    assert mean(FORGETTING, SPLIT, strategy) < mean(FORGETTING, SPLIT, "naive") - 0.5


@pytest.mark.parametrize("strategy", ["ewc", "ewc_online", "si", "agem", "replay"])
def test_regularised_and_replayed_networks_forget_less_than_naive_on_permuted_digits(strategy: str) -> None:
    five = "scenario.n_tasks=5"
    assert mean(FORGETTING, PERMUTED, strategy, five) < mean(FORGETTING, PERMUTED, "naive", five) - 0.05


def test_lwf_keeps_what_it_learned_where_tasks_are_told() -> None:
    assert mean(FORGETTING, LABELLED, "lwf") < mean(FORGETTING, LABELLED, "naive")


def test_er_ace_disturbs_old_classes_less_than_plain_replay() -> None:
    assert mean(FORGETTING, SPLIT, "er_ace") < mean(FORGETTING, SPLIT, "replay")


def test_dark_knowledge_helps_beyond_replay() -> None:
    assert mean(ACCURACY, SPLIT, "derpp") > mean(ACCURACY, SPLIT, "replay")


def test_the_nearest_exemplar_mean_beats_the_network_head_of_the_same_icarl_model() -> None:
    exp = experiment(compose([f"scenario={SPLIT}", "strategy=icarl"]))
    stream = exp.scenario.build(exp.seeds)
    prepare(exp.strategy, exp.make_model, stream, exp.seeds, CPU)
    by_mean = run(exp.strategy, stream, exp.seeds, CPU).accuracy.values[-1].mean()
    model = exp.strategy.model_
    query = Query(None, tuple(range(10)), ())
    with torch.no_grad():
        scores = [model.scores(t.test.take(torch.arange(len(t.test))), query) for t in stream.tasks]
    hits = [(s.argmax(1) == t.test.labels).float().mean().item() for s, t in zip(scores, stream.tasks, strict=True)]
    assert by_mean > np.mean(hits)


def test_the_references_bound_the_others() -> None:
    assert mean(ACCURACY, SPLIT, "joint") > 0.95
    assert mean(ACCURACY, SPLIT, "cumulative") > mean(ACCURACY, SPLIT, "replay")


def test_independent_models_with_task_labels_forget_exactly_nothing() -> None:
    matrix = result(LABELLED, "independent", 0).accuracy
    assert metric(FORGETTING)(matrix) == 0.0
    assert np.array_equal(matrix.values[-1], np.diagonal(matrix.trained))


def test_joint_is_measured_after_the_last_task_only() -> None:
    values = result(SPLIT, "joint", 0).accuracy.values
    assert np.isnan(values[1:-1]).all()
    assert not np.isnan(values[[0, -1]]).any()


def test_class_incremental_and_task_masked_scores_come_from_one_run() -> None:
    outcome = result(SPLIT, "replay", 0)
    below = np.tril(np.ones((5, 5), dtype=bool))
    assert (outcome.task_masked.trained[below] >= outcome.accuracy.trained[below]).all()
    assert outcome.task_masked.values[-1].mean() > outcome.accuracy.values[-1].mean() + 0.02


class Watched(AGEM):
    """A-GEM that notes the angle between its final gradient and the memory's."""

    def after_backward(self, batch: Batch) -> None:
        super().after_backward(batch)
        if len(self.buffer_):
            used = [p for p in self.model_.parameters() if p.grad is not None]
            old = self.buffer_.rows
            loss = self.cross_entropy(self.model_({"image": old["image"]}), old["y"], old["label"])
            reference = torch.autograd.grad(loss, used, materialize_grads=True)
            dots = [(p.grad * r).sum() for p, r in zip(used, reference, strict=True) if p.grad is not None]
            norm = torch.stack([r.square().sum() for r in reference]).sum().sqrt()
            angles.append(float(torch.stack(dots).sum() / norm))


angles: list[float] = []


def digits_run(strategy: EWC | SI | AGEM, n_tasks: int, rule: str = "permutation") -> None:
    card = {**cards()[PERMUTED], "n_tasks": n_tasks, "rule": rule, "fingerprint": None}
    stream = Scenario.from_card(card).build(Seeds.of(0), Path())
    exp = experiment(compose([f"scenario={PERMUTED}"]))
    prepare(strategy, exp.make_model, stream, Seeds.of(0), CPU)
    for index in range(1, n_tasks + 1):
        train_one(strategy, stream, index, Seeds.of(0), CPU)


def test_agem_never_steps_against_the_memory_it_looked_at() -> None:
    angles.clear()
    digits_run(Watched(memory=50, memory_batch=50), 3)
    assert len(angles) > 100
    assert min(angles) > -1e-5


def test_the_summed_ewc_penalty_has_the_gradient_of_the_separate_ones() -> None:
    class Kept(EWC):
        def after_task(self, task: TaskView) -> None:
            before = {k: v.clone() for k, v in self.fisher_.items()}
            super().after_task(task)
            fisher = {k: v - before.get(k, torch.zeros_like(v)) for k, v in self.fisher_.items()}
            weights = {k: p.detach().clone() for k, p in self.model_.named_parameters()}
            tasks.append((fisher, weights))

    tasks: list[tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]] = []
    strategy = Kept(strength=1.0)
    digits_run(strategy, 3)
    for name, parameter in strategy.model_.named_parameters():
        probe = parameter.detach() + 0.1
        separate = sum((fisher[name] * (probe - weights[name]) for fisher, weights in tasks), torch.zeros(()))
        together = strategy.fisher_[name] * probe - strategy.pull_[name]
        assert torch.allclose(separate, together, atol=1e-6)


def test_the_path_of_synaptic_intelligence_adds_up_to_the_fall_of_the_loss() -> None:
    class Summed(SI):
        def loss(self, batch: Batch) -> torch.Tensor:
            value = super().loss(batch)
            losses.append(value.item())
            return value

        def after_task(self, task: TaskView) -> None:
            paths.append(sum(float(p.sum()) for p in self.path_.values()))
            super().after_task(task)

    losses: list[float] = []
    paths: list[float] = []
    digits_run(Summed(trainer=Trainer(lr=0.002, momentum=0.0, batch_size=2000)), 1)
    assert losses[0] - losses[-1] > 0
    assert paths[0] == pytest.approx(losses[0] - losses[-1], rel=0.15)


def test_herding_keeps_the_mean_better_than_chance() -> None:
    features = torch.from_numpy(np.random.default_rng(0).normal(size=(200, 16))).float()
    mean_of_all = features.mean(0)
    herded = (features[herd(features, 10)].mean(0) - mean_of_all).norm()
    drawn = [
        (features[torch.from_numpy(np.random.default_rng(s).choice(200, 10, False))].mean(0) - mean_of_all).norm()
        for s in range(50)
    ]
    assert herded < min(drawn)
    assert len(set(herd(features, 10).tolist())) == 10


def test_scores_are_a_matrix_with_the_untrained_model_as_row_zero() -> None:
    matrix = result(SPLIT, "naive", 0).accuracy
    assert isinstance(matrix, ScoreMatrix)
    assert matrix.values.shape == (6, 5)
    other = result(SPLIT, "replay", 0).accuracy
    assert np.array_equal(matrix.values[0], other.values[0])  # same seed, same untrained model
