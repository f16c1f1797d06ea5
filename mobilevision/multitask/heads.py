"""Networks with several heads on one backbone, of any tasks and under any names."""

from collections.abc import Sequence
from typing import Any

from mobilevision.backbone.mobilenet_v2 import BackboneConfig
from mobilevision.backbone.normalization import SYMMETRIC_MEAN, SYMMETRIC_STD, Normalization
from mobilevision.classification.head import Classifier
from mobilevision.detection.head import SSDLite
from mobilevision.network import Network
from mobilevision.options import check_names, field_names
from mobilevision.segmentation.head import DeepLabV3
from mobilevision.weights.build import HeadOptions, Networks, build_network, resolve_heads
from mobilevision.weights.card import WeightsCard

NETWORKS: Networks = {network.head_class.task: network for network in (Classifier, SSDLite, DeepLabV3)}
"""The networks for one task, by task."""


def multitask_mobilenet_v2(
    heads: Sequence[str] | HeadOptions = tuple(NETWORKS),
    *,
    mean: Sequence[float] = SYMMETRIC_MEAN,
    std: Sequence[float] = SYMMETRIC_STD,
    **options: Any,
) -> Network:
    """Build a network with several heads with randomly initialized weights.

    Args:
        heads: Any of ``classification``, ``detection`` and ``segmentation``; or options by head, under any names:
            ``{"signs": {"task": "detection", "num_classes": 20}}``. A head's options are the fields of its config.
            With ``output_stride`` 16, its default, the segmenter is the paper's, and the end of the backbone runs a
            second time for it, dilated; with 32 it reads what the others read, for less.
        mean: Of the pixels, for red, green and blue in [0, 1].
        std: Standard deviation of the pixels, for red, green and blue in [0, 1].
        options: Fields of :class:`BackboneConfig`.

    Raises:
        ValueError: An unknown task or option, or a value that is not allowed.

    >>> list(multitask_mobilenet_v2(("classification", "detection"), width_mult=0.35).heads)
    ['classification', 'detection']
    """
    check_names("option", options, field_names(BackboneConfig))
    cards, of_presets = resolve_heads(heads, {}, NETWORKS)
    network = build_network(WeightsCard(BackboneConfig(**{**of_presets, **options}), cards), NETWORKS)
    network.normalization = Normalization(mean, std)
    return network
