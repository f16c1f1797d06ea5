"""Tensors of other PyTorch programs, recognized by their names."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from mobilevision.weights import huggingface, openmmlab
from mobilevision.weights.card import Weights
from mobilevision.weights.huggingface import is_huggingface, map_huggingface
from mobilevision.weights.layout import Tensors
from mobilevision.weights.openmmlab import is_openmmlab, map_openmmlab
from mobilevision.weights.timm import is_timm, map_timm
from mobilevision.weights.torchvision import is_torchvision, map_torchvision

CONFIG = "config.json"
MAX_CONFIG_SIZE = 2**20

FEATURES = "features."
FIRST_TENSORS = (
    ("1.conv.0.0.weight", FEATURES),
    ("conv_stem.weight", ""),
    ("conv1.conv.weight", openmmlab.PREFIX),
    ("conv_stem.first_conv.convolution.weight", huggingface.PREFIX),
)
"""The end of a name by which a program's network is known, and the part of its own names before it."""

NUM_NAMED = 5
"""Unknown tensors that are named."""


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
    provenance = {"source": path.name, "sha256": sha256, **weights.card.provenance}
    return weights._replace(card=weights.card._replace(provenance=provenance))


def recognize_state_dict(tensors: Mapping[str, Tensor], config: Mapping[str, Any] | None = None) -> Weights:
    """Return tensors of another PyTorch program as weights of this library.

    A prefix in front of all of the network's names is dropped. Tensors that the program's MobileNetV2 does not have,
    of another head most often, leave the backbone alone, and are named in the weights' provenance.

    Args:
        tensors: By its names.
        config: The ``config.json`` beside them, if there is one.

    Raises:
        ValueError: They are of no program that is known, not of its MobileNetV2, or of several networks.
    """
    found = {prefix: inner for prefix in find_prefixes(tensors) if (inner := strip_prefix(tensors, prefix)) is not None}
    if len(found) > 1:
        raise ValueError(f"it holds {len(found)} networks, {', '.join(sorted(found))}: keep the tensors of one of them")
    if not found:
        raise ValueError(
            "it does not carry a description of this library, and its tensors are not those of a MobileNetV2 of "
            f"torchvision, timm, OpenMMLab or transformers, the first is {next(iter(sorted(tensors)), 'missing')}"
        )
    (inner,) = found.values()
    weights = _map(inner, config)
    unread = inner.unread
    if not unread:
        return weights
    listed = ", ".join(unread[:NUM_NAMED]) + (f" and {len(unread) - NUM_NAMED} more" if unread[NUM_NAMED:] else "")
    backbone = {name: tensor for name, tensor in weights.tensors.items() if not name.startswith("heads.")}
    return Weights(backbone, weights.card._replace(heads={}, provenance={"unknown": listed}))


def find_prefixes(tensors: Mapping[str, Tensor]) -> set[str]:
    """Return what may stand before the names of a known program's network."""
    prefixes = set()
    for name in tensors:
        for first, part in FIRST_TENSORS:
            prefix = name.removesuffix(first)
            if prefix != name and (not prefix or prefix.endswith(".")):
                inner = prefix.removesuffix(part)
                prefixes.add(inner if not inner or inner.endswith(".") else prefix)
    return prefixes


def strip_prefix(tensors: Mapping[str, Tensor], prefix: str) -> Tensors | None:
    """Return tensors by their names without a prefix, or None where they are of no known program then.

    torchvision's backbone may stand alone, without the ``features`` before its names.
    """
    for part in ("", FEATURES):
        inner = Tensors(
            {
                part + name.removeprefix(prefix) if name.startswith(prefix) else name: tensor
                for name, tensor in tensors.items()
            }
        )
        if any(is_known(inner) for is_known in (is_torchvision, is_timm, is_openmmlab, is_huggingface)):
            return inner
    return None


def _map(tensors: Tensors, config: Mapping[str, Any] | None) -> Weights:
    if is_torchvision(tensors):
        return map_torchvision(tensors)
    if is_timm(tensors):
        return map_timm(tensors, config)
    if is_openmmlab(tensors):
        return map_openmmlab(tensors)
    if config is None:
        raise ValueError(f"its {CONFIG} must lie beside it: it holds padding, epsilon and classes")
    return map_huggingface(tensors, config)


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
