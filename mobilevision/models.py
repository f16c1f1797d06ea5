"""Build a network by its name, or from a weights file."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, fields, replace
from pathlib import Path
from typing import Any, Literal, overload

import torch

from mobilevision.backbone.mobilenet_v2 import BackboneConfig
from mobilevision.classification.head import ClassificationHead, mobilenet_v2, without_background
from mobilevision.detection.head import SSDLiteHead, ssdlite_mobilenet_v2
from mobilevision.multitask.heads import NETWORKS, multitask_mobilenet_v2
from mobilevision.network import Network
from mobilevision.options import check_names, field_names
from mobilevision.segmentation.head import DeepLabHead, deeplabv3_mobilenet_v2
from mobilevision.weights import classes
from mobilevision.weights.build import build_network as build_from_card
from mobilevision.weights.build import resolve_heads
from mobilevision.weights.card import Weights
from mobilevision.weights.combine import split_weights
from mobilevision.weights.file import read_weights
from mobilevision.weights.loading import build_loaded_network
from mobilevision.weights.zoo import ZOO, ZooEntry

MODELS: Mapping[str, Callable[..., Network]] = {
    "mobilenet_v2": mobilenet_v2,
    "ssdlite_mobilenet_v2": ssdlite_mobilenet_v2,
    "deeplabv3_mobilenet_v2": deeplabv3_mobilenet_v2,
    "multitask_mobilenet_v2": multitask_mobilenet_v2,
}

TASKS: Mapping[str, str] = {
    "mobilenet_v2": ClassificationHead.task,
    "ssdlite_mobilenet_v2": SSDLiteHead.task,
    "deeplabv3_mobilenet_v2": DeepLabHead.task,
}
"""The task of each network that has one."""


@overload
def list_models(pretrained: Literal[False] = False) -> list[str]: ...
@overload
def list_models(pretrained: Literal[True]) -> list[ZooEntry]: ...
def list_models(pretrained: bool = False) -> list[str] | list[ZooEntry]:
    """Return the names that :func:`get_model` knows.

    Args:
        pretrained: Return the published weights instead, whose names :func:`get_model` takes as ``pretrained``: their
            task, what they cost, and what their publishers measured.

    >>> list_models()
    ['mobilenet_v2', 'ssdlite_mobilenet_v2', 'deeplabv3_mobilenet_v2', 'multitask_mobilenet_v2']
    >>> [entry.published for entry in list_models(pretrained=True) if entry.name == "ssdlite_mobilenet_v2_coco"]
    ['COCO mAP 22 on a part of val 2014']
    """
    return list(ZOO.values()) if pretrained else list(MODELS)


def option_fields(name: str) -> dict[str, Field[Any]]:
    """Return the options of a network as dataclass fields, by name: those of its backbone and of its head.

    Raises:
        ValueError: ``name`` is unknown.
    """
    check_names("model", [name], MODELS)
    head = [NETWORKS[TASKS[name]].head_class.config_class] if name in TASKS else []
    configs: list[type] = [BackboneConfig, *head]
    return {field.name: field for config in configs for field in fields(config)}


def get_model(name: str, pretrained: bool | str | Path = False, **options: Any) -> Network:
    """Build a network, with randomly initialized weights or those of a file, in channels_last memory format.

    Args:
        name: One of :func:`list_models`.
        pretrained: A weights file of this library, of TensorFlow, torchvision, timm, OpenMMLab or Hugging Face, or the
            name of one of ``list_models(pretrained=True)``. The options of its network are the defaults then. A network
            with one head takes it from a file with several, and the other way round. False leaves the weights randomly
            initialized.
        options: Fields of :class:`BackboneConfig` and of the head's config; of ``multitask_mobilenet_v2`` also
            ``heads``. They override those of the file. With another ``num_classes``, or ``heads``, everything that fits
            is loaded, and a warning names the rest.

    Returns:
        A network in training mode if its weights are randomly initialized, in evaluation mode if they are loaded.

    Raises:
        FileNotFoundError: There is no such weights file.
        ValueError: An unknown name or option, or a file of another network.
        OSError: Published weights that cannot be fetched.

    >>> get_model("mobilenet_v2", num_classes=10, width_mult=0.35).head.linear
    Linear(in_features=1280, out_features=10, bias=True)
    """
    check_names("model", [name], MODELS)
    if pretrained is False:
        return MODELS[name](**options)
    path = _weights_path(pretrained)
    weights = read_weights(path)
    task = TASKS.get(name)
    if task is not None:
        weights = split_weights(weights, _find_head(weights, task, path))
    return build_network(weights, path, **options)


def load_model(path: str | Path, **options: Any) -> Network:
    """Build the network that a weights file describes, with its weights, in evaluation mode and channels_last format.

    Args:
        path: A weights file or the name of published weights, see ``pretrained`` of :func:`get_model`.
        options: Fields of :class:`BackboneConfig`, and of the head's config if there is one head; they override those
            of the file.

    Raises:
        FileNotFoundError: There is no such weights file.
        ValueError: It is none, or does not fit the options.
    """
    return build_network(read_weights(path), path, **options)


def build_network(
    weights: Weights,
    source: str | Path,
    *,
    heads: Sequence[str] | Mapping[str, Mapping[str, Any]] | None = None,
    **options: Any,
) -> Network:
    """Build the network of weights, with its weights, in evaluation mode.

    Args:
        weights: With at least one head, unless ``heads`` are given.
        source: The file that they were read from, for messages.
        heads: Names of the heads to have, or options by head; those of the weights where None.
        options: As in :func:`load_model`.

    Raises:
        ValueError: The weights do not fit the options, or are of a backbone alone.
    """
    card = weights.card
    if not card.heads:
        raise ValueError(
            f"{source} holds a backbone alone: start a network from it with backbone_weights{card.unknown}"
        )
    backbone = {option: options.pop(option) for option in field_names(BackboneConfig) if option in options}
    if options and len(card.heads) > 1:
        raise ValueError(f"options of a head must be given by head, as heads, got {', '.join(options)}")
    given = dict.fromkeys(card.heads, options) if heads is None else heads
    cards, of_presets = resolve_heads(given, card.heads, NETWORKS)
    config = replace(card.backbone, **{**of_presets, **backbone})
    network, report = build_loaded_network(card._replace(backbone=config, heads=cards), weights, NETWORKS, source)
    stated = [each for each in given.values() if each] if isinstance(given, Mapping) else []
    if report.changed and (heads is not None or any("num_classes" in each for each in stated)):
        warnings.warn(str(report), stacklevel=3)
    return network.eval()


def select_classes(weights: Weights, name: str, chosen: Sequence[int]) -> Weights:
    """Return weights that keep some classes of the head ``name``, in the order in which they are given.

    Raises:
        ValueError: There are none, or one that the head does not have.
    """
    with torch.device("meta"):
        head = build_from_card(weights.card, NETWORKS).named_heads[name]
    return classes.select_classes(weights, name, head, chosen)


def drop_background(weights: Weights) -> Weights:
    """Return weights of a classifier without its background: what is left are the classes in torchvision's order.

    It is the first class where the weights do not state that it is the last.

    Raises:
        ValueError: There is no classifier, or it would be left without classes.
    """
    task = ClassificationHead.task
    names = [name for name, head in weights.card.heads.items() if head.task == task]
    num_classes = int(weights.card.heads[names[0]].config["num_classes"]) if names else 0
    if num_classes < 2:
        raise ValueError(
            f"only a classifier of two classes or more has a background to drop, got {weights.card.tasks} of "
            f"{num_classes}"
        )
    place = weights.card.heads[names[0]].config.get("background")
    return select_classes(weights, names[0], without_background(num_classes, place))


def _find_head(weights: Weights, task: str, path: Path) -> str:
    names = [name for name, head in weights.card.heads.items() if head.task == task]
    if not names:
        tasks, unknown = weights.card.tasks, weights.card.unknown
        raise ValueError(f"{path} holds {tasks}, not {task}: no network for {task} can be built from it{unknown}")
    if len(names) > 1 and task not in names:
        raise ValueError(f"{path} must have one head for {task}, got {', '.join(names)}: split one off first")
    return task if task in names else names[0]


def _weights_path(pretrained: bool | str | Path) -> Path:
    if isinstance(pretrained, bool):
        raise ValueError(
            "pretrained must be False, the path of a weights file or the name of published weights: none come with the "
            "package"
        )
    path = Path(pretrained)
    if not path.exists() and path.name == str(pretrained) and not path.suffix and str(pretrained) not in ZOO:
        check_names("pretrained: a weights file or published weights", [str(pretrained)], ZOO)
    return path
