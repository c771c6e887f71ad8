"""Masks on a network's weights: chosen by scores, stored as bits; and what each task keeps for itself beside them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from clbench.models import Model
from clbench.state import State


def maskable(model: Model) -> dict[str, nn.Parameter]:
    """Weights of linear and convolutional layers by name, and of a linear head whose rows all tasks share.

    Rows of any other head belong to single tasks or are frozen: :class:`TaskParts`.
    """
    layers = [(name, m) for name, m in model.named_modules() if isinstance(m, (nn.Linear, _ConvNd))]
    found = {f"{name}.weight": layer.get_parameter("weight") for name, layer in layers}
    if model.head.kind == "linear" and model.head.mode in ("shared", "sliced"):
        found["head.weight"] = model.head.get_parameter("weight")
    return found


@torch.no_grad()
def drop_biases(model: nn.Module) -> None:
    """Make a network the one of the papers: no biases, and norms without scale and shift.

    Biases and shifts become zero, scales one, and none of them is trained.
    """
    for name, parameter in model.named_parameters():
        path, _, own = name.rpartition(".")
        owner = model.get_submodule(path)
        is_norm = hasattr(owner, "eps") and not isinstance(owner, (nn.Linear, _ConvNd))
        if own.endswith("bias") or is_norm:
            parameter.fill_(0.0 if own.endswith("bias") else 1.0).requires_grad_(False)


def signed_constant(weight: Tensor) -> Tensor:
    """The signs of a weight times the standard deviation of He's initialisation, sqrt(2 / fan_in).

    Source: Ramanujan et al., What's Hidden in a Randomly Weighted Neural Network?, CVPR 2020, section 4.4.
    """
    return torch.where(weight < 0, -1.0, 1.0) * math.sqrt(2 / weight.shape[1:].numel())


def draw_scores(weight: Tensor) -> Tensor:
    """New scores for a weight, uniform within +-1 / sqrt(fan_in), from torch's random state."""
    bound = 1 / math.sqrt(weight.shape[1:].numel())
    return torch.empty_like(weight, requires_grad=False).uniform_(-bound, bound)


def top_share(scores: Tensor, density: float) -> Tensor:
    """Mask of the n - int((1 - density) n) largest of n absolute scores, exactly so many whatever ties there are."""
    n = scores.numel()
    flat = torch.zeros(n, dtype=torch.bool, device=scores.device)
    kept = scores.detach().abs().flatten().topk(n - int((1 - density) * n), sorted=False).indices
    flat[kept] = True
    return flat.view_as(scores)


def straight_through(mask: Tensor, scores: Tensor) -> Tensor:
    """The mask as numbers, through which gradients reach ``scores`` as if the mask were the scores themselves.

    For a mask ranked by absolute scores, ``scores`` are the absolute ones, so that autograd adds their sign.

    Source: Bengio, Leonard and Courville, Estimating or propagating gradients through stochastic neurons, 2013.
    """
    return mask.to(scores.dtype) + (scores - scores.detach())


def pack(mask: Tensor) -> Tensor:
    """A mask as bits: uint8, one byte for every eight entries or part of eight.

    >>> pack(torch.tensor([True, False, True])).tolist()
    [5]
    """
    bits = nn.functional.pad(mask.flatten().to(torch.uint8), (0, -mask.numel() % 8)).view(-1, 8)
    powers = 2 ** torch.arange(8, dtype=torch.uint8, device=mask.device)
    return (bits * powers).sum(1, dtype=torch.uint8)


def unpack(bits: Tensor, shape: Sequence[int]) -> Tensor:
    """The mask (bool, ``shape``) out of its bits; rows that the layer has grown since are not in it."""
    powers = 2 ** torch.arange(8, dtype=torch.uint8, device=bits.device)
    flat = (bits[:, None] & powers).bool().flatten()
    n = torch.Size(shape).numel()
    return nn.functional.pad(flat, (0, max(0, n - len(flat))))[:n].view(*shape)


class TaskParts:
    """What every task keeps of a network for itself: batch-norm statistics, and what of the head is not shared.

    Nothing in it is touched by a later task. Kept as an attribute that ends in ``_`` it is saved and loaded.
    The network's own statistics stay as they were built: every task begins with them. ``head_only``: statistics are
    shared, and the head's rows are each task's own in every mode.
    """

    def __init__(self, model: Model, head_only: bool = False) -> None:
        self._model = model
        self._head_only = head_only
        self._masks_head = not head_only and "head.weight" in maskable(model)
        self.parts: dict[int, dict[str, Tensor]] = {}

    def begin(self, task: int) -> None:
        """Give a task its own batch-norm statistics, which training then fills."""
        norms = [(n, m) for n, m in self._model.named_modules() if isinstance(m, _BatchNorm) and not self._head_only]
        self.parts[task] = {f"{n}.{k}": v.detach().clone() for n, m in norms for k, v in m.named_buffers()}

    @torch.no_grad()
    def end(self, task: int, rows: Sequence[int]) -> None:
        """Keep the head's ``rows`` of a task, and the head's scale, as training has left them."""
        head, own = self._model.head, self.parts[task]
        if head.scale is not None:
            own["head.scale"] = head.scale.detach().clone()
        if not self._masks_head:
            own["n_rows"] = torch.tensor(len(head.weight))
        if isinstance(head.weight, nn.Parameter) and not self._masks_head:
            own["rows"] = torch.tensor(rows, device=head.weight.device)
            own["weight"] = head.weight[own["rows"]].clone()

    @torch.no_grad()
    def of(self, task: int) -> dict[str, Tensor]:
        """A task's parameters and buffers by name, for ``functional_call``; nothing for a task not begun."""
        own, head = dict(self.parts.get(task, {})), self._model.head
        if "n_rows" in own:  # as many as there were: a product of another shape may round otherwise
            known = slice(int(own.pop("n_rows")))
            own["head.weight"] = head.weight.detach()[known]
            if head.bias is not None:
                own["head.bias"] = head.bias.detach()[known]
        if "rows" in own:
            own["head.weight"] = own["head.weight"].index_copy(0, own.pop("rows"), own.pop("weight"))
        return own

    def state_dict(self) -> State:
        """The parts by task."""
        return {"parts": self.parts}

    def load_state_dict(self, state: State) -> None:
        """Put saved parts back."""
        self.parts = state["parts"]
