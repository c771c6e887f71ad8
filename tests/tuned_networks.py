"""Pretrained networks with something put into them, and what to ask and to train them with."""

from __future__ import annotations

import copy
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from clbench.backbones import Network
from clbench.backbones.efficientnet_lite import EfficientNetLite
from clbench.backbones.text_encoder import TextEncoder
from clbench.checks.small_backbone import SmallBackbone
from clbench.checks.streams import fresh_stream
from clbench.seeds import Seeds
from clbench.stream import Feed, Inputs, TaskView
from clbench.tuning import Tune, Tuning

TRANSFORMER: list[Tune] = ["vpt_shallow", "vpt_deep", "ssf", "adapter"]
FEED = partial(Feed, Seeds.of(0).generator)
SENTENCES = ["what is my balance", "please book a table for two people at seven tonight", "hi"]


@cache
def kept(name: str) -> Network:
    if name == "lite0":
        return EfficientNetLite().network()
    return TextEncoder().network() if name == "minilm" else SmallBackbone(kind=name).network()  # type: ignore[arg-type]


def network(name: str) -> Network:
    return copy.deepcopy(kept(name))


@cache
def inputs_of(name: str) -> Inputs:
    if name == "minilm":
        tokens, mask = TextEncoder().tokenize(SENTENCES)
        return {"tokens": tokens, "mask": mask}
    size = 64 if name == "lite0" else 8
    return {"image": torch.rand(3, 3, size, size, generator=torch.Generator().manual_seed(0))}


def with_inserted(name: str, tune: Tune, **options: Any) -> Network:
    made = network(name)
    Tuning(tune=tune, epochs=1, **options).insert(made)
    return made


@torch.no_grad()
def features(made: Network, inputs: Inputs) -> Tensor:
    found: Tensor = made.eval()(inputs)
    return found


def task(setting: Any = "transformer") -> TaskView:
    stream = fresh_stream("class-incremental", setting=setting).reading(("image",))
    return TaskView(stream.tasks[0], "class-incremental", FEED())
