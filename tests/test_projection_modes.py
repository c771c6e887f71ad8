"""What projection looks at it looks at in one mode, and what it does not train it leaves alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from clbench.capture import input_grams
from clbench.checks.streams import fresh_stream, small_model
from clbench.evaluate import BATCH, make_query
from clbench.models import Model
from clbench.strategies.cuber import CUBER
from clbench.strategies.gpm import GPM
from clbench.strategies.trgp import TRGP
from clbench.strategy import Trainer
from clbench.stream import Inputs, StreamSpec
from tests.toy_projection import FEW, answers, learnt, mlp, permuted, split

DECAYING = Trainer(epochs=2, batch_size=20, momentum=0.9, weight_decay=0.05)


class Noisy(Model):
    """Batch norm and dropout, and no biases."""

    def __init__(self, spec: StreamSpec) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 50, bias=False), nn.BatchNorm1d(50, affine=False))
        self.body.extend([nn.ReLU(), nn.Dropout(0.5), nn.Linear(50, 50, bias=False), nn.ReLU(), nn.Dropout(0.5)])
        self.attach_head(50, spec, "linear", "sliced", bias=False)

    def features(self, inputs: Inputs) -> Tensor:
        """Activations of the last layer (B, 50)."""
        made: Tensor = self.body(inputs["image"])
        return made


def seen(strategy: Any, inputs: Inputs, y: Tensor) -> dict[str, Tensor]:
    """All that is taken from a network after a task: Gram matrices and gradients."""
    grams = input_grams(strategy.model_, inputs, strategy.weights(strategy.label_), strategy.units)
    return {**{f"gram {k}": v for k, v in grams.items()}, **strategy.gradients(inputs, y)}


def test_inputs_and_gradients_are_taken_without_dropout_and_change_no_statistics() -> None:
    strategy = learnt(TRGP(trainer=FEW), permuted(2), Noisy)
    half = permuted(2).tasks[1].train
    inputs, y = half.take(torch.arange(60)), half.labels[:60]
    before = {k: v.clone() for k, v in strategy.weights(2).items()}
    strategy.model_.train()
    first, second = seen(strategy, inputs, y), seen(strategy, inputs, y)
    assert len(first) == 6 and all(torch.equal(first[name], second[name]) for name in first)
    assert all(torch.equal(strategy.weights(2)[name], value) for name, value in before.items())
    assert any(name.endswith("running_mean") for name in before)
    for name, module in strategy.model_.named_modules():  # dropout would have been seen
        module.train(isinstance(module, nn.Dropout))
        assert name or not module.training
    noisy = [strategy.model_.features(inputs) for _ in range(2)]
    assert not torch.equal(noisy[0], noisy[1])


@pytest.mark.parametrize("cls", [GPM, CUBER])
def test_with_batch_norm_an_answer_does_not_depend_on_who_else_is_asked(cls: Any) -> None:
    strategy = learnt(cls(trainer=FEW), permuted(2), Noisy)
    for label, task in enumerate(permuted(2).tasks, start=1):
        x = task.test.take(torch.arange(40))
        together = answers(strategy, label, x)
        alone = torch.cat([answers(strategy, label, task.test.take(torch.tensor([k]))) for k in range(40)])
        assert (together - alone).abs().max() < 1e-5 * together.abs().max()


@pytest.mark.parametrize("cls", [GPM, CUBER])
def test_rows_of_a_shared_head_that_belong_to_other_tasks_stay_bit_by_bit(cls: Any) -> None:
    heads: list[Tensor] = []
    learnt(cls(trainer=DECAYING), split(), mlp(), lambda s, _: heads.append(s.model_.head.weight.detach().clone()))
    for number, task in enumerate(split().tasks[1:], start=2):
        moved = (heads[number] != heads[number - 1]).any(dim=1).nonzero().flatten().tolist()
        assert moved == list(task.classes)


@pytest.mark.parametrize("setting", ["transformer", "convolutional"])
def test_a_pretrained_network_keeps_its_biases_and_norms_and_is_projected(setting: Any) -> None:
    stream = fresh_stream("task-incremental", setting=setting)
    seen: list[dict[str, Tensor]] = []

    def look(strategy: Any, index: int) -> None:
        if not index:  # as if it had been trained: norms that do something
            for name, parameter in strategy.model_.network.named_parameters():
                if "norm" in name or parameter.ndim == 1:
                    parameter.data.add_(0.1)
        seen.append({name: p.detach().clone() for name, p in strategy.model_.network.named_parameters()})

    strategy = learnt(GPM(trainer=FEW, threshold=0.9), stream, small_model, look, upto=2)
    projected = {unit.weight.removeprefix("network.") for unit in strategy.units}
    assert projected & seen[0].keys()
    for name, value in seen[0].items():
        assert torch.equal(seen[2][name], value) is (name not in projected), name
    assert not strategy.model_.head.bias.any()
    query = make_query("task-incremental", stream.tasks, 2, 1)
    scores = strategy.predict(stream.tasks[0].test.take(torch.arange(min(BATCH, 60))), query)
    assert torch.isfinite(scores).all()


def test_norms_of_a_pretrained_network_are_what_they_were_when_training_begins() -> None:
    stream = fresh_stream("task-incremental", setting="transformer")
    fresh = small_model(stream.spec).state_dict()
    strategy = learnt(GPM(trainer=FEW), stream, small_model, upto=1)
    now = strategy.model_.state_dict()
    kept = [name for name in fresh if name.startswith("network.") and (name.endswith("bias") or "norm" in name)]
    assert len(kept) > 8 and any(fresh[name].any() for name in kept if name.endswith("bias"))
    assert all(torch.equal(now[name], fresh[name]) for name in kept)
