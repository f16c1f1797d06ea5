"""Read descriptions and tensor names of version 1, in which each network had options and one ``head``."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mobilevision.backbone.mobilenet_v2 import BackboneConfig
from mobilevision.options import field_names
from mobilevision.weights.card import HeadCard, Weights, WeightsCard, read_json

TASKS: Mapping[str, str] = {
    "mobilenet_v2": "classification",
    "ssdlite_mobilenet_v2": "detection",
    "deeplabv3_mobilenet_v2": "segmentation",
}
"""The tasks of version 1's models; a model with several heads had the tasks as their names."""

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "paper320": {"input_size": 320},
    "tf300": {"input_size": 300, "min_channels": 16, "scale_last": True},
}

HEAD_PREFIX = "head."


def is_legacy(metadata: Mapping[str, str]) -> bool:
    """Return whether a description is of version 1."""
    return metadata.get("format") == "mobilevision" and "version" not in metadata


def upgrade_weights(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Weights:
    """Return tensors and description of version 1 as weights of today.

    Raises:
        ValueError: A part of the description is missing or damaged, or names an unknown model.
    """
    card = upgrade_card(metadata)
    return Weights(rename_tensors(tensors, card), card)


def upgrade_card(metadata: Mapping[str, str]) -> WeightsCard:
    """Return a description of version 1 as a card.

    Raises:
        ValueError: A part of it is missing or damaged, or names an unknown model.
    """
    model, options = metadata.get("model", ""), read_json(metadata, "options", dict)
    names, provenance = read_json(metadata, "class_names", list), read_json(metadata, "provenance", dict)
    heads = options.pop("heads", None)
    if heads is None:
        if model not in TASKS:
            raise ValueError(f"model in its description must be one of {', '.join(TASKS)}, got {model!r}")
        heads = {TASKS[model]: {**options, "class_names": names}}
    known = isinstance(heads, dict) and heads and set(heads) <= set(TASKS.values())
    if not known or not all(isinstance(given, dict) for given in heads.values()):
        raise ValueError(f"heads in its description must be options by {', '.join(TASKS.values())}, got {heads}")
    backbone: dict[str, Any] = {}
    cards = {}
    for task, given in heads.items():
        # Of a detector without a stated size the preset has it.
        stated = {name: value for name, value in given.items() if value is not None or name == "background"}
        config = {**PRESETS.get(stated.pop("preset", ""), {}), **stated}
        class_names = tuple(config.pop("class_names", ()))
        backbone |= {name: config.pop(name) for name in field_names(BackboneConfig) if name in config}
        cards[task] = HeadCard(task, {k: v for k, v in config.items() if k not in ("mean", "std")}, class_names)
    shared = {name: options[name] for name in field_names(BackboneConfig) if name in options}
    return WeightsCard(BackboneConfig(**{**backbone, **shared}), cards, provenance)


def rename_tensors(tensors: Mapping[str, Tensor], card: WeightsCard, prefix: str = "") -> dict[str, Tensor]:
    """Return the tensors of version 1 by today's names.

    Args:
        tensors: By their names.
        card: The upgraded description.
        prefix: In front of all names of the network: ``network.`` in a checkpoint.
    """
    (task, *_) = card.heads
    old, new = f"{prefix}{HEAD_PREFIX}", f"{prefix}heads.{task}."
    return {name.replace(old, new, 1) if name.startswith(old) else name: t for name, t in tensors.items()}
