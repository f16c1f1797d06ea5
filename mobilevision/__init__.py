"""MobileNetV2 for classification, detection and segmentation, exact to the paper.

Names are imported when they are first asked for, so that ``import mobilevision`` costs nothing and a network is had
without the libraries that train it.
"""

import os
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mobilevision.backbone import MobileNetV2
    from mobilevision.inference.predictor import Predictor, inference_model
    from mobilevision.models import get_model, list_models, load_model
    from mobilevision.weights.file import save_weights

# Or importing albumentations asks pypi.org for its latest version.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

__version__ = version("mobilevision")

__all__ = [
    "MobileNetV2",
    "Predictor",
    "__version__",
    "get_model",
    "inference_model",
    "list_models",
    "load_model",
    "save_weights",
]

_HOMES = {
    "MobileNetV2": "mobilevision.backbone",
    "Predictor": "mobilevision.inference.predictor",
    "get_model": "mobilevision.models",
    "inference_model": "mobilevision.inference.predictor",
    "list_models": "mobilevision.models",
    "load_model": "mobilevision.models",
    "save_weights": "mobilevision.weights.file",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
