"""Segmentation: Mobile DeepLabv3, its data, criterion, evaluator and task."""

from mobilevision.segmentation.head import DeepLabHead, DeepLabV3, SegmentationConfig, deeplabv3_mobilenet_v2

__all__ = ["DeepLabHead", "DeepLabV3", "SegmentationConfig", "deeplabv3_mobilenet_v2"]
