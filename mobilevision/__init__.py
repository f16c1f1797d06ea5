"""MobileNetV2 for classification, detection and segmentation, exact to the paper.

Names are imported when they are first used: ``import mobilevision`` costs nothing, and networks do not need the
libraries that train them.
"""

import os
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mobilevision.backbone import BackboneConfig, MobileNetV2, Normalization
    from mobilevision.classification.datamodule import ImageNetDataModule
    from mobilevision.classification.head import ClassificationConfig, ClassificationHead, Classifier
    from mobilevision.classification.task import ClassificationTask
    from mobilevision.detection.datamodule import CocoDataModule
    from mobilevision.detection.head import DetectionConfig, SSDLite, SSDLiteHead
    from mobilevision.detection.task import DetectionTask
    from mobilevision.head import Head
    from mobilevision.inference.predictor import Predictor, inference_model
    from mobilevision.models import get_model, list_models, load_model
    from mobilevision.multitask.datamodule import MultiTaskDataModule
    from mobilevision.multitask.task import MultiTaskTask
    from mobilevision.network import Network
    from mobilevision.segmentation.datamodule import MaskFolderDataModule, VocDataModule
    from mobilevision.segmentation.head import DeepLabHead, DeepLabV3, SegmentationConfig
    from mobilevision.segmentation.task import SegmentationTask
    from mobilevision.weights.file import save_weights

# Or importing albumentations asks pypi.org for its latest version.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

__version__ = version("mobilevision")

_MODULES = {
    "backbone": ("BackboneConfig", "MobileNetV2", "Normalization"),
    "classification.datamodule": ("ImageNetDataModule",),
    "classification.head": ("ClassificationConfig", "ClassificationHead", "Classifier"),
    "classification.task": ("ClassificationTask",),
    "detection.datamodule": ("CocoDataModule",),
    "detection.head": ("DetectionConfig", "SSDLite", "SSDLiteHead"),
    "detection.task": ("DetectionTask",),
    "head": ("Head",),
    "inference.predictor": ("Predictor", "inference_model"),
    "models": ("get_model", "list_models", "load_model"),
    "multitask.datamodule": ("MultiTaskDataModule",),
    "multitask.task": ("MultiTaskTask",),
    "network": ("Network",),
    "segmentation.datamodule": ("MaskFolderDataModule", "VocDataModule"),
    "segmentation.head": ("DeepLabHead", "DeepLabV3", "SegmentationConfig"),
    "segmentation.task": ("SegmentationTask",),
    "weights.file": ("save_weights",),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = ["__version__", *_HOMES]  # noqa: PLE0604 - the names are strings


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
