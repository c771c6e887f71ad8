"""SSF: scale and shift the output of every layer of a frozen network."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clbench.backbones import Network
from clbench.errors import BadInput
from clbench.tuning.inserted import Inserted, batch_norms, blocks_of, is_bert, is_transformer

SPREAD = 0.02  # of the initial scales around 1 and shifts around 0


class ScaleShift(Inserted):
    """``scale * x + shift`` for each of ``width`` channels, which are dimension ``dim`` of x."""

    def __init__(self, width: int, dim: int = -1) -> None:
        super().__init__()
        self.dim = dim
        self.scale, self.shift = nn.Parameter(torch.empty(width)), nn.Parameter(torch.empty(width))
        self.redraw()

    @torch.no_grad()
    def redraw(self) -> None:
        """Near the identity: scale ~ N(1, 0.02), shift ~ N(0, 0.02)."""
        nn.init.normal_(self.scale, 1.0, SPREAD)
        nn.init.normal_(self.shift, 0.0, SPREAD)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        shape = [1] * x.ndim
        shape[self.dim] = -1
        return torch.addcmul(self.shift.view(shape), x, self.scale.view(shape))


class ScaledBatchNorm(nn.Module):
    """A frozen batch norm layer and the ``ScaleShift`` behind it, as one batch norm of other weight and bias.

    It trains a quarter faster than one after the other.
    """

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.norm, self.scale_shift = norm, ScaleShift(norm.num_features)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape, by the statistics of the frozen layer."""
        norm, new = self.norm, self.scale_shift
        weight, bias = norm.weight * new.scale, new(norm.bias)
        return F.batch_norm(x, norm.running_mean, norm.running_var, weight, bias, False, 0.0, norm.eps)


def insert_scale_shift(network: Network) -> None:
    """Put a ``ScaleShift`` behind every layer of a network.

    Transformers: patch or word embedding, both norms, query-key-value, attention projection and both layers of the
    MLP of every block, and the final norm. Convolutional networks: every ``BatchNorm2d``, or every ``Conv2d`` where
    there is none. ``BadInput`` for a network with none of these.

    Source: Lian et al., Scaling and shifting your features, NeurIPS 2022, section 3.2.
    Differs: nothing is merged into the weights after training.
    """
    if is_transformer(network):
        for layer in _transformer_layers(network):
            _follow(layer, ScaleShift(_width(layer)))
        return
    norms: list[nn.Module] = [m for m in batch_norms(network) if isinstance(m, nn.BatchNorm2d)]
    layers = norms or [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    if not layers or (not norms and any(isinstance(m, nn.LayerNorm) for m in network.modules())):
        raise BadInput(
            "ssf goes into plain vision transformers, BERT-like encoders, and convolutional networks with batch norm; "
            f"{type(network.body).__name__} is none of these"
        )
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.BatchNorm2d and child.affine and child.track_running_stats:
                setattr(parent, name, ScaledBatchNorm(child))
            elif child in layers:
                _follow(child, ScaleShift(_width(child), dim=1))


def _transformer_layers(network: Network) -> list[nn.Module]:
    body: Any = network.body
    blocks: list[Any] = list(blocks_of(network, "ssf"))
    layers: list[nn.Module] = []
    if is_bert(blocks[0]):  # every norm but the embedding's is inside a block, the final one too
        layers.append(body.embeddings.LayerNorm)
        for block in blocks:
            attention = block.attention
            layers += [attention.self.query, attention.self.key, attention.self.value]
            layers += [attention.output.dense, attention.output.LayerNorm]
            layers += [block.intermediate.dense, block.output.dense, block.output.LayerNorm]
        return layers
    layers.append(body.patch_embed)
    for block in blocks:
        layers += [block.norm1, block.attn.qkv, block.attn.proj, block.norm2, block.mlp.fc1, block.mlp.fc2]
    last: tuple[Any, ...] = (body.norm, getattr(body, "fc_norm", None))  # timm has one of them, the other does nothing
    return layers + [norm for norm in last if getattr(norm, "weight", None) is not None]


def _width(layer: Any) -> int:
    """Channels of what a layer puts out: a norm, linear or convolutional layer, or timm's patch embedding."""
    if hasattr(layer, "num_features"):
        return int(layer.num_features)
    return int(layer.proj.weight.shape[0] if hasattr(layer, "proj") else layer.weight.shape[0])


def _follow(layer: nn.Module, new: ScaleShift) -> None:
    layer.scale_shift = new
    layer.register_forward_hook(_scaled)


def _scaled(layer: nn.Module, args: Any, output: Tensor) -> Tensor:
    scaled: Tensor = layer.scale_shift(output)  # type: ignore[operator]
    return scaled
