"""AdaptFormer: a bottleneck parallel to the MLP of every block of a frozen transformer."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from clbench.backbones import Network
from clbench.tuning.inserted import Inserted, blocks_of, is_bert

DROPOUT, SCALE = 0.1, 0.1


class Adapter(Inserted):
    """``0.1 * up(dropout(relu(down(x))))`` of the last dimension, ``width`` to ``bottleneck`` and back."""

    def __init__(self, width: int, bottleneck: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(width, bottleneck), nn.Linear(bottleneck, width)
        self._made: Tensor | None = None  # of the block that is being run
        self.redraw()

    @torch.no_grad()
    def redraw(self) -> None:
        """Down drawn as for any linear layer, all else zero: nothing is added at the start."""
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zero)

    def forward(self, x: Tensor) -> Tensor:
        """What is added to the residual stream, (..., width)."""
        hidden = nn.functional.dropout(self.down(x).relu(), DROPOUT, self.training)
        added: Tensor = self.up(hidden) * SCALE
        return added

    def before_norm(self, norm: nn.Module, args: Any) -> None:
        """Hook of a timm block's second norm: its input is the residual stream after attention."""
        self._made = self(args[0])

    def after_block(self, block: nn.Module, args: Any, output: Tensor) -> Tensor:
        """Hook of a timm block: add to what it puts out."""
        assert self._made is not None
        made, self._made = self._made, None
        return output + made

    def before_output(self, output: nn.Module, args: Any) -> tuple[Tensor, Tensor]:
        """Hook of BERT's output layer, which adds its second argument to the MLP and normalises the sum."""
        hidden, residual = args
        return hidden, residual + self(residual)


def insert_adapters(network: Network, bottleneck: int) -> None:
    """Put an ``Adapter`` beside the MLP of every block; its input is the residual stream before the second norm.

    Source: Chen et al., AdaptFormer, NeurIPS 2022, section 3.2.
    Differs: no layer norm in the adapter and a fixed scale, as in Zhou et al., IJCV 2024. BERT normalises after
    attention, so there the input is normalised.
    """
    for block in blocks_of(network, "an adapter"):
        parts: Any = block
        if is_bert(block):
            adapter = Adapter(parts.output.dense.out_features, bottleneck)
            parts.output.register_forward_pre_hook(adapter.before_output)
        else:
            adapter = Adapter(parts.norm2.weight.shape[0], bottleneck)
            parts.norm2.register_forward_pre_hook(adapter.before_norm)
            parts.register_forward_hook(adapter.after_block)
        parts.adapter = adapter
