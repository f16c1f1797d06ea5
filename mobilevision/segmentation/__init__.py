"""The segmentation network."""

from mobilevision.segmentation.deeplabv3 import DeepLabV3, deeplabv3_mobilenet_v2

__all__ = ["DeepLabV3", "deeplabv3_mobilenet_v2"]
