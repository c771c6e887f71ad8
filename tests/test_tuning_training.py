"""How what is put into pretrained networks is trained: what it learns, and that the rest stays as it was."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from clbench.backbones.text_encoder import TextEncoder
from clbench.checks.streams import fresh_stream
from clbench.errors import NonFiniteLoss
from clbench.stream import Split, Task, TaskView
from clbench.tuning import Tune, Tuning, trained
from clbench.tuning.prompts import Prompts
from tests.tuned_networks import FEED, TRANSFORMER, features, inputs_of, network, task, with_inserted

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("tune", ["vpt_shallow", "vpt_deep"])
def test_prompts_of_zeros_stay_equal_to_each_other_in_training(tune: Tune) -> None:
    made = with_inserted("transformer", tune)
    Tuning(tune=tune, epochs=2, lr=0.5).fit(made, task())
    for module in made.modules():
        if isinstance(module, Prompts):
            assert bool(module.tokens[0].any())
            assert torch.allclose(module.tokens, module.tokens[:1].expand_as(module.tokens), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "tune"), [*(("transformer", t) for t in TRANSFORMER), ("convolutional", "ssf"), ("lite0", "ssf")]
)
def test_only_what_was_put_in_is_trained_and_the_rest_stays_bit_by_bit(name: str, tune: Tune) -> None:
    made = with_inserted(name, tune)
    before = {k: v.clone() for k, v in made.state_dict().items()}
    new = set(trained(made))
    assert new and new.isdisjoint(network(name).state_dict())
    if name == "lite0":
        made.train()
        made(inputs_of("lite0")).square().mean().backward()
        assert all(p.grad is not None for p in trained(made).values())
        assert all(p.grad is None for k, p in made.named_parameters() if k not in new)
        return
    Tuning(tune=tune, epochs=1).fit(made, task(name))
    changed = {k for k, v in made.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == new
    assert not any(module.training for module in made.modules())


@pytest.mark.parametrize("tune", ["adapter", "ssf"])
def test_training_moves_sentences_of_a_class_together_and_of_two_classes_apart(tune: Tune) -> None:
    ends = ["", " now", " as soon as you can, if that is all right with you", " please"]
    texts = [f"{start}{end}" for start in ("book a table", "order food", "call a cab") * 2 for end in ends]
    tokens, mask = TextEncoder().tokenize(texts)
    y = torch.arange(len(texts)) // 4 % 3
    inputs = {"tokens": tokens.int(), "mask": mask.to(torch.uint8)}
    split = Split(inputs, y, np.arange(len(texts)))
    view = TaskView(Task(1, "one", (0, 1, 2), ("a", "b", "c"), split, split, ""), "class-incremental", FEED())
    made = with_inserted("minilm", tune)

    def gap() -> float:
        found = features(made, inputs)
        cosines, same = found @ found.T, y[:, None] == y
        return float(cosines[same].mean() - cosines[~same].mean())

    before = gap()
    Tuning(tune=tune, epochs=6, lr=2.0, batch_size=24, weight_decay=0.0).fit(made, view)
    assert gap() > before + 0.01


def test_finetuning_trains_everything() -> None:
    made = with_inserted("convolutional", "finetune")
    before = copy.deepcopy(made.state_dict())
    Tuning(tune="finetune", epochs=1).fit(made, task("convolutional"))
    assert all(not torch.equal(v, before[k]) for k, v in made.state_dict().items())


@pytest.mark.parametrize("name", ["convolutional", "lite0"])
def test_new_statistics_are_those_of_the_data_and_nothing_else_changes(name: str) -> None:
    made = with_inserted(name, "batch_norm")
    before = copy.deepcopy(made.state_dict())
    view = task("convolutional") if name == "convolutional" else _enlarged()
    tuning = Tuning(tune="batch_norm", epochs=2, batch_size=16)
    tuning.fit(made, view)
    changed = {k for k, v in made.state_dict().items() if not torch.equal(v, before[k])}
    assert changed and all(k.endswith(("running_mean", "running_var", "num_batches_tracked")) for k in changed)
    again = with_inserted(name, "batch_norm")
    tuning.fit(again, task("convolutional") if name == "convolutional" else _enlarged())
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in made.state_dict().items())
    if name == "convolutional":
        body: Any = made.body
        seen = [b.raw["image"].expand(-1, 3, -1, -1) for b in task(name).batches(16, 2, "tune")]
        batches = [body[0]((images - 0.5) / 0.5) for images in seen]
        means = torch.stack([b.mean((0, 2, 3)) for b in batches])
        assert torch.allclose(body[1].running_mean, means.mean(0), atol=1e-5)
        assert torch.allclose(body[1].running_var, torch.stack([b.var((0, 2, 3)) for b in batches]).mean(0), atol=1e-5)


def _enlarged() -> TaskView:
    """A task of a few digits, 32 pixels wide."""
    stream = fresh_stream("class-incremental", setting="plain").reading(("image",))
    whole = stream.tasks[0]
    rows = torch.arange(40)
    images = nn.functional.interpolate(whole.train.take(rows)["image"], size=32)
    split = replace(whole.train, inputs={"image": images}, y=whole.train.labels[rows], index=whole.train.index[:40])
    return TaskView(replace(whole, train=split), "class-incremental", FEED())


def test_without_a_pass_the_statistics_stay() -> None:
    made = with_inserted("convolutional", "batch_norm")
    Tuning(tune="batch_norm", epochs=0).fit(made, task("convolutional"))
    assert all(torch.equal(v, network("convolutional").state_dict()[k]) for k, v in made.state_dict().items())


def test_a_loss_that_is_not_finite_ends_the_training() -> None:
    tuning = Tuning(tune="finetune", epochs=3, lr=1e30)
    with pytest.raises(NonFiniteLoss, match="try a smaller lr"):
        tuning.fit(with_inserted("convolutional", "finetune"), task("convolutional"))
