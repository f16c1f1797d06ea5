"""The MobileNetV2 of Hugging Face's transformers."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mobilevision.backbone.image_network import Scalar
from mobilevision.backbone.normalization import SYMMETRIC_MEAN, SYMMETRIC_STD
from mobilevision.weights.card import Weights, WeightsCard
from mobilevision.weights.classes import background_option
from mobilevision.weights.layout import (
    BACKBONE_ONLY,
    Names,
    places,
    take,
    take_backbone,
    take_conv_norm,
    take_linear,
)

PREFIX = "mobilenet_v2."
HEAD = "segmentation_head"
HEAD_EPS = 1e-5
"""Of the segmenter's head, whatever the configuration says of the backbone."""

PARTS = {"expand": "expand_1x1", "depthwise": "conv_3x3", "project": "reduce_1x1"}
BRANCHES = {"pool": "conv_pool", "pixel": "conv_aspp", "project": "conv_projection"}

UNDERSTOOD: Mapping[str, tuple[Any, ...]] = {
    "model_type": ("mobilenet_v2",),
    "num_channels": (3,),
    "expand_ratio": (6,),
    "first_layer_is_expansion": (True,),
    "hidden_act": ("relu6",),
}
"""By name, what a configuration may say; the first is what one means that says nothing."""

LARGER_BY = 32
"""Pixels that the short side is resized to beyond the input's side."""


def is_huggingface(tensors: Mapping[str, Tensor]) -> bool:
    """Say whether tensors have transformers' names, of a whole network or of its backbone alone."""
    return any(f"{prefix}conv_stem.first_conv.convolution.weight" in tensors for prefix in (PREFIX, ""))


def map_huggingface(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> Weights:
    """Give the tensors and options of ``mobilenet_v2`` or ``deeplabv3_mobilenet_v2``.

    Args:
        tensors: By transformers' names.
        config: What lies beside the file as ``config.json``.

    Raises:
        ValueError: A tensor is missing or has another form, or the configuration says what is not understood.
    """
    for name, values in UNDERSTOOD.items():
        if config.get(name, values[0]) not in values:
            raise ValueError(f"expected {name} {values[0]} in its config.json, found {config[name]}")
    prefix = PREFIX if f"{PREFIX}conv_stem.first_conv.convolution.weight" in tensors else ""
    segmenter = f"{HEAD}.classifier.convolution.weight" in tensors
    given: dict[str, Scalar] = {
        "padding": "tf_same" if config.get("tf_padding", True) else "symmetric",
        "norm_eps": float(config.get("layer_norm_eps", 1e-3)),
        "mean": list(SYMMETRIC_MEAN),
        "std": list(SYMMETRIC_STD),
    }
    taken, options = take_backbone(tensors, _layout(prefix, last=not segmenter), given)
    if not segmenter and "classifier.weight" not in tensors:
        return Weights(taken, WeightsCard(BACKBONE_ONLY, options))
    side = int(config.get("image_size", 224))
    options |= {"output_stride": int(config.get("output_stride", 32)), "input_size": side}
    names = _class_names(config)
    if segmenter:
        taken |= _take_head(tensors)
        num_classes = len(taken["head.logits.bias"])
        options |= {"num_classes": num_classes, "head_norm_eps": HEAD_EPS}
        model = "deeplabv3_mobilenet_v2"
    else:
        taken |= take_linear(tensors, "classifier")
        num_classes = len(taken["head.linear.bias"])
        options |= {"num_classes": num_classes, "crop_share": side / (side + LARGER_BY)}
        options |= background_option(num_classes, names)
        model = "mobilenet_v2"
    return Weights(taken, WeightsCard(model, options, names if len(names) == num_classes else ()))


def _layout(prefix: str, *, last: bool) -> dict[str, Names]:
    def names(source: str) -> Names:
        return Names(f"{prefix}{source}.convolution", f"{prefix}{source}.normalization")

    layout = {"backbone.stem": names("conv_stem.first_conv")}
    for place in places():
        # The first block is a part of the stem here.
        source = f"layer.{place.number - 1}" if place.number else "conv_stem"
        for part, theirs in PARTS.items():
            if place.number or part != "expand":
                layout[f"{place.name}.{part}"] = names(f"{source}.{theirs}")
    if last:
        layout["backbone.last"] = names("conv_1x1")
    return layout


def _take_head(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    taken: dict[str, Tensor] = {}
    for ours, theirs in BRANCHES.items():
        names = Names(f"{HEAD}.{theirs}.convolution", f"{HEAD}.{theirs}.normalization")
        taken |= take_conv_norm(tensors, f"head.{ours}", names)
    logits = f"{HEAD}.classifier.convolution"
    return {
        **taken,
        "head.logits.weight": take(tensors, f"{logits}.weight", num_dimensions=4),
        "head.logits.bias": take(tensors, f"{logits}.bias", num_dimensions=1),
    }


def _class_names(config: Mapping[str, Any]) -> tuple[str, ...]:
    labels = config.get("id2label")
    if not isinstance(labels, dict) or set(labels) != {str(index) for index in range(len(labels))}:
        return ()
    names = tuple(str(labels[str(index)]) for index in range(len(labels)))
    # What transformers writes where nobody has named the classes.
    return () if names == tuple(f"LABEL_{index}" for index in range(len(names))) else names
