"""What goes into the layers of a network: their inputs as rows that their weights multiply, and the Gram matrices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from clbench.models import Model
from clbench.stream import Inputs

CHUNK = 32  # samples that are unfolded at once
HEAD = "head.weight"


@dataclass(frozen=True)
class Unit:
    """A linear map of a network: a layer, the head, or one group of a grouped convolution.

    ``weight``: the name of its parameter, of whose rows it has the share ``group`` of ``n_groups``.
    """

    weight: str
    group: int = 0
    n_groups: int = 1

    @property
    def name(self) -> str:
        """The name of its parameter, with the group where there are several."""
        return self.weight if self.n_groups == 1 else f"{self.weight}[{self.group}]"

    def rows(self, weight: Tensor) -> Tensor:
        """Its part of its parameter as a matrix (out, d_in): a view, through which it can be written."""
        return weight.flatten(1).chunk(self.n_groups)[self.group]


def units(model: Model) -> tuple[Unit, ...]:
    """The trainable linear maps of a network in its order: ``nn.Linear``, ``nn.Conv1d`` and ``nn.Conv2d`` layers.

    A linear head is one of them, unless its rows belong to single tasks.
    """
    found = []
    for name, layer in model.named_modules():
        if isinstance(layer, (nn.Linear, nn.Conv1d, nn.Conv2d)) and layer.weight.requires_grad:
            n_groups = 1 if isinstance(layer, nn.Linear) else layer.groups
            found += [Unit(f"{name}.weight", group, n_groups) for group in range(n_groups)]
    if model.head.kind == "linear" and model.head.mode != "per_task":
        found.append(Unit(HEAD))
    return tuple(found)


def input_rows(layer: nn.Module, x: Tensor) -> Tensor:
    """The input of a layer as rows (groups, positions, d_in), each of which makes one position of its output.

    ``rows[g] @ unit.rows(weight).T`` is the output of group g at these positions (all of a sample, then of the next).
    """
    if not isinstance(layer, (nn.Conv1d, nn.Conv2d)):
        return x.reshape(1, -1, x.shape[-1])
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    x = F.pad(x, layer._reversed_padding_repeated_twice, mode=mode)  # "same" and circular padding, too
    kernel, dilation, stride = layer.kernel_size, layer.dilation, layer.stride
    if isinstance(layer, nn.Conv1d):  # as one line of an image
        x, kernel, dilation, stride = x.unsqueeze(2), (1, *kernel), (1, *dilation), (1, *stride)
    patches: Tensor = F.unfold(
        x, kernel, dilation, 0, stride
    )  # (B, c_in * k, positions), channels first as in the weight
    patches = patches.view(len(x), layer.groups, -1, patches.shape[-1])
    return patches.permute(1, 0, 3, 2).flatten(1, 2)


@torch.no_grad()
def input_grams(
    model: Model, inputs: Inputs, weights: Mapping[str, Tensor], wanted: Sequence[Unit]
) -> dict[str, Tensor]:
    """For each unit, the sum of x xT over its inputs x (d_in, d_in) in float64, by the unit's name.

    ``weights``: parameters and buffers to run with instead of the network's own, all or some. The network runs in
    evaluation mode, so that neither statistics nor dropout come in, and is left in it.
    """
    grams: dict[str, Tensor] = {}

    def add(weight: str, rows: Tensor) -> None:
        rows = rows.double()
        gram = rows.mT @ rows
        grams[weight] = grams[weight] + gram if weight in grams else gram

    def watch(weight: str) -> Any:
        owner = model.get_submodule(weight.rpartition(".")[0])
        if weight == HEAD and model.head.projector is not None:
            return model.head.projector.register_forward_hook(lambda layer, x, y: add(weight, input_rows(owner, y)))
        return owner.register_forward_pre_hook(lambda layer, x: add(weight, input_rows(layer, x[0])))

    model.eval()
    hooks = [watch(weight) for weight in {unit.weight: None for unit in wanted}]
    try:
        n = len(next(iter(inputs.values())))
        for start in range(0, n, CHUNK):
            chunk = {name: x[start : start + CHUNK] for name, x in inputs.items()}
            functional_call(model, dict(weights), (chunk,))
    finally:
        for hook in hooks:
            hook.remove()
    return {unit.name: grams[unit.weight][unit.group] for unit in wanted}
