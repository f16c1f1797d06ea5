"""The MobileNetV2 backbone, its padding and its pixels' normalisation."""

from mobilevision.backbone.inverted_residual import InvertedResidual
from mobilevision.backbone.mobilenet_v2 import FeatureInfo, MobileNetV2
from mobilevision.backbone.normalization import Normalization
from mobilevision.backbone.stages import STAGES, round_channels

__all__ = ["STAGES", "FeatureInfo", "InvertedResidual", "MobileNetV2", "Normalization", "round_channels"]
