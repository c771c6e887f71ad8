"""VPT: learnt tokens in the sequence of a frozen transformer."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from clbench.backbones import Network
from clbench.tuning.inserted import Inserted, blocks_of, is_bert

TokenInit = Literal["zero", "random"]
SPREAD = 0.02  # of random tokens, the spread of a vision transformer's own


class Prompts(Inserted):
    """``n`` learnt tokens of size ``width``, appended to a sequence."""

    def __init__(self, n: int, width: int, init: TokenInit) -> None:
        super().__init__()
        self.init = init
        self.tokens = nn.Parameter(torch.empty(n, width))
        self.redraw()

    @torch.no_grad()
    def redraw(self) -> None:
        """Zero, so that they stay equal to each other for ever, or ~ N(0, 0.02)."""
        if self.init == "zero":
            nn.init.zeros_(self.tokens)
        else:
            nn.init.normal_(self.tokens, 0.0, SPREAD)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, width) to (B, L + n, width)."""
        return torch.cat([x, self.tokens.expand(len(x), -1, -1)], dim=1)


def insert_prompts(network: Network, n: int, *, deep: bool, init: TokenInit = "zero") -> None:
    """Append ``n`` learnt tokens before the first block and cut them off after the last; ``deep``: at every block.

    They stand at the end, so a class token keeps its place and pooling sees the network's own tokens only.

    Source: Jia et al., Visual prompt tuning, ECCV 2022, section 3.2.
    Differs: at the end of the sequence and zero at the start, as in Zhou et al., IJCV 2024.
    """
    blocks = blocks_of(network, "vpt")
    for block in blocks if deep else blocks[:1]:
        parts: Any = block
        norm = parts.output.LayerNorm if is_bert(block) else parts.norm1
        parts.prompts = Prompts(n, norm.weight.shape[0], init)
        parts.register_forward_pre_hook(_append)
    for block in blocks if is_bert(blocks[0]) else []:
        block.register_forward_pre_hook(_widen, with_kwargs=True)
    for block in blocks if deep else blocks[-1:]:
        block.register_forward_hook(partial(_cut, n))


def _append(block: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    return block.prompts(args[0]), *args[1:]  # type: ignore[operator]


def _cut(n: int, block: nn.Module, args: Any, output: Tensor) -> Tensor:
    return output[:, :-n]


def _widen(block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Let the attention mask (B, 1, L, L) of a BERT layer cover the tokens in its input; everything may see them."""
    x, mask, *rest = args
    if mask is None:
        return args, kwargs
    n = x.shape[1] - mask.shape[-1]
    open_to_all = torch.ones if mask.dtype == torch.bool else torch.zeros  # an additive mask is 0 where one may look
    mask = torch.cat([mask, open_to_all(*mask.shape[:-1], n, dtype=mask.dtype, device=mask.device)], dim=-1)
    if mask.shape[-2] > 1:  # what the tokens may see: what the first word may
        mask = torch.cat([mask, mask[..., :1, :].expand(-1, -1, n, -1)], dim=-2)
    return (x, mask, *rest), kwargs
