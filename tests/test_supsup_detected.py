"""SupSup that is not told when tasks begin."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch

from clbench.errors import BadInput, UnsupportedProtocol
from clbench.loop import RunResult, prepare, run, train_one
from clbench.models import BiasFreeMLP
from clbench.seeds import Seeds
from clbench.state import freeze, load_state, save_state
from clbench.strategies.supsup_detected import SupSupDetected
from clbench.strategy import Trainer
from clbench.stream import Inputs, StreamSpec, TaskStream
from tests.toy_streams import CPU, build

SEEDS = Seeds.of(0)
SHORT = Trainer(epochs=2, batch_size=32, optimizer="adam", lr=0.01, momentum=0.0)
# For digits and 50 outputs; the defaults are those of the authors for MNIST and 500.
DIGITS: dict[str, Any] = {"detect_every": 60, "fewest": 3, "novelty": 1.6}


def permuted(n_tasks: int) -> TaskStream:
    return build(0, rule="permutation", protocol="domain-incremental", n_tasks=n_tasks)


def network(spec: StreamSpec) -> BiasFreeMLP:
    return BiasFreeMLP(spec, widths=[256, 256], spare=40)


class Watched(SupSupDetected):
    """Notes the task and the mask chosen at every look."""

    def detect(self, inputs: Inputs) -> None:
        super().detect(inputs)
        looks.append((self.tasks_, self.current_))


looks: list[tuple[int, int]] = []


def outcome(strategy: SupSupDetected, n_tasks: int) -> RunResult:
    torch.set_num_threads(1)
    looks.clear()
    stream = prepare(strategy, network, permuted(n_tasks), SEEDS, CPU)
    return run(strategy, stream, SEEDS, CPU)


def test_about_as_many_masks_as_tasks_are_found_and_each_task_ends_with_its_mask() -> None:
    # At lr .01 and 7 epochs the masks found and the last accuracy (.85 to .94) turn on rounding, so on the processor.
    longer = Trainer(epochs=10, batch_size=32, optimizer="adam", lr=0.005, momentum=0.0)
    strategy = Watched(**DIGITS, trainer=longer)
    result = outcome(strategy, 5)
    assert 4 <= len(strategy.begun_) <= 7
    assert len(set(strategy.begun_)) >= 4, "the task a mask was first trained in"
    assert [task for task, _ in looks] == sorted(task for task, _ in looks)
    within = sum(before == after for before, after in pairwise(looks))
    assert within > 0.6 * len(looks), "a task that goes on keeps its mask"
    assert result.accuracy.values[-1].mean() > 0.5
    assert result.accuracy.values[-1, -1] > 0.9
    assert result.task_inference is not None
    assert set(result.kept["inferred"][-1].tolist()) <= set(strategy.begun_)


@pytest.mark.parametrize(("novelty", "new"), [(1e-6, 1), (1e6, 4)])
def test_the_threshold_decides_from_one_mask_for_all_to_one_for_every_look(novelty: float, new: int) -> None:
    strategy = Watched(detect_every=50, novelty=novelty, trainer=SHORT)
    outcome(strategy, 2)
    assert len(looks) == 4  # 2 tasks of 2 epochs of 43 batches: at 0, 50, 100 and 150, across epochs and tasks
    assert [task for task, _ in looks] == [1, 1, 2, 2]
    learnt = len(strategy.begun_)
    assert learnt == new if new > 1 else learnt <= 2, "a drawn mask may be the largest"
    assert sorted(strategy.masks_) == list(range(1, learnt + 1))


def test_training_and_looking_go_on_from_the_state_across_tasks(tmp_path: Any) -> None:
    whole, first, second = (SupSupDetected(**{**DIGITS, "detect_every": 30}, trainer=SHORT) for _ in range(3))
    stream = prepare(whole, network, permuted(2), SEEDS, CPU)
    for index in (1, 2):
        train_one(whole, stream, index, SEEDS, CPU)
    prepare(first, network, permuted(2), SEEDS, CPU)
    train_one(first, stream, 1, SEEDS, CPU)
    save_state(tmp_path / "state", first.state_dict())
    prepare(second, network, permuted(2), SEEDS, CPU)
    second.load_state_dict(load_state(tmp_path / "state"))
    train_one(second, stream, 2, SEEDS, CPU)
    for name, value in whole.state_dict().items():
        assert str(freeze(value, name)) == str(freeze(second.state_dict()[name], name)), name
    for mask, scores in whole.scores_.items():
        assert all(torch.equal(s, second.scores_[mask][name]) for name, s in scores.items())


def test_other_protocols_and_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(UnsupportedProtocol, match="outputs in common"):
        prepare(SupSupDetected(), network, build(0), SEEDS, CPU)
    bad: list[dict[str, Any]] = [{"detect_every": 0}, {"novelty": 0.0}, {"fewest": 0}, {"transfer": True}]
    for options in bad:
        with pytest.raises(BadInput, match="detect_every"):
            SupSupDetected(**options)
