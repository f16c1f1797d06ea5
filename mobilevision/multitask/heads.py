"""Networks with several heads on one backbone, of any tasks and under any names."""

from collections.abc import Mapping, Sequence
from typing import Any

from mobilevision.backbone.mobilenet_v2 import BackboneConfig
from mobilevision.backbone.normalization import SYMMETRIC_MEAN, SYMMETRIC_STD, Normalization
from mobilevision.classification.head import Classifier
from mobilevision.detection.head import SSDLite
from mobilevision.network import Network
from mobilevision.options import check_names, field_names
from mobilevision.segmentation.head import DeepLabV3
from mobilevision.weights.build import Networks, build_network, resolve_head
from mobilevision.weights.card import HeadCard, WeightsCard

NETWORKS: Networks = {network.head_class.task: network for network in (Classifier, SSDLite, DeepLabV3)}
"""The networks for one task, by task."""

HeadOptions = Mapping[str, Mapping[str, Any]]
"""Options by head: the fields of its config, ``task`` where the name is none, ``class_names``, a detector's ``preset``."""


def resolve_heads(
    heads: Sequence[str] | HeadOptions, theirs: Mapping[str, HeadCard] = {}
) -> tuple[dict[str, HeadCard], dict[str, Any]]:
    """Return the descriptions of heads: what is given, else what the weights have, else the defaults.

    Args:
        heads: Names of tasks, or options by head.
        theirs: The heads of the weights that they will start from.

    Returns:
        The descriptions, and the options of the backbone that a detector's ``preset`` stands for.

    Raises:
        ValueError: There are none, or an unknown task or option.
    """
    given: HeadOptions = heads if isinstance(heads, Mapping) else {task: {} for task in heads}
    if not given:
        raise ValueError(f"heads must be one or more, such as {', '.join(NETWORKS)}, got none")
    cards, backbone = {}, {}
    for name, stated in given.items():
        options = dict(stated)
        known = theirs.get(name)
        task = options.pop("task", known.task if known else name)
        check_names(f"task of the head {name}", [task], NETWORKS)
        shared = [option for option in options if option in field_names(BackboneConfig)]
        if shared:
            raise ValueError(f"{shared[0]} must be given for all heads together, got it for {name}")
        if known is None or known.task != task:
            alike = [head for head in theirs.values() if head.task == task]
            known = alike[0] if len(alike) == 1 else None
        cards[name], of_preset = resolve_head(NETWORKS[task], options, known)
        backbone |= of_preset
    return cards, backbone


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
    cards, of_presets = resolve_heads(heads)
    network = build_network(WeightsCard(BackboneConfig(**{**of_presets, **options}), cards), NETWORKS)
    network.normalization = Normalization(mean, std)
    return network
