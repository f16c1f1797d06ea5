"""The MobileNetV2 of Hugging Face's transformers."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mobilevision.backbone.normalization import SYMMETRIC_MEAN, SYMMETRIC_STD
from mobilevision.weights.card import Weights
from mobilevision.weights.layout import (
    Names,
    Tensors,
    TrainedOptions,
    add_head,
    background_option,
    places,
    read_backbone,
    read_conv_norm,
    read_linear,
    read_tensor,
)

PREFIX = "mobilenet_v2."
HEAD = "segmentation_head"
LOGITS = f"{HEAD}.classifier.convolution"
HEAD_EPS = 1e-5
"""Of the segmenter's head, whatever the configuration has for the backbone."""

PARTS = {"expand": "expand_1x1", "depthwise": "conv_3x3", "project": "reduce_1x1"}
BRANCHES = {"pool": "conv_pool", "pixel": "conv_aspp", "project": "conv_projection"}

UNDERSTOOD: Mapping[str, tuple[Any, ...]] = {
    "model_type": ("mobilenet_v2",),
    "num_channels": (3,),
    "expand_ratio": (6,),
    "first_layer_is_expansion": (True,),
    "hidden_act": ("relu6",),
}
"""Values that a configuration may have, by name; the first is the default."""

LARGER_BY = 32
"""Pixels that the short side is resized to beyond the input's side."""


def is_huggingface(tensors: Mapping[str, Tensor]) -> bool:
    """Return whether tensors have transformers' names, of a whole network or of its backbone alone."""
    return any(f"{prefix}conv_stem.first_conv.convolution.weight" in tensors for prefix in (PREFIX, ""))


def map_huggingface(tensors: Tensors, config: Mapping[str, Any]) -> Weights:
    """Return the weights of a classifier, a segmenter or a backbone alone.

    Args:
        tensors: By transformers' names.
        config: The ``config.json`` beside the file.

    Raises:
        ValueError: A tensor is missing or has another form, or the configuration is not understood.
    """
    for name, values in UNDERSTOOD.items():
        if config.get(name, values[0]) not in values:
            raise ValueError(f"expected {name} {values[0]} in its config.json, found {config[name]}")
    prefix = PREFIX if f"{PREFIX}conv_stem.first_conv.convolution.weight" in tensors else ""
    training = TrainedOptions(
        "tf_same" if config.get("tf_padding", True) else "symmetric",
        float(config.get("layer_norm_eps", 1e-3)),
        SYMMETRIC_MEAN,
        SYMMETRIC_STD,
    )
    weights = read_backbone(tensors, _layout(prefix), training)
    if tensors.end_in(HEAD):
        return _add_segmenter(weights, tensors, config)
    return _add_classifier(weights, tensors, config) if tensors.end_in("classifier") else weights


def _layout(prefix: str) -> dict[str, Names]:
    def names(source: str) -> Names:
        return _names(f"{prefix}{source}")

    layout = {"backbone.stem": names("conv_stem.first_conv"), "backbone.last": names("conv_1x1")}
    for place in places():
        # The first block is a part of the stem here.
        source = f"layer.{place.number - 1}" if place.number else "conv_stem"
        for part, theirs in PARTS.items():
            if place.number or part != "expand":
                layout[f"{place.name}.{part}"] = names(f"{source}.{theirs}")
    return layout


def _names(source: str) -> Names:
    return Names(f"{source}.convolution", f"{source}.normalization")


def _add_classifier(weights: Weights, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> Weights:
    linear, names, common = read_linear(tensors, "classifier"), _class_names(config), _common_options(config)
    num_classes, side = len(linear["linear.bias"]), common["input_size"]
    options = {**common, "num_classes": num_classes, "crop_share": side / (side + LARGER_BY)}
    return add_head(weights, "classification", linear, options | background_option(num_classes, names), names)


def _add_segmenter(weights: Weights, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> Weights:
    head: dict[str, Tensor] = {}
    for ours, theirs in BRANCHES.items():
        head |= read_conv_norm(tensors, ours, _names(f"{HEAD}.{theirs}"))
    head["logits.weight"] = read_tensor(tensors, f"{LOGITS}.weight", num_dimensions=4)
    head["logits.bias"] = read_tensor(tensors, f"{LOGITS}.bias", num_dimensions=1)
    options = {**_common_options(config), "num_classes": len(head["logits.bias"]), "head_norm_eps": HEAD_EPS}
    return add_head(weights, "segmentation", head, options, _class_names(config))


def _common_options(config: Mapping[str, Any]) -> dict[str, int]:
    return {"output_stride": int(config.get("output_stride", 32)), "input_size": int(config.get("image_size", 224))}


def _class_names(config: Mapping[str, Any]) -> tuple[str, ...]:
    labels = config.get("id2label")
    if not isinstance(labels, dict) or set(labels) != {str(index) for index in range(len(labels))}:
        return ()
    names = tuple(str(labels[str(index)]) for index in range(len(labels)))
    # What transformers writes where nobody has named the classes.
    return () if names == tuple(f"LABEL_{index}" for index in range(len(names))) else names
