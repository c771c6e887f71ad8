"""The pretrained network of a backbone, to be trained further."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from clbench.backbones import PretrainedBackbone, make_backbone
from clbench.errors import BadInput
from clbench.models.head import HeadKind, HeadMode
from clbench.models.model import Model
from clbench.stream import Inputs, StreamSpec


class Pretrained(Model):
    """The backbone's own network with its pretrained weights, all of them trainable, and a head."""

    def __init__(
        self,
        spec: StreamSpec,
        head: HeadKind = "linear",
        head_mode: HeadMode = "sliced",
        targets: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        backbone = make_backbone(spec.backbone) if spec.backbone else None
        if not isinstance(backbone, PretrainedBackbone):
            raise BadInput(
                "model=pretrained trains the network of a backbone further: give one with a network, e.g. "
                "backbone=lite0 (see: clbench list backbones)"
            )
        self.network = backbone.network()
        self._reads = ("image",) if backbone.modality == "image" else ("tokens", "mask")
        self.attach_head(self.network.n_features, spec, head, head_mode, targets)

    @property
    def reads(self) -> tuple[str, ...]:
        """What the network reads: images, or tokens and their mask."""
        return self._reads

    def features(self, inputs: Inputs) -> Tensor:
        """The network's features (B, D)."""
        features: Tensor = self.network(inputs)
        return features
