"""MobileNetV2 backbone and the normalization of its pixels."""

from mobilevision.backbone.inverted_residual import InvertedResidual
from mobilevision.backbone.mobilenet_v2 import BackboneConfig, FeatureInfo, MobileNetV2
from mobilevision.backbone.normalization import Normalization
from mobilevision.backbone.stages import STAGES, round_channels

__all__ = [
    "STAGES",
    "BackboneConfig",
    "FeatureInfo",
    "InvertedResidual",
    "MobileNetV2",
    "Normalization",
    "round_channels",
]
