"""The reduced ResNet-18 of the continual-learning literature."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from clbench.models.head import HeadKind, HeadMode
from clbench.models.model import Model, image_shape
from clbench.stream import Inputs, StreamSpec


class Block(nn.Module):
    """Two 3 x 3 convolutions with batch norm and a shortcut."""

    def __init__(self, before: int, after: int, stride: int, affine: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(after, affine=affine)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(after, affine=affine)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or before != after:
            convolution = nn.Conv2d(before, after, 1, stride, bias=False)
            self.shortcut = nn.Sequential(convolution, nn.BatchNorm2d(after, affine=affine))

    def forward(self, x: Tensor) -> Tensor:
        """(B, before, H, W) to (B, after, H / stride, W / stride)."""
        hidden = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(hidden)) + self.shortcut(x))


class ReducedResNet18(Model):
    """ResNet-18 with 20 instead of 64 filters and a 3 x 3 stem without pooling, for 32 x 32 images.

    ``bias``: whether norms scale and shift, and linear head rows have a bias; without them it is the network of the
    supermask and gradient-projection papers. ``spare``: rows of the head that stand for no class.

    Source: Lopez-Paz and Ranzato, Gradient Episodic Memory, NeurIPS 2017 (``n_filters`` = 20).
    Differs: global average pooling instead of a fixed 4 x 4 one, equal at 32 x 32.
    """

    def __init__(
        self,
        spec: StreamSpec,
        n_filters: int = 20,
        head: HeadKind = "linear",
        head_mode: HeadMode = "sliced",
        targets: Mapping[str, Any] | None = None,
        bias: bool = True,
        spare: int = 0,
    ) -> None:
        super().__init__()
        channels = image_shape(spec)[0]
        layers: list[nn.Module] = [
            nn.Conv2d(channels, n_filters, 3, 1, 1, bias=False),
            nn.BatchNorm2d(n_filters, affine=bias),
            nn.ReLU(),
        ]
        before = n_filters
        for after, stride in ((1, 1), (2, 2), (4, 2), (8, 2)):
            filters = after * n_filters
            layers += [Block(before, filters, stride, bias), Block(filters, filters, 1, bias)]
            before = filters
        self.body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.attach_head(before, spec, head, head_mode, targets, bias, spare)

    def features(self, inputs: Inputs) -> Tensor:
        """Pooled activations of the last block (B, 8 * n_filters)."""
        activations: Tensor = self.body(inputs["image"])
        return activations
