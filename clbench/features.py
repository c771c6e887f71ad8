"""Features of a frozen backbone, handed out as ``inputs["features"]`` beside what the backbone itself reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from clbench.backbones import Backbone
from clbench.backbones.backbone import Filling
from clbench.errors import BadInput
from clbench.models import Pretrained
from clbench.stream import Inputs, Rows, Split, Taken, TaskStream


def with_features(stream: TaskStream, backbone: Backbone, filling: Filling) -> TaskStream:
    """The stream with ``features`` (and ``tokens`` and ``mask`` instead of ``text``) added to every split.

    Images are handed out in [0, 1], without the card's normalisation: the backbone has its own.
    Raises ``BadInput`` when backbone and stream do not fit.
    """
    backbone.check(stream.spec)
    raw = backbone.modality
    parts = [split.inputs[raw] for task in stream.tasks for split in (task.train, task.test)]
    features = iter(backbone.features(parts, filling))  # type: ignore[arg-type]
    shapes: dict[str, tuple[int, ...]] = {}

    def extended(split: Split) -> Split:
        inputs: dict[str, Rows] = {**backbone.inputs(split.inputs[raw]), "features": next(features)}  # type: ignore[arg-type]
        shapes.update({name: tuple(rows.shape[1:]) for name, rows in inputs.items()})
        return replace(split, inputs=inputs)

    tasks = tuple(replace(task, train=extended(task.train), test=extended(task.test)) for task in stream.tasks)
    spec = replace(stream.spec, inputs=shapes, backbone=backbone.config())
    return replace(stream, spec=spec, tasks=tasks)


def check_read(stream: TaskStream, model: object, label: str) -> None:
    """``BadInput`` when nothing reads what the backbone gives: the run would be labelled with it for nothing."""
    if stream.spec.backbone and not isinstance(model, Pretrained) and "features" not in stream.spec.inputs:
        raise BadInput(
            f"'{label}' reads nothing of the backbone; give backbone=pixels, or model=mlp, features, pretrained"
        )


def fill(stream: TaskStream) -> None:
    """Work out the frozen features that the stream hands out now, so that no task's training has to."""
    for task in stream.tasks:
        for split in (task.train, task.test):
            if "features" in split.inputs:
                split.inputs["features"][torch.arange(1)]


CHUNK = 512  # samples in memory at once while a branch runs


class BranchRows:
    """What a frozen branch makes of a split, worked out in one go when the first row is asked for."""

    def __init__(self, branch: Callable[[Inputs], Tensor], split: Split, device: torch.device) -> None:
        self._branch, self._split, self._device = branch, split, device
        self._features: Tensor | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, D)."""
        return tuple(self._all().shape)

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Features at these positions."""
        features = self._all()
        return features[rows.to(features.device)]

    def _all(self) -> Tensor:
        if self._features is None:
            chunks = torch.split(torch.arange(len(self._split)), CHUNK)
            self._features = torch.cat([self._branch(Taken(self._split, rows, self._device)) for rows in chunks])
        return self._features


def with_branches(split: Split, branches: Mapping[str, Callable[[Inputs], Tensor]], device: torch.device) -> Split:
    """The split with the features of these branches added to its inputs."""
    new = {name: BranchRows(branch, split, device) for name, branch in branches.items()}
    return replace(split, inputs={**split.inputs, **new})
