"""LeNet as the supermask and gradient-projection papers have it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from clbench.errors import BadInput
from clbench.models.bias_free_mlp import checked_widths
from clbench.models.head import HeadKind, HeadMode
from clbench.models.model import Model, image_shape
from clbench.stream import Inputs, StreamSpec

KERNEL = 5
MAP = 5  # pixels a side after the convolutions, of images of 32


class LeNet(Model):
    """Convolutions of 5 x 5 with 2 x 2 max pooling, ``channels`` filters each, then ``widths`` ReLU units; no biases.

    ``spare``: rows of the head that stand for no class. Raises ``BadInput`` for images that leave no pixel to pool.

    Source: Saha et al., Gradient Projection Memory, ICLR 2021 (CIFAR-100 superclasses: 20-50-800-500); Kang et al.,
    Forget-free Continual Learning with Winning Subnetworks, ICML 2022 (64-128-2500-1500).
    Differs: no padding, no local response norm, no dropout; maps of more than 5 x 5, of images above 32 x 32, are
    averaged to 5 x 5.
    """

    def __init__(
        self,
        spec: StreamSpec,
        channels: Sequence[int] = (20, 50),
        widths: Sequence[int] = (800, 500),
        head: HeadKind = "linear",
        head_mode: HeadMode = "sliced",
        targets: Mapping[str, Any] | None = None,
        spare: int = 0,
    ) -> None:
        super().__init__()
        depth, *shape = image_shape(spec)
        filters = [depth, *checked_widths("channels", channels)]
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(filters):
            layers += [nn.Conv2d(before, after, KERNEL, bias=False), nn.ReLU(), nn.MaxPool2d(2)]
        height, width = (min(MAP, pooled_side(side, [KERNEL] * len(channels))) for side in shape)
        layers += [nn.AdaptiveAvgPool2d((height, width)), nn.Flatten()]
        sizes = [filters[-1] * height * width, *checked_widths("widths", widths)]
        for before, after in itertools.pairwise(sizes):
            layers += [nn.Linear(before, after, bias=False), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.attach_head(sizes[-1], spec, head, head_mode, targets, bias=False, spare=spare)

    def features(self, inputs: Inputs) -> Tensor:
        """Activations of the last hidden layer (B, the last of ``widths``)."""
        activations: Tensor = self.body(inputs["image"])
        return activations


def pooled_side(side: int, kernels: Sequence[int]) -> int:
    """Pixels a side after unpadded convolutions, each with a 2 x 2 max pooling; ``BadInput`` when none is left.

    >>> pooled_side(32, [5, 5])
    5
    """
    left = side
    for kernel in kernels:
        left = (left - kernel + 1) // 2
        if left < 1:
            raise BadInput(f"images of {side} pixels a side are too small for this network; use model=mlp_2x100")
    return left
