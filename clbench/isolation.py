"""What a task may train of a network that earlier tasks use too, and how all else is held."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from clbench.masks import maskable
from clbench.models import Model

Trained = tuple[Tensor, Tensor | None]  # what an optimiser holds, and which of its entries may change (None: all)


class Held:
    """Entries of trained tensors that must not change, as they are now."""

    def __init__(self, trained: Iterable[Trained]) -> None:
        self.entries = [(tensor, free, tensor.detach().clone()) for tensor, free in trained if free is not None]

    @torch.no_grad()
    def put_back(self) -> None:
        """Make them what they were, bit by bit: decay and momentum move them even without a gradient."""
        for tensor, free, kept in self.entries:
            tensor.copy_(torch.where(free, tensor, kept))


def own_head(model: Model, rows: Sequence[int], head_only: bool = False) -> list[Trained]:
    """What a task trains of the head for itself, as :class:`clbench.masks.TaskParts` keeps it: its scale and ``rows``.

    No rows of a head that is masked, unless tasks have the ``head_only`` for themselves.
    """
    head, masks_head = model.head, not head_only and "head.weight" in maskable(model)
    found: list[Trained] = [] if head.scale is None else [(head.scale, None)]
    if isinstance(head.weight, nn.Parameter) and not masks_head:
        own = torch.zeros(len(head.weight), 1, dtype=torch.bool, device=head.weight.device)
        own[list(rows)] = True
        found.append((head.weight, own))
    return found


def with_rows(model: Model, network: Mapping[str, Tensor], n_rows: int | None) -> dict[str, Tensor]:
    """A network, as parameters and buffers by name, whose head has its first ``n_rows`` only (None: all).

    With rows that the head has grown since, a product may be rounded otherwise.
    """
    head = model.head
    rows = {"head.weight": head.weight} | ({} if head.bias is None else {"head.bias": head.bias})
    return {**network, **{name: network.get(name, value)[:n_rows] for name, value in rows.items()}}


def grown(known: Tensor, fresh: Tensor) -> Tensor:
    """Known rows, followed by fresh ones for those that the layer has grown since."""
    return torch.cat([known, fresh[len(known) :]])
