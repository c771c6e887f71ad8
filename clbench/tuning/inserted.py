"""What is put into a pretrained network, and where the parts of that network lie."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from clbench.backbones import Network
from clbench.errors import BadInput
from clbench.models import Model, Pretrained

TIMM, BERT = ("norm1", "attn", "norm2", "mlp"), ("attention", "intermediate", "output")


class Inserted(nn.Module, ABC):
    """A module with new parameters inside a pretrained network; hooks call it, so the network's own names stay."""

    @abstractmethod
    def redraw(self) -> None:
        """Draw the parameters anew, as they are at the start of training."""


def redraw(network: Network) -> None:
    """Draw the parameters of everything inserted anew."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, Inserted):
                module.redraw()


def trained(network: Network) -> dict[str, Tensor]:
    """The parameters that are trained, by name."""
    return {name: p for name, p in network.named_parameters() if p.requires_grad}


def network_of(model: Model, who: str) -> Network:
    """The pretrained network of a model; ``BadInput`` where it has none."""
    if not isinstance(model, Pretrained):
        raise BadInput(
            f"{who} tunes a pretrained network, which model {type(model).__name__} has not: give model=pretrained "
            "and a backbone with a network, e.g. backbone=lite0 (see: clbench list backbones)"
        )
    return model.network


def blocks_of(network: Network, what: str) -> list[nn.Module]:
    """The blocks of a transformer, timm's or BERT's; ``BadInput`` for a network that ``what`` cannot go into."""
    blocks = _blocks(network)
    if not blocks:
        raise BadInput(
            f"{what} goes into transformers (timm's vision transformers, BERT-like encoders); "
            f"{type(network.body).__name__} is none\n  a convolutional network takes: finetune, ssf, batch_norm"
        )
    return blocks


def is_transformer(network: Network) -> bool:
    """Whether ``blocks_of`` finds blocks."""
    return bool(_blocks(network))


def is_bert(block: nn.Module) -> bool:
    """Whether a block normalises after its sublayers, as BERT's do; timm's normalise before."""
    return hasattr(block, "intermediate")


def batch_norms(network: nn.Module) -> Iterator[nn.modules.batchnorm._BatchNorm]:
    """Its batch norm layers."""
    return (m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm))


def _blocks(network: Network) -> list[nn.Module]:
    body = network.body
    found = getattr(body, "blocks", getattr(getattr(body, "encoder", None), "layer", ()))
    blocks = [b for b in found if isinstance(b, nn.Module)] if isinstance(found, (nn.Sequential, nn.ModuleList)) else []
    return blocks if blocks and all(_is_plain(b) or _has(b, BERT) for b in blocks) else []


def _is_plain(block: nn.Module) -> bool:
    """Whether a block of timm normalises before attention and before an MLP of two layers, one after the other."""
    known = _has(block, TIMM) and type(block).__name__ != "ResPostBlock"  # has the same parts, and normalises after
    return known and _has(block.attn, ("qkv", "proj")) and _has(block.mlp, ("fc1", "fc2"))  # type: ignore[arg-type]


def _has(block: nn.Module, names: tuple[str, ...]) -> bool:
    return all(hasattr(block, name) for name in names)
