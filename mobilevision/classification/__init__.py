"""Classification: the MobileNetV2 classifier, its data, criterion, evaluator and task."""

from mobilevision.classification.head import ClassificationConfig, ClassificationHead, Classifier, mobilenet_v2

__all__ = ["ClassificationConfig", "ClassificationHead", "Classifier", "mobilenet_v2"]
