"""The MobileNetV2 of mmpretrain, mmdetection and mmsegmentation."""

from collections.abc import Mapping

from torch import Tensor

from mobilevision.weights.card import Weights, WeightsCard
from mobilevision.weights.layout import BACKBONE_ONLY, PYTORCH_OPTIONS, Names, places, take_backbone, take_linear

PREFIX = "backbone."
CLASSIFIER = "head.fc"
SSD_NECK = "neck.extra_layers."
SSD_EPS = 1e-3
"""mmdetection's SSDLite has TensorFlow's epsilon; nothing in its tensors shows it."""

PARTS = {"expand": "expand_conv", "depthwise": "depthwise_conv", "project": "linear_conv"}
"""mmdetection names what the others count."""


def is_openmmlab(tensors: Mapping[str, Tensor]) -> bool:
    """Say whether tensors have OpenMMLab's names, of a whole network or of its backbone alone."""
    return _find_prefix(tensors) is not None


def map_openmmlab(tensors: Mapping[str, Tensor]) -> Weights:
    """Give the tensors and options of ``mobilenet_v2``; of a detector or segmenter, those of the backbone alone.

    Raises:
        ValueError: A tensor is missing or has another form.
    """
    prefix = _find_prefix(tensors) or ""
    eps = SSD_EPS if any(name.startswith(SSD_NECK) for name in tensors) else PYTORCH_OPTIONS["norm_eps"]
    taken, options = take_backbone(tensors, _layout(tensors, prefix), {**PYTORCH_OPTIONS, "norm_eps": eps})
    if f"{CLASSIFIER}.weight" not in tensors:
        return Weights(taken, WeightsCard(BACKBONE_ONLY, options))
    taken |= take_linear(tensors, CLASSIFIER)
    return Weights(taken, WeightsCard("mobilenet_v2", {"num_classes": len(taken["head.linear.bias"]), **options}))


def _find_prefix(tensors: Mapping[str, Tensor]) -> str | None:
    for prefix in (PREFIX, ""):
        first_filters = {f"{prefix}layer1.0.{part}.conv.weight" for part in ("conv.0", PARTS["depthwise"])}
        if f"{prefix}conv1.conv.weight" in tensors and first_filters & tensors.keys():
            return prefix
    return None


def _layout(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Names]:
    def names(source: str) -> Names:
        return Names(f"{prefix}{source}.conv", f"{prefix}{source}.bn")

    counted = f"{prefix}layer1.0.conv.0.conv.weight" in tensors
    layout = {"backbone.stem": names("conv1")}
    for place in places():
        parts = list(PARTS) if place.stage > 1 else list(PARTS)[1:]
        for position, part in enumerate(parts):
            source = f"conv.{position}" if counted else PARTS[part]
            layout[f"{place.name}.{part}"] = names(f"layer{place.stage}.{place.block}.{source}")
    if f"{prefix}conv2.conv.weight" in tensors:
        layout["backbone.last"] = names("conv2")
    return layout
