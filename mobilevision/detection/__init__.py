"""The detection network."""

from mobilevision.detection.ssdlite import SSDLite, ssdlite_mobilenet_v2

__all__ = ["SSDLite", "ssdlite_mobilenet_v2"]
