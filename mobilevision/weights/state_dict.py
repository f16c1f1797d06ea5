"""Tensors of other PyTorch programs, recognized by their names."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from mobilevision.weights.card import Weights
from mobilevision.weights.huggingface import is_huggingface, map_huggingface
from mobilevision.weights.openmmlab import is_openmmlab, map_openmmlab
from mobilevision.weights.timm import is_timm, map_timm
from mobilevision.weights.torchvision import is_torchvision, map_torchvision

CONFIG = "config.json"
MAX_CONFIG_SIZE = 2**20


def read_state_dict(tensors: Mapping[str, Tensor], path: Path) -> Weights:
    """Return tensors of another PyTorch program as weights of this library.

    Args:
        tensors: By its names.
        path: The file that they were read from, for their provenance and for the configuration beside it.

    Raises:
        ValueError: They are of no program that is known, or not of its MobileNetV2.
    """
    weights = recognize_state_dict(tensors, read_config(path.with_name(CONFIG)))
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return weights._replace(card=weights.card._replace(provenance={"source": path.name, "sha256": sha256}))


def recognize_state_dict(tensors: Mapping[str, Tensor], config: Mapping[str, Any] | None = None) -> Weights:
    """Return tensors of another PyTorch program as weights of this library.

    Args:
        tensors: By its names.
        config: The ``config.json`` beside them, if there is one.

    Raises:
        ValueError: They are of no program that is known, or not of its MobileNetV2.
    """
    if is_torchvision(tensors):
        return map_torchvision(tensors)
    if is_timm(tensors):
        return map_timm(tensors, config)
    if is_openmmlab(tensors):
        return map_openmmlab(tensors)
    if is_huggingface(tensors):
        if config is None:
            raise ValueError(f"its {CONFIG} must lie beside it: it holds padding, epsilon and classes")
        return map_huggingface(tensors, config)
    raise ValueError(
        "it does not carry a description of this library, and its tensors are not those of a MobileNetV2 of "
        f"torchvision, timm, OpenMMLab or transformers, the first is {next(iter(sorted(tensors)), 'missing')}"
    )


def read_config(path: Path) -> dict[str, Any] | None:
    """Read a ``config.json``, if there is one.

    Raises:
        ValueError: It is too large, damaged or no mapping.
    """
    if not path.is_file():
        return None
    try:
        if path.stat().st_size > MAX_CONFIG_SIZE:
            raise ValueError("it is too large")
        config = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no configuration: {error}") from error
    if not isinstance(config, dict):
        raise ValueError(f"{path} is no configuration: it is a {type(config).__name__}")
    return config
