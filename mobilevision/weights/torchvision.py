"""torchvision's ``mobilenet_v2``, in and out."""

from collections.abc import Mapping

import torch
from torch import Tensor

from mobilevision.backbone.image_network import Scalar
from mobilevision.weights.card import Weights, WeightsCard
from mobilevision.weights.layout import NORM_TENSORS, Names, places, take_backbone, take_linear

CLASSIFIER = "classifier.1"
EPS = 1e-5
"""Of torchvision's normalisation, which is not in its files."""

COMPUTED: Mapping[str, Scalar] = {
    "padding": "symmetric",
    "round_to": 8,
    "output_stride": 32,
    "depth_mult": 1.0,
    "fixed_ends": False,
    "scale_last": False,
}
"""What torchvision's network is of all that ours can be."""

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
"""What torchvision calls each of our convolutions."""


def is_torchvision(tensors: Mapping[str, Tensor]) -> bool:
    """Say whether tensors have torchvision's names."""
    return {"features.0.0.weight", "features.1.conv.0.0.weight"} <= tensors.keys()


def map_torchvision(tensors: Mapping[str, Tensor]) -> Weights:
    """Give the tensors and options of ``mobilenet_v2``, of any width and number of classes.

    Raises:
        ValueError: A tensor is missing or has another form.
    """
    taken, options = take_backbone(tensors, LAYOUT)
    taken |= take_linear(tensors, CLASSIFIER)
    return Weights(taken, WeightsCard("mobilenet_v2", {"num_classes": len(taken["head.linear.bias"]), **options}))


def to_torchvision(weights: Weights) -> dict[str, Tensor]:
    """Give a classifier's tensors as ``torchvision.models.mobilenet_v2`` loads them, strictly.

    The pixels' normalisation is not among them: torchvision leaves it to the caller. Another epsilon than torchvision's
    is made good for in the variance.

    Raises:
        ValueError: It is no classifier, or one that torchvision cannot compute.
    """
    tensors, card = weights
    if card.model != "mobilenet_v2":
        raise ValueError(f"torchvision has the classifier mobilenet_v2 only, got {card.model}")
    for name, value in COMPUTED.items():
        if card.options.get(name, value) != value:
            raise ValueError(f"torchvision's mobilenet_v2 has {name} {value} only, got {card.options[name]}")
    eps = card.options.get("norm_eps", EPS)
    assert isinstance(eps, float)
    given = {"classifier.1.weight": tensors["head.linear.weight"], "classifier.1.bias": tensors["head.linear.bias"]}
    for ours, theirs in LAYOUT.items():
        given[f"{theirs.conv}.weight"] = tensors[f"{ours}.conv.weight"]
        for part in (*NORM_TENSORS, "num_batches_tracked"):
            given[f"{theirs.norm}.{part}"] = tensors[f"{ours}.norm.{part}"]
        variance = tensors[f"{ours}.norm.running_var"].double() + (eps - EPS)
        given[f"{theirs.norm}.running_var"] = variance.to(torch.float32)
    return {name: tensor.contiguous() for name, tensor in given.items()}
