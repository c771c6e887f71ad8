"""The small real streams that strategies are checked on: scikit-learn's digits, three tasks, in memory."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any, Literal

import torch

from clbench.backbones.backbone import Filling
from clbench.cards import Scenario
from clbench.checks.small_backbone import SmallBackbone
from clbench.features import with_features
from clbench.models import MLP, HeadMode, Model, Pretrained
from clbench.seeds import Seeds
from clbench.strategy import Trainer
from clbench.stream import ProtocolName, Split, StreamSpec, TaskStream

Setting = Literal["plain", "transformer", "convolutional"]
SETTINGS: tuple[Setting, ...] = ("plain", "transformer", "convolutional")
ORDER: tuple[ProtocolName, ...] = ("class-incremental", "task-incremental", "domain-incremental")
TRAINER = Trainer(epochs=5, batch_size=16, lr=0.05, momentum=0.9)
AT_MOST = {  # small, and memory must let go of some
    "memory": 200,
    "fit_epochs": 20,
    "epochs": 3,
    "weight_epochs": 5,
    "n_projections": 200,
}
CPU = torch.device("cpu")


def fresh_stream(protocol: ProtocolName, label_space: str = "known", setting: Setting = "plain") -> TaskStream:
    """A check stream whose tensors belong to the caller: what a strategy writes into them harms nobody else.

    ``setting``: ``plain``, or with the features of a small frozen network, for strategies that train that network.
    """
    stream = _built(protocol, label_space, setting)
    tasks = (replace(t, train=_copy(t.train), test=_copy(t.test)) for t in stream.tasks)
    return replace(stream, tasks=tuple(tasks))


def small_model(spec: StreamSpec) -> Model:
    """The network of the checks: the backbone's where there is one; its head grows where the label space is open."""
    mode: HeadMode = "sliced" if spec.label_space == "known" else "growing"
    return Pretrained(spec, head_mode=mode) if spec.backbone else MLP(spec, width=64, depth=2, head_mode=mode)


@cache
def _built(protocol: ProtocolName, label_space: str, setting: Setting) -> TaskStream:
    domains: dict[str, Any] = {"rule": "permutation"}
    if setting != "plain":  # a network of patches can read turned digits, but not permuted ones
        domains = {"rule": "rotation", "max_degrees": 45}
    rule = domains if protocol == "domain-incremental" else {"rule": "classes"}
    scenario = Scenario(
        name=f"check-{protocol}",
        summary="Digits in three tasks, for checking strategies.",
        data={"source": "digits"},
        n_tasks=3,
        protocol=protocol,
        subset={"train": 800, "test": 300},
        label_space=label_space,
        licence="CC-BY-4.0 (UCI Machine Learning Repository)",
        citation="Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998",
        **rule,
    )
    stream = scenario.build(Seeds.of(0))
    if setting != "plain":
        stream = with_features(stream, SmallBackbone(kind=setting), Filling(CPU))
    tasks = (replace(t, train=t.train.on(CPU), test=t.test.on(CPU)) for t in stream.tasks)
    return replace(stream, tasks=tuple(tasks))


def _copy(split: Split) -> Split:
    inputs = {name: torch.clone(split.inputs[name][torch.arange(len(split))]) for name in split.inputs}
    return Split(inputs, split.labels.clone(), split.index.copy())
