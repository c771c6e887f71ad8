"""Backbones: feature extractors that no stream trains; each states its transform, feature size and licence."""

from clbench.backbones.backbone import Backbone, Network, PretrainedBackbone, make_backbone

__all__ = ["Backbone", "Network", "PretrainedBackbone", "make_backbone"]
