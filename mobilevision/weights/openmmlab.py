"""The MobileNetV2 of mmpretrain, mmdetection and mmsegmentation."""

from collections.abc import Mapping

from torch import Tensor

from mobilevision.weights.card import Weights
from mobilevision.weights.layout import Names, Tensors, TrainedOptions, add_classifier, places, read_backbone

PREFIX = "backbone."
CLASSIFIER = "head.fc"
SSD_NECK = "neck.extra_layers."
SSD_EPS = 1e-3
"""mmdetection's SSDLite has TensorFlow's epsilon; nothing in its tensors shows it."""

PARTS = {"expand": "expand_conv", "depthwise": "depthwise_conv", "project": "linear_conv"}
"""mmdetection names the convolutions of a block, the others number them."""


def is_openmmlab(tensors: Mapping[str, Tensor]) -> bool:
    """Return whether tensors have OpenMMLab's names, of a whole network or of its backbone alone."""
    return _find_prefix(tensors) is not None


def map_openmmlab(tensors: Tensors) -> Weights:
    """Return the weights of a classifier; of a detector or segmenter, those of the backbone alone.

    Raises:
        ValueError: A tensor is missing or has another form.
    """
    is_ssd = any(name.startswith(SSD_NECK) for name in tensors)
    training = TrainedOptions(norm_eps=SSD_EPS) if is_ssd else TrainedOptions()
    weights = read_backbone(tensors, _layout(tensors, _find_prefix(tensors) or ""), training)
    return add_classifier(weights, tensors, CLASSIFIER)


def _find_prefix(tensors: Mapping[str, Tensor]) -> str | None:
    for prefix in (PREFIX, ""):
        first_filters = {f"{prefix}layer1.0.{part}.conv.weight" for part in ("conv.0", PARTS["depthwise"])}
        if f"{prefix}conv1.conv.weight" in tensors and first_filters & tensors.keys():
            return prefix
    return None


def _layout(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Names]:
    def names(source: str) -> Names:
        return Names(f"{prefix}{source}.conv", f"{prefix}{source}.bn")

    numbered = f"{prefix}layer1.0.conv.0.conv.weight" in tensors
    layout = {"backbone.stem": names("conv1"), "backbone.last": names("conv2")}
    for place in places():
        parts = list(PARTS) if place.stage > 1 else list(PARTS)[1:]
        for position, part in enumerate(parts):
            source = f"conv.{position}" if numbered else PARTS[part]
            layout[f"{place.name}.{part}"] = names(f"layer{place.stage}.{place.block}.{source}")
    return layout
