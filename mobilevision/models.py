"""Build a network by its name."""

import inspect
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Literal, overload

import torch

from mobilevision.backbone.image_network import ImageNetwork, Scalar
from mobilevision.classification import mobilenet_v2
from mobilevision.detection import ssdlite_mobilenet_v2
from mobilevision.multitask import multitask_mobilenet_v2
from mobilevision.segmentation import deeplabv3_mobilenet_v2
from mobilevision.weights.card import Weights
from mobilevision.weights.file import read_weights
from mobilevision.weights.fitting import fill_network, fit_network
from mobilevision.weights.joint import merge_heads, take_part
from mobilevision.weights.layout import BACKBONE_ONLY
from mobilevision.weights.zoo import ZOO, ZooEntry

NetworkFunction = Callable[..., ImageNetwork]

MODELS: Mapping[str, NetworkFunction] = {
    "mobilenet_v2": mobilenet_v2,
    "ssdlite_mobilenet_v2": ssdlite_mobilenet_v2,
    "deeplabv3_mobilenet_v2": deeplabv3_mobilenet_v2,
    "multitask_mobilenet_v2": multitask_mobilenet_v2,
}


@overload
def list_models(pretrained: Literal[False] = False) -> list[str]: ...
@overload
def list_models(pretrained: Literal[True]) -> list[ZooEntry]: ...
def list_models(pretrained: bool = False) -> list[str] | list[ZooEntry]:
    """List the names that :func:`get_model` knows.

    Args:
        pretrained: List the published weights instead, whose names :func:`get_model` takes as ``pretrained``: what they
            are for, what they cost, and what their publishers measured.

    >>> list_models()
    ['mobilenet_v2', 'ssdlite_mobilenet_v2', 'deeplabv3_mobilenet_v2', 'multitask_mobilenet_v2']
    >>> [entry.published for entry in list_models(pretrained=True) if entry.name == "ssdlite_mobilenet_v2_coco"]
    ['COCO mAP 22 on a part of val 2014']
    """
    return list(ZOO.values()) if pretrained else list(MODELS)


def find_model(name: str) -> NetworkFunction:
    """Give the function that builds the network called ``name``.

    Raises:
        ValueError: There is none.
    """
    if name not in MODELS:
        raise ValueError(f"model must be one of {', '.join(MODELS)}, got {name!r}")
    return MODELS[name]


def get_model(name: str, pretrained: bool | str | Path = False, **options: Scalar) -> ImageNetwork:
    """Build a network, with fresh weights or those of a file, in channels_last memory format.

    Args:
        name: One of :func:`list_models`.
        pretrained: A weights file of this library, of TensorFlow, torchvision, timm, OpenMMLab or Hugging Face, or the
            name of one of ``list_models(pretrained=True)``. The file says with which options its network is built.
            Of a joint network it gives each single one, and to a joint one a single one. False leaves the weights as
            they are drawn.
        options: Keyword arguments of the network's function; they go before those of the file. With another
            ``num_classes``, or ``heads``, all that fits is taken, and a warning says what did not.

    Raises:
        FileNotFoundError: There is no such weights file.
        ValueError: An unknown name or option, or a file of another model.
        OSError: Published weights that cannot be fetched.

    >>> get_model("mobilenet_v2", num_classes=10, width_mult=0.35).head.linear
    Linear(in_features=1280, out_features=10, bias=True)
    """
    build = find_model(name)
    _check_options(name, build, options)
    if pretrained is False:
        return build(**options).to(memory_format=torch.channels_last)
    path = _weights_path(pretrained)
    weights = take_part(read_weights(path), name)
    if weights.card.model not in (name, BACKBONE_ONLY):
        raise ValueError(f"{path} holds {weights.card.model}, not {name}")
    return build_network(weights, path, **options)


def build_network(weights: Weights, path: str | Path, **options: Scalar) -> ImageNetwork:
    """Build the network of weights that were read from ``path``; ``options`` go before those it was made with.

    Raises:
        ValueError: The weights do not fit the options, or are of a backbone alone.
    """
    card = weights.card
    if card.model == BACKBONE_ONLY:
        raise ValueError(f"{path} holds the backbone alone: start a network from it with backbone_weights")
    _check_options(card.model, find_model(card.model), options)
    count = options.get("num_classes", card.options.get("num_classes"))
    # Where the background was says nothing of other classes.
    other = {"background": None} if count != card.options.get("num_classes") and "background" in card.options else {}
    if "heads" in options:
        options["heads"] = merge_heads(weights, options["heads"])
    build = partial(find_model(card.model), **{**card.options, **other, **options})
    if "num_classes" in options or "heads" in options:
        network = build()
        report = fit_network(network, weights, path)
        if report.changed:
            warnings.warn(str(report), stacklevel=3)
    else:
        # Nothing is drawn that is replaced at once: the network is never in the memory twice.
        with torch.device("meta"):
            network = build()
        fill_network(network, weights, path)
    return network.to(memory_format=torch.channels_last)


def load_model(path: str | Path, **options: Scalar) -> ImageNetwork:
    """Build the network that a weights file describes, with its weights, in channels_last memory format.

    Args:
        path: As ``pretrained`` of :func:`get_model`.
        options: Keyword arguments of the network's function; they go before those of the file.

    Raises:
        FileNotFoundError: There is no such weights file.
        ValueError: It is none, or does not fit the options.
    """
    return build_network(read_weights(path), path, **options)


def _check_options(name: str, build: NetworkFunction, options: Mapping[str, Scalar]) -> None:
    known = inspect.signature(build).parameters
    unknown = [option for option in options if option not in known]
    if unknown:
        raise ValueError(f"{name} has no option {unknown[0]!r}: it takes {', '.join(known)}")


def _weights_path(pretrained: bool | str | Path) -> Path:
    if isinstance(pretrained, bool):
        raise ValueError(
            "pretrained must be False, the path of a weights file or the name of published weights: none come with the "
            "package"
        )
    path = Path(pretrained)
    if not path.exists() and path.name == str(pretrained) and not path.suffix and str(pretrained) not in ZOO:
        raise ValueError(
            "pretrained must be False, the path of a weights file or the name of published weights, got "
            f"{str(pretrained)!r}"
        )
    return path
