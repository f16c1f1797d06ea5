"""Weights of several heads on one backbone: put together from those of single networks, and taken apart again."""

from collections.abc import Mapping
from typing import Any

from mobilevision.weights.card import Weights, WeightsCard

MODEL = "multitask_mobilenet_v2"
TASKS: Mapping[str, str] = {
    "mobilenet_v2": "classification",
    "ssdlite_mobilenet_v2": "detection",
    "deeplabv3_mobilenet_v2": "segmentation",
}
"""What the single networks are for."""
MODELS: Mapping[str, str] = {task: model for model, task in TASKS.items()}

SHARED_OPTIONS = (
    "width_mult",
    "padding",
    "round_to",
    "depth_mult",
    "fixed_ends",
    "norm_eps",
    "norm_momentum",
    "mean",
    "std",
)
"""Those of the backbone and its normalisation, which all heads have in common."""
COMPARED_OPTIONS = ("width_mult", "padding", "depth_mult", "norm_eps")
"""Of these the ones that backbones cannot differ in and be exchanged."""
CLASS_NAMES = "class_names"
"""Where the options of a head keep the names of its classes."""

COMMON_PREFIXES = ("backbone.", "normalization.")
LAST_PREFIX = "backbone.last."
HEAD_PREFIX = "head."


def combine_weights(parts: Mapping[str, Weights], backbone: str | None = None) -> Weights:
    """Put the heads of single networks on one of their backbones.

    Args:
        parts: By task.
        backbone: The task whose backbone and normalisation it is; the first one's that has all of it where None.

    Raises:
        ValueError: A task's weights are of another model, the backbones differ in width or padding, or the one chosen
            lacks the last convolution that others read.
    """
    for task, (_, card) in parts.items():
        if MODELS.get(task) != card.model:
            raise ValueError(f"expected weights of {MODELS.get(task, 'a known task')} for {task}, got {card.model}")
    chosen = _choose_backbone(parts, backbone)
    tensors, card = parts[chosen]
    for task, part in parts.items():
        _compare(chosen, parts[chosen], task, part)
    common = {name: tensor for name, tensor in tensors.items() if name.startswith(COMMON_PREFIXES)}
    heads: dict[str, dict[str, Any]] = {}
    for task in MODELS:
        if task in parts:
            common |= {_joint_name(name, task): t for name, t in parts[task].tensors.items() if _is_head(name)}
            own = {name: value for name, value in parts[task].card.options.items() if name not in SHARED_OPTIONS}
            heads[task] = {**own, CLASS_NAMES: list(parts[task].card.class_names)}
    shared = {name: card.options[name] for name in SHARED_OPTIONS if name in card.options}
    provenance = {f"{task} {key}": text for task, part in parts.items() for key, text in part.card.provenance.items()}
    return Weights(common, WeightsCard(MODEL, {"heads": heads, **shared}, (), {"backbone": chosen, **provenance}))


def split_weights(weights: Weights, task: str) -> Weights:
    """Give one head of a joint network back as a network of its own, with the common backbone.

    Raises:
        ValueError: The weights are of no joint network, or it has no such head.
    """
    given = heads_of(weights)
    if weights.card.model != MODEL or task not in given:
        raise ValueError(f"expected weights with a head for {task}, got {weights.card.model} for {', '.join(given)}")
    tensors, card = given[task]
    if task == "segmentation":
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(LAST_PREFIX)}
    return Weights(tensors, card)


def take_part(weights: Weights, model: str) -> Weights:
    """Give what a network called ``model`` can take: of a joint one's weights its own, of a single one's a joint one's.

    Raises:
        ValueError: It is a single network, and the joint one has no such head.
    """
    if weights.card.model == MODEL and model in TASKS:
        return split_weights(weights, TASKS[model])
    if weights.card.model in TASKS and model == MODEL:
        return combine_weights({TASKS[weights.card.model]: weights})
    return weights


def merge_heads(weights: Weights, heads: Any) -> dict[str, Any]:
    """Give the options of ``heads``: those that are said, and otherwise those of the weights.

    Args:
        weights: Of a joint network.
        heads: Names of tasks, or their options by name.
    """
    theirs = heads_of(weights)
    said = heads if isinstance(heads, Mapping) else {task: {} for task in heads}
    merged: dict[str, Any] = {}
    for task, options in said.items():
        merged[task] = dict(options)
        if task in theirs:
            card = theirs[task].card
            own = {name: value for name, value in card.options.items() if name not in SHARED_OPTIONS}
            merged[task] = {**own, **options}
            if merged[task].get("num_classes") == own.get("num_classes"):
                merged[task].setdefault(CLASS_NAMES, list(card.class_names))
    return merged


def heads_of(weights: Weights) -> dict[str, Weights]:
    """Give each head with the whole backbone, by task and under a single network's names; none where none is known.

    Raises:
        ValueError: The description of the heads is damaged.
    """
    tensors, card = weights
    if card.model in TASKS:
        return {TASKS[card.model]: weights}
    if card.model != MODEL:
        return {}
    heads = card.options.get("heads")
    if not isinstance(heads, dict) or not set(heads) <= set(MODELS):
        raise ValueError(f"its description must have heads among {', '.join(MODELS)}, got {heads}")
    common = {name: tensor for name, tensor in tensors.items() if name.startswith(COMMON_PREFIXES)}
    shared = {name: value for name, value in card.options.items() if name != "heads"}
    given = {}
    for task, options in heads.items():
        start = _joint_name(HEAD_PREFIX, task)
        head = {f"{HEAD_PREFIX}{name.removeprefix(start)}": t for name, t in tensors.items() if name.startswith(start)}
        own = {name: value for name, value in options.items() if name != CLASS_NAMES}
        names = tuple(options.get(CLASS_NAMES, ()))
        given[task] = Weights(common | head, WeightsCard(MODELS[task], {**shared, **own}, names, card.provenance))
    return given


def _is_head(name: str) -> bool:
    return name.startswith(HEAD_PREFIX)


def _joint_name(name: str, task: str) -> str:
    return f"heads.{task}.{name.removeprefix(HEAD_PREFIX)}"


def _choose_backbone(parts: Mapping[str, Weights], backbone: str | None) -> str:
    whole = [task for task, (tensors, _) in parts.items() if any(name.startswith(LAST_PREFIX) for name in tensors)]
    chosen = backbone or (whole or list(parts))[0]
    if chosen not in parts:
        raise ValueError(f"backbone must be one of {', '.join(parts)}, got {chosen}")
    readers = [task for task in parts if task != "segmentation"]
    if readers and chosen not in whole:
        raise ValueError(
            f"the backbone for {chosen} has no last convolution, which {' and '.join(readers)} read: take another"
        )
    return chosen


def _compare(chosen: str, ours: Weights, task: str, theirs: Weights) -> None:
    for name in COMPARED_OPTIONS:
        first, second = ours.card.options.get(name), theirs.card.options.get(name)
        if None not in (first, second) and first != second:
            raise ValueError(f"backbones must have one {name}, got {first} for {chosen} and {second} for {task}")
    for name, tensor in theirs.tensors.items():
        ours_too = ours.tensors.get(name)
        if name.startswith("backbone.") and ours_too is not None and ours_too.shape != tensor.shape:
            raise ValueError(
                f"backbones must have one shape, got {list(ours_too.shape)} for {chosen} and {list(tensor.shape)} for "
                f"{task} at {name}"
            )
