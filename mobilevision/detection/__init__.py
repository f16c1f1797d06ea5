"""Detection: SSDLite, its data, criterion, evaluator and task."""

from mobilevision.detection.head import DetectionConfig, SSDLite, SSDLiteHead, ssdlite_mobilenet_v2

__all__ = ["DetectionConfig", "SSDLite", "SSDLiteHead", "ssdlite_mobilenet_v2"]
