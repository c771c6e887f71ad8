"""ExSSNeT on permuted digits: short trainings, and what a task may move."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from clbench.masks import maskable
from clbench.strategies.exssnet import ExSSNeT
from clbench.strategies.ssnet import SSNeT
from clbench.strategy import Trainer
from tests.toy_packers import trained

ADAM = Trainer(epochs=3, optimizer="adam", lr=0.01, momentum=0.0)
DECAY = replace(ADAM, weight_decay=1e-3)
MOMENTUM = Trainer(epochs=3, optimizer="sgd", lr=0.05, momentum=0.9, weight_decay=1e-3)


def exssnet(cls: type[SSNeT] = ExSSNeT, **options: Any) -> SSNeT:
    return cls(**{"trainer": ADAM, "weight_epochs": 3, **options})


def union(masks: Iterable[dict[str, Tensor]]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for one in masks:
        found = {name: found.get(name, torch.zeros_like(mask)) | mask for name, mask in one.items()}
    return found


def weights_of(strategy: SSNeT) -> dict[str, Tensor]:
    return {name: w.detach().clone() for name, w in maskable(strategy.model_).items()}


def assert_only_unused_weights_move(strategy: SSNeT) -> None:
    """Weights move inside a task's mask only, and there only where no earlier mask is."""
    before: dict[str, Tensor] = {}
    for index in trained(strategy):
        after, mask = weights_of(strategy), strategy.masks(index)
        earlier = union(strategy.masks(k) for k in range(1, index)) if index > 1 else {}
        for name, weight in after.items():
            free = mask[name] & ~earlier[name] if earlier else mask[name]
            start = before.get(name, weight.sign() * (2 / weight.shape[1]) ** 0.5)
            assert torch.equal(weight[~free], start[~free]), f"{name} moved outside of what task {index} may train"
            assert not torch.equal(weight[free], start[free])
        before = after
