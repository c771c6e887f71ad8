"""A small untrained backbone for 8 x 8 digits: what strategies that train a backbone are checked on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from clbench.backbones import Network, PretrainedBackbone
from clbench.backbones.timm_model import TimmNetwork
from clbench.plugins import require
from clbench.stream import Modality, StreamSpec
from clbench.torchvision_schemas import declare_torchvision_schemas


@dataclass(frozen=True, kw_only=True)
class SmallBackbone(PretrainedBackbone):
    """A vision transformer of two blocks, or two convolutions with batch norm, with the same random weights always.

    Source: none; it stands for a pretrained network where a second must be enough.
    Differs: it was never trained.
    """

    modality: ClassVar[Modality] = "image"
    kind: Literal["transformer", "convolutional"] = "transformer"

    @property
    def transform(self) -> str:
        """As for any timm model."""
        return "(8 x 8 pixels in [0, 1] - 0.5) / 0.5, grey to three channels"

    @property
    def n_features(self) -> int:
        """The same for both kinds."""
        return 64

    def check(self, spec: StreamSpec) -> None:
        """Images only."""
        self.check_modality(spec)
        require("vision", "timm", who="the check of a strategy that trains a backbone")

    def weights_hash(self) -> str:
        """SHA-256 of the weights, which follow from a seed."""
        weights = self.network().state_dict().values()
        return hashlib.sha256(b"".join(w.numpy().tobytes() for w in weights)).hexdigest()

    def network(self) -> Network:
        """The network."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            body = _transformer() if self.kind == "transformer" else _convolutional()
            return TimmNetwork(body, (0.5,), (0.5,))


def _transformer() -> Any:
    declare_torchvision_schemas()
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(img_size=8, patch_size=4, num_classes=0, embed_dim=64, depth=2, num_heads=2)


class Convolutional(nn.Sequential):
    """Layers that say how many features they give, as timm's models do."""

    num_features = 64


def _convolutional() -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    layers += [nn.Conv2d(16, 64, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return Convolutional(*layers)
