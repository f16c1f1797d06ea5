"""torchvision's ``mobilenet_v2``, in and out."""

from collections.abc import Mapping

import torch
from torch import Tensor

from mobilevision.backbone.mobilenet_v2 import BackboneConfig
from mobilevision.weights.card import Weights, WeightsCard
from mobilevision.weights.layout import (
    NORM_TENSORS,
    Names,
    Tensors,
    TrainedOptions,
    add_classifier,
    places,
    read_backbone,
)
from mobilevision.weights.width import count_channels

CLASSIFIER = "classifier.1"

LAYOUT: Mapping[str, Names] = {
    "backbone.stem": Names("features.0.0", "features.0.1"),
    **{
        f"{place.name}.{part}": Names(
            f"features.{place.number + 1}.conv.{conv}", f"features.{place.number + 1}.conv.{norm}"
        )
        for place in places()
        for part, conv, norm in (
            (("expand", "0.0", "0.1"), ("depthwise", "1.0", "1.1"), ("project", "2", "3"))
            if place.number
            else (("depthwise", "0.0", "0.1"), ("project", "1", "2"))
        )
    },
    "backbone.last": Names("features.18.0", "features.18.1"),
}
"""torchvision's names of each convolution and its normalization."""


def is_torchvision(tensors: Mapping[str, Tensor]) -> bool:
    """Return whether tensors have torchvision's names."""
    return {"features.0.0.weight", "features.1.conv.0.0.weight"} <= tensors.keys()


def map_torchvision(tensors: Tensors) -> Weights:
    """Return the weights of a classifier of any width and number of classes, or of its backbone alone.

    Raises:
        ValueError: A tensor is missing or has another form.
    """
    return add_classifier(read_backbone(tensors, LAYOUT), tensors, CLASSIFIER)


def to_torchvision(weights: Weights) -> dict[str, Tensor]:
    """Return a classifier's tensors as ``torchvision.models.mobilenet_v2`` loads them, strictly.

    The normalization of the pixels is not among them: torchvision leaves it to the caller. Where the epsilon differs
    from torchvision's, the variances make up for it.

    Raises:
        ValueError: It is no classifier, or one that torchvision cannot compute.
    """
    tensors, card = weights
    name = _check_computable(card)
    eps = TrainedOptions().norm_eps
    converted = {
        f"{CLASSIFIER}.{part}": tensors[f"heads.{name}.linear.{part}"].contiguous() for part in ("weight", "bias")
    }
    for ours, theirs in LAYOUT.items():
        converted[f"{theirs.conv}.weight"] = tensors[f"{ours}.conv.weight"].contiguous()
        for part in (*NORM_TENSORS, "num_batches_tracked"):
            converted[f"{theirs.norm}.{part}"] = tensors[f"{ours}.norm.{part}"]
        variance = tensors[f"{ours}.norm.running_var"].double() + (card.backbone.norm_eps - eps)
        converted[f"{theirs.norm}.running_var"] = variance.to(torch.float32)
    return converted


def _check_computable(card: WeightsCard) -> str:
    """Return the name of the head.

    Raises:
        ValueError: It is no classifier, or one that torchvision cannot compute.
    """
    if [head.task for head in card.heads.values()] != ["classification"]:
        raise ValueError(f"torchvision has classification only, got {card.tasks}")
    ((name, head),) = card.heads.items()
    for option, value, only in (
        ("padding", card.backbone.padding, "symmetric"),
        ("depth_mult", card.backbone.depth_mult, 1.0),
        ("output_stride", head.config.get("output_stride", 32), 32),
        (
            "channels",
            count_channels(card.backbone),
            count_channels(BackboneConfig(width_mult=card.backbone.width_mult)),
        ),
    ):
        if value != only:
            raise ValueError(f"torchvision's mobilenet_v2 has {option} {only} only, got {value}")
    return name
