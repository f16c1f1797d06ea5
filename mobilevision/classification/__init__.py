"""The classification network."""

from mobilevision.classification.classifier import Classifier, mobilenet_v2

__all__ = ["Classifier", "mobilenet_v2"]
