"""Put heads of several networks on one backbone, and take them apart again."""

from collections.abc import Mapping

from torch import Tensor

from mobilevision.weights.card import Weights, WeightsCard

COMPARED_OPTIONS = ("width_mult", "padding", "depth_mult", "norm_eps")
"""Options of the backbone that must agree for a backbone to be exchanged for another."""

COMMON_PREFIXES = ("backbone.", "normalization.")
LAST_PREFIX = "backbone.last."


def combine_weights(parts: Mapping[str, Weights], backbone: str | None = None) -> Weights:
    """Return the heads of several networks on the backbone of one of them.

    Args:
        parts: Weights of networks with one head, by the name that the head gets.
        backbone: The name of the part whose backbone and normalization are taken; the first that has all of the
            backbone where None.

    Raises:
        ValueError: A part has not exactly one head, the backbones differ in width or padding, or the one chosen lacks
            the last convolution that others read.
    """
    for name, (_, card) in parts.items():
        if len(card.heads) != 1:
            raise ValueError(f"{name} must be weights with one head, got {card.tasks}")
    chosen = _choose_backbone(parts, backbone)
    tensors, card = parts[chosen]
    for name, part in parts.items():
        _compare(chosen, parts[chosen], name, part)
    common = {name: tensor for name, tensor in tensors.items() if name.startswith(COMMON_PREFIXES)}
    heads = {}
    for name, (part_tensors, part_card) in parts.items():
        ((own_name, heads[name]),) = part_card.heads.items()
        common |= _take_head(part_tensors, own_name, name)
    provenance = {f"{name} {key}": text for name, part in parts.items() for key, text in part.card.provenance.items()}
    return Weights(common, WeightsCard(card.backbone, heads, {"backbone": chosen, **provenance}))


def split_weights(weights: Weights, name: str) -> Weights:
    """Return one head as weights of its own, with the common backbone.

    Raises:
        ValueError: There is no such head.
    """
    tensors, card = weights
    if name not in card.heads:
        raise ValueError(f"head must be one of {', '.join(card.heads)}, got {name!r}")
    common = {key: tensor for key, tensor in tensors.items() if key.startswith(COMMON_PREFIXES)}
    head = card.heads[name]
    return Weights(common | _take_head(tensors, name, head.task), card._replace(heads={head.task: head}))


def _take_head(tensors: Mapping[str, Tensor], name: str, new_name: str) -> dict[str, Tensor]:
    prefix = f"heads.{name}."
    return {
        f"heads.{new_name}.{key.removeprefix(prefix)}": tensor
        for key, tensor in tensors.items()
        if key.startswith(prefix)
    }


def _choose_backbone(parts: Mapping[str, Weights], backbone: str | None) -> str:
    whole = [name for name, (tensors, _) in parts.items() if any(key.startswith(LAST_PREFIX) for key in tensors)]
    chosen = backbone or (whole or list(parts))[0]
    if chosen not in parts:
        raise ValueError(f"backbone must be one of {', '.join(parts)}, got {chosen}")
    if whole and chosen not in whole:
        raise ValueError(
            f"the backbone of {chosen} has no last convolution, which {' and '.join(whole)} read: choose another"
        )
    return chosen


def _compare(chosen: str, ours: Weights, name: str, theirs: Weights) -> None:
    for option in COMPARED_OPTIONS:
        first, second = getattr(ours.card.backbone, option), getattr(theirs.card.backbone, option)
        if first != second:
            raise ValueError(f"backbones must have one {option}, got {first} for {chosen} and {second} for {name}")
    for key, tensor in theirs.tensors.items():
        same = ours.tensors.get(key)
        if key.startswith("backbone.") and same is not None and same.shape != tensor.shape:
            raise ValueError(
                f"backbones must have one shape, got {list(same.shape)} for {chosen} and {list(tensor.shape)} for "
                f"{name} at {key}"
            )
