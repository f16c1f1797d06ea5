"""timm's ``mobilenetv2_*``."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mobilevision.backbone.image_network import Scalar
from mobilevision.weights.card import Weights, WeightsCard
from mobilevision.weights.layout import PYTORCH_OPTIONS, Names, places, take_backbone, take_linear

FIRST_BLOCK = (("depthwise", "conv_dw", "bn1"), ("project", "conv_pw", "bn2"))
BLOCK = (("expand", "conv_pw", "bn1"), ("depthwise", "conv_dw", "bn2"), ("project", "conv_pwl", "bn3"))


def is_timm(tensors: Mapping[str, Tensor]) -> bool:
    """Say whether tensors have timm's names."""
    return {"conv_stem.weight", "blocks.0.0.conv_dw.weight"} <= tensors.keys()


def map_timm(tensors: Mapping[str, Tensor], config: Mapping[str, Any] | None = None) -> Weights:
    """Give the tensors and options of ``mobilenet_v2``, of any width, depth and number of classes.

    Args:
        tensors: By timm's names.
        config: What lies beside the file as ``config.json``, if anything: it says how pictures become pixels.

    Raises:
        ValueError: A tensor is missing or has another form, or there are parts that MobileNetV2 does not have.
    """
    strange = sorted(name for name in tensors if ".se." in name or re.match(r"blocks\.([7-9]|\d\d)", name))
    if strange:
        raise ValueError(f"it is another network of timm's: MobileNetV2 has no {strange[0]}")
    taken, options = take_backbone(tensors, _layout(tensors), {**PYTORCH_OPTIONS, **_pixel_options(config or {})})
    taken |= take_linear(tensors, "classifier")
    return Weights(taken, WeightsCard("mobilenet_v2", {"num_classes": len(taken["head.linear.bias"]), **options}))


def _layout(tensors: Mapping[str, Tensor]) -> dict[str, Names]:
    found = {match.groups() for name in tensors if (match := re.match(r"blocks\.(\d+)\.(\d+)\.", name))}
    num_blocks = [sum(stage == str(number) for stage, _ in found) for number in range(7)]
    layout = {"backbone.stem": Names("conv_stem", "bn1"), "backbone.last": Names("conv_head", "bn2")}
    for place in places(num_blocks):
        source = f"blocks.{place.stage - 1}.{place.block}"
        for part, conv, norm in BLOCK if place.stage > 1 else FIRST_BLOCK:
            layout[f"{place.name}.{part}"] = Names(f"{source}.{conv}", f"{source}.{norm}")
    return layout


def _pixel_options(config: Mapping[str, Any]) -> dict[str, Scalar]:
    said = config.get("pretrained_cfg", {})
    options: dict[str, Scalar] = {name: list(map(float, said[name])) for name in ("mean", "std") if name in said}
    if "input_size" in said:
        options["input_size"] = int(said["input_size"][-1])
    if "crop_pct" in said:
        options["crop_share"] = float(said["crop_pct"])
    return options
