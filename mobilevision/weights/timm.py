"""timm's ``mobilenetv2_*``."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mobilevision.backbone.normalization import IMAGENET_MEAN, IMAGENET_STD
from mobilevision.weights.card import Weights
from mobilevision.weights.layout import Names, Tensors, TrainedOptions, add_classifier, places, read_backbone

FIRST_BLOCK = (("depthwise", "conv_dw", "bn1"), ("project", "conv_pw", "bn2"))
BLOCK = (("expand", "conv_pw", "bn1"), ("depthwise", "conv_dw", "bn2"), ("project", "conv_pwl", "bn3"))


def is_timm(tensors: Mapping[str, Tensor]) -> bool:
    """Return whether tensors have timm's names."""
    return {"conv_stem.weight", "blocks.0.0.conv_dw.weight"} <= tensors.keys()


def map_timm(tensors: Tensors, config: Mapping[str, Any] | None = None) -> Weights:
    """Return the weights of a classifier of any width, depth and number of classes, or of its backbone alone.

    Args:
        tensors: By timm's names.
        config: The ``config.json`` beside the file, if there is one: it describes the evaluation transform.

    Raises:
        ValueError: A tensor is missing or has another form, or there are parts that MobileNetV2 does not have.
    """
    strange = sorted(name for name in tensors if ".se." in name or re.match(r"blocks\.([7-9]|\d\d)", name))
    if strange:
        raise ValueError(f"it is another network of timm's: MobileNetV2 has no {strange[0]}")
    stated = (config or {}).get("pretrained_cfg", {})
    training = TrainedOptions(
        mean=[float(value) for value in stated.get("mean", IMAGENET_MEAN)],
        std=[float(value) for value in stated.get("std", IMAGENET_STD)],
    )
    transform: dict[str, Any] = {}
    if "input_size" in stated:
        transform["input_size"] = int(stated["input_size"][-1])
    if "crop_pct" in stated:
        transform["crop_share"] = float(stated["crop_pct"])
    return add_classifier(read_backbone(tensors, _layout(tensors), training), tensors, "classifier", **transform)


def _layout(tensors: Mapping[str, Tensor]) -> dict[str, Names]:
    found = {match.groups() for name in tensors if (match := re.match(r"blocks\.(\d+)\.(\d+)\.", name))}
    num_blocks = [sum(stage == str(number) for stage, _ in found) for number in range(7)]
    layout = {"backbone.stem": Names("conv_stem", "bn1"), "backbone.last": Names("conv_head", "bn2")}
    for place in places(num_blocks):
        source = f"blocks.{place.stage - 1}.{place.block}"
        for part, conv, norm in BLOCK if place.stage > 1 else FIRST_BLOCK:
            layout[f"{place.name}.{part}"] = Names(f"{source}.{conv}", f"{source}.{norm}")
    return layout
