"""The small AlexNet of the continual-learning literature."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from clbench.models.head import HeadKind, HeadMode
from clbench.models.lenet import pooled_side
from clbench.models.model import Model, image_shape
from clbench.stream import Inputs, StreamSpec

CONVOLUTIONS = ((64, 4, 0.2), (128, 3, 0.2), (256, 2, 0.5))  # filters, kernel, dropout
HIDDEN = (2048, 2048)
DROPOUT = 0.5  # after each hidden layer
MAP = 2  # pixels a side after the convolutions, of images of 32


class AlexNet(Model):
    """Three convolutions and two hidden layers, with batch norm and dropout and without biases, for 32 x 32 images.

    64 filters of 4 x 4, 128 of 3 x 3 and 256 of 2 x 2, each with 2 x 2 max pooling; 2048 and 2048 units. Dropout draws
    from torch's random state, which the harness seeds before each task. ``spare``: rows of the head that stand for no
    class. Raises ``BadInput`` for images that leave no pixel to pool.

    Source: Serra et al., Overcoming Catastrophic Forgetting with Hard Attention to the Task, ICML 2018; without biases:
    Saha et al., Gradient Projection Memory, ICLR 2021 (CIFAR-100).
    Differs: batch norm has no scale and shift, and keeps running statistics, so that an answer does not depend on who
    else is in the batch; maps of more than 2 x 2, of larger images, are averaged to 2 x 2.
    """

    def __init__(
        self,
        spec: StreamSpec,
        head: HeadKind = "linear",
        head_mode: HeadMode = "sliced",
        targets: Mapping[str, Any] | None = None,
        spare: int = 0,
    ) -> None:
        super().__init__()
        before, *shape = image_shape(spec)
        height, width = (min(MAP, pooled_side(side, [kernel for _, kernel, _ in CONVOLUTIONS])) for side in shape)
        layers: list[nn.Module] = []
        for after, kernel, dropout in CONVOLUTIONS:
            layers += [nn.Conv2d(before, after, kernel, bias=False), nn.BatchNorm2d(after, affine=False)]
            layers += [nn.ReLU(), nn.Dropout(dropout), nn.MaxPool2d(2)]
            before = after
        layers += [nn.AdaptiveAvgPool2d((height, width)), nn.Flatten()]
        for fan_in, fan_out in itertools.pairwise([before * height * width, *HIDDEN]):
            layers += [nn.Linear(fan_in, fan_out, bias=False), nn.BatchNorm1d(fan_out, affine=False)]
            layers += [nn.ReLU(), nn.Dropout(DROPOUT)]
        self.body = nn.Sequential(*layers)
        self.attach_head(HIDDEN[-1], spec, head, head_mode, targets, bias=False, spare=spare)

    def features(self, inputs: Inputs) -> Tensor:
        """Activations of the last hidden layer (B, 2048)."""
        activations: Tensor = self.body(inputs["image"])
        return activations
