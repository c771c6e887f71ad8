"""Knowledge transfer between masks: which earlier task is chosen, what is copied, and what must stay as it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from clbench.masks import maskable, top_share
from clbench.state import state_bytes
from clbench.strategies import ssnet
from clbench.strategies.exssnet import ExSSNeT
from clbench.strategies.ssnet import SSNeT, knn_accuracy
from clbench.stream import TaskStream, TaskView
from tests.toy_exssnet import ADAM, exssnet, union
from tests.toy_packers import assert_nothing_old_changes, network, permuted, result, trained
from tests.toy_streams import build

SHORT = replace(ADAM, epochs=2)


class Noted(ExSSNeT):
    """Notes what a task begins with."""

    def before_task(self, task: TaskView) -> None:
        self._begun = getattr(self, "_begun", {})
        super().before_task(task)

    def sources(self, task: TaskView) -> list[int]:
        self._found = super().sources(task)
        return self._found

    def initial_scores(self, task: TaskView) -> dict[str, Tensor]:
        scores = super().initial_scores(task)
        self._begun[self.label_] = (self._found, {name: s.detach().clone() for name, s in scores.items()})
        return scores

    def begun(self, task: int) -> tuple[list[int], dict[str, Tensor]]:
        found: tuple[list[int], dict[str, Tensor]] = self._begun[task]
        return found


def kkt(cls: type[SSNeT] = Noted, **options: Any) -> Any:
    return exssnet(cls, **{"trainer": SHORT, "weight_epochs": 1, "kkt": "best", **options})


def again() -> TaskStream:
    """Three tasks, and the second one once more."""
    tasks = permuted().tasks
    return replace(permuted(), tasks=(*tasks, replace(tasks[1], index=4)))


def run_through(steps: Iterator[int]) -> None:
    for _ in steps:
        pass


# --- nearest neighbours


@pytest.mark.parametrize("n_neighbours", [1, 10, 500])
def test_accuracy_of_nearest_neighbours_is_that_of_scikit_learn(n_neighbours: int) -> None:
    split = permuted().tasks[0].test
    x, y = split.take(torch.arange(len(split)))["image"].flatten(1), split.labels
    n = int(0.66 * len(y))
    classifier = KNeighborsClassifier(min(n_neighbours, n)).fit(x[:n].numpy(), y[:n].numpy())
    assert knn_accuracy(x, y, n_neighbours) == pytest.approx(classifier.score(x[n:].numpy(), y[n:].numpy()), abs=0.011)


def test_a_single_sample_has_no_neighbours() -> None:
    assert knn_accuracy(torch.ones(1, 3), torch.ones(1, dtype=torch.int64), 10) == 0.0


# --- which task, and what is copied


def test_a_task_that_comes_again_begins_with_the_mask_it_had() -> None:
    strategy = kkt(trainer=ADAM)
    run_through(trained(strategy, again()))
    sources, scores = strategy.begun(4)
    assert sources == [2]
    for name, mask in strategy.masks(2).items():
        assert torch.equal(top_share(scores[name], strategy.density), mask)


@pytest.mark.parametrize(
    ("rule", "accuracy", "sources"),
    [
        ("best", (0.1, 0.1), []),  # chance, with ten classes
        ("best", (0.05, 0.02), []),
        ("best", (0.3, 0.2), [1]),
        ("best", (0.2, 0.3), [2]),
        ("always", (0.05, 0.1), [2]),
        ("all", (0.1, 0.1), []),
        ("all", (0.3, 0.2), [1, 2]),
        ("all", (0.3, 0.1), [1]),
    ],
)
def test_sources_are_those_above_chance(
    rule: str, accuracy: tuple[float, float], sources: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = iter((0.0, *accuracy))  # the second task asks about one, the third about two
    monkeypatch.setattr(ssnet, "knn_accuracy", lambda features, y, n_neighbours: next(given))
    strategy = kkt(kkt=rule, trainer=replace(ADAM, epochs=1))
    run_through(trained(strategy))
    found, scores = strategy.begun(3)
    assert found == sources
    assert next(given, None) is None
    for name, s in scores.items():
        mean = sum((strategy.scores_[k][name] for k in sources), torch.zeros_like(s)) / max(len(sources), 1)
        assert torch.allclose(s, mean, atol=1e-6) == bool(sources)


@pytest.mark.parametrize("last", [True, False])
def test_scores_of_the_last_layer_are_copied_on_request(last: bool) -> None:
    strategy = kkt(kkt="always", kkt_last_layer=last)
    run_through(trained(strategy, permuted(2)))
    _, scores = strategy.begun(2)
    assert [torch.equal(s, strategy.scores_[1][name]) for name, s in scores.items()] == [True, True, last]


def test_rows_that_a_shared_head_has_grown_begin_anew() -> None:
    stream = build(0, protocol="task-incremental", n_tasks=3, increments=[2, 4, 4], subset={"train": 400, "test": 200})
    strategy = kkt(kkt="always")
    make = partial(network, head_mode="shared")
    assert_nothing_old_changes(strategy, stream, make)
    _, scores = strategy.begun(2)
    assert torch.equal(scores["head.weight"][:2], strategy.scores_[1]["head.weight"])
    assert scores["head.weight"].shape == (4, 100) and float(scores["head.weight"][2:].abs().min()) > 0


def test_measuring_looks_at_a_share_of_the_batches_and_one_more() -> None:
    class Counted(ExSSNeT):
        def sources(self, task: TaskView) -> list[int]:
            rows.append(0)
            return super().sources(task)

    def count(features: Tensor, y: Tensor, n_neighbours: int) -> float:
        rows[-1] = len(y)
        assert features.shape == (len(y), 100) and not features.requires_grad and n_neighbours == 7
        return 0.0

    rows: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssnet, "knn_accuracy", count)
        run_through(trained(kkt(Counted, kkt_neighbours=7), permuted(2)))
    assert rows == [0, 160]  # of 19 batches of 32 four, and one


# --- what stays


class InPlace(ExSSNeT):
    """Averages in place on the scores of the first source."""

    def initial_scores(self, task: TaskView) -> dict[str, Tensor]:
        sources = self.sources(task)
        if not sources:
            return super().initial_scores(task)
        for name, total in self.scores_[sources[0]].items():
            for other in sources[1:]:
                total += self.scores_[other][name]
            total /= len(sources)
        return {name: s.clone() for name, s in self.scores_[sources[0]].items()}


def assert_scores_stay(strategy: SSNeT) -> None:
    """Scores of learnt tasks stay the same bit by bit, and rank their masks."""
    kept: dict[int, dict[str, Tensor]] = {}
    for index in trained(strategy):
        kept[index] = {name: s.clone() for name, s in strategy.scores_[index].items()}
    for index, scores in kept.items():
        for name, s in scores.items():
            assert torch.equal(strategy.scores_[index][name], s), f"scores of task {index} changed in {name}"
            assert torch.equal(top_share(s, strategy.density), strategy.masks(index)[name])


@pytest.mark.parametrize("rule", ["best", "always", "all"])
def test_old_scores_and_old_answers_stay_bit_by_bit(rule: str) -> None:
    assert_scores_stay(kkt(ExSSNeT, kkt=rule))
    assert_nothing_old_changes(kkt(ExSSNeT, kkt=rule))


def test_averaging_in_place_is_found() -> None:
    with pytest.raises(AssertionError, match="scores of task 1 changed"):
        assert_scores_stay(kkt(InPlace, kkt="all"))


def test_only_transfer_keeps_scores() -> None:
    sizes = {}
    for rule in ("none", "best"):
        strategy = kkt(ExSSNeT, kkt=rule, trainer=replace(ADAM, epochs=1))
        run_through(trained(strategy))
        sizes[rule] = state_bytes(strategy.state_dict())
    n = sum(weight.numel() for weight in maskable(strategy.model_).values())
    assert sizes["best"] - sizes["none"] == 3 * 4 * n


def test_transfer_helps_where_tasks_are_new_samples_of_the_same_classes() -> None:
    stream = build(0, rule="instances", protocol="task-incremental", n_tasks=5, subset={"train": 500, "test": 400})
    accuracy, shared = {}, {}
    for rule in ("none", "best"):
        strategy = exssnet(trainer=replace(ADAM, epochs=12, batch_size=20), weight_epochs=12, kkt=rule)
        accuracy[rule] = result(strategy, stream).accuracy.values[-1].mean()
        used = union(strategy.masks(k) for k in range(1, 6))
        shared[rule] = sum(int(mask.sum()) for mask in used.values())
    assert accuracy["best"] > accuracy["none"] + 0.04
    assert shared["best"] < 0.7 * shared["none"]
    assert np.isfinite(list(accuracy.values())).all()
