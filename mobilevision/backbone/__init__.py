"""The MobileNetV2 backbone, its padding and its pixels' normalisation."""

from mobilevision.backbone.mobilenet_v2 import STAGES, FeatureInfo, InvertedResidual, MobileNetV2, round_channels
from mobilevision.backbone.normalization import Normalization

__all__ = ["STAGES", "FeatureInfo", "InvertedResidual", "MobileNetV2", "Normalization", "round_channels"]
