"""A small convolutional network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from clbench.models.head import HeadKind, HeadMode
from clbench.models.model import Model, image_shape
from clbench.stream import Inputs, StreamSpec


class ConvNet(Model):
    """Two blocks of two 3 x 3 convolutions and a 2 x 2 max pooling, then one hidden layer; made for ``trainer=adam``.

    Source: Zenke et al., Continual Learning Through Synaptic Intelligence, ICML 2017 (CIFAR network).
    Differs: no dropout (its random state would not pair runs of different strategies); He initialisation;
    adaptive pooling to 4 x 4 before the hidden layer, so that any image of at least 4 pixels fits.
    """

    def __init__(
        self,
        spec: StreamSpec,
        width: int = 32,
        hidden: int = 256,
        head: HeadKind = "linear",
        head_mode: HeadMode = "sliced",
        targets: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        channels = image_shape(spec)[0]
        layers: list[nn.Module] = []
        for before, after in ((channels, width), (width, 2 * width)):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU()]
            layers += [nn.Conv2d(after, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        layers += [nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(2 * width * 16, hidden), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        for layer in self.body:
            if isinstance(layer, (nn.Conv2d, nn.Linear)):  # torch's default shrinks the signal of a plain ReLU stack
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.constant_(layer.get_parameter("bias"), 0.0)
        self.attach_head(hidden, spec, head, head_mode, targets)

    def features(self, inputs: Inputs) -> Tensor:
        """Activations of the hidden layer (B, hidden)."""
        activations: Tensor = self.body(inputs["image"])
        return activations
