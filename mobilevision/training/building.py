"""Build the network that a task trains: from what is given, what its data says, and the weights it starts from."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, NamedTuple

from mobilevision.network import Network
from mobilevision.training.datamodule import ImageDataModule
from mobilevision.weights.build import HeadOptions, Networks, build_network, resolve_heads
from mobilevision.weights.card import Weights, WeightsCard
from mobilevision.weights.file import read_weights
from mobilevision.weights.loading import LoadReport, build_loaded_network, load_backbone


class GivenOptions(NamedTuple):
    """The options of a network that are given to a task.

    Attributes:
        pretrained: Weights to start all of the network from, a file or the name of published weights.
        backbone_weights: Weights to start the backbone alone from.
        backbone: Options of the backbone.
        heads: Options by head; none for the heads of the weights or, without weights, of the data.
    """

    pretrained: str | None = None
    backbone_weights: str | None = None
    backbone: Mapping[str, Any] = MappingProxyType({})
    heads: HeadOptions = MappingProxyType({})


class BuiltNetwork(NamedTuple):
    """A network, the outcome of loading weights into all of it or into its backbone, and the latter weights."""

    network: Network
    report: LoadReport | None = None
    backbone_report: LoadReport | None = None
    backbone_weights: Weights | None = None


def build_for_data(given: GivenOptions, networks: Networks, data: ImageDataModule | None) -> BuiltNetwork:
    """Build a network for data, and load the weights it starts from.

    An option is the one that is given, else the one of the weights, else the default; classes and input size are the
    data's.

    Args:
        given: Options and weights.
        networks: By task.
        data: After its ``setup``; None to build the network without data.

    Raises:
        FileNotFoundError: There is no such weights file.
        ValueError: The data has other classes or another size than what is given, or the weights do not fit.
    """
    weights = None if given.pretrained is None else read_weights(given.pretrained)
    backbone_weights = None if given.backbone_weights is None else read_weights(given.backbone_weights)
    card = _describe(given, networks, data, weights, backbone_weights)
    report = backbone_report = None
    if weights is not None:
        network, report = build_loaded_network(card, weights, networks, str(given.pretrained))
    else:
        network = build_network(card, networks)
    if backbone_weights is not None:
        backbone_report = load_backbone(network, backbone_weights, str(given.backbone_weights))
    return BuiltNetwork(network, report, backbone_report, backbone_weights)


def _describe(
    given: GivenOptions,
    networks: Networks,
    data: ImageDataModule | None,
    weights: Weights | None,
    backbone_weights: Weights | None,
) -> WeightsCard:
    theirs = {} if weights is None else weights.card.heads
    names = list(theirs or (data.by_head if data is not None else ()) or networks)
    heads = given.heads or {name: {} for name in names}
    with_data = {name: _with_data(name, options, data) for name, options in heads.items()}
    cards, of_presets = resolve_heads(with_data, theirs, networks)
    backbone = networks[next(iter(cards.values())).task].backbone_defaults
    if weights is not None:
        backbone = weights.card.backbone
    elif backbone_weights is not None:
        # Its momentum was that of another training.
        backbone = replace(backbone_weights.card.backbone, norm_momentum=backbone.norm_momentum)
    return WeightsCard(replace(backbone, **{**of_presets, **given.backbone}), cards)


def _with_data(name: str, options: Mapping[str, Any], data: ImageDataModule | None) -> dict[str, Any]:
    """Return the options of a head with the classes and the size of its dataset.

    Raises:
        ValueError: The data has other classes or another size than what is given.
    """
    if data is None:
        return dict(options)
    given, part = dict(options), data.for_head(name)
    if part.class_names:
        count, stated = len(part.class_names), given.get("num_classes")
        if stated not in (None, count):
            raise ValueError(
                f"num_classes of {name} is {stated}, its data has {count} classes ({', '.join(part.class_names[:3])}, "
                f"...): leave num_classes out, or set it to {count}"
            )
        given |= {"num_classes": count, "class_names": part.class_names}
    if part.input_size is not None:
        stated = given.get("input_size")
        if stated not in (None, part.input_size):
            raise ValueError(
                f"input_size of {name} is {stated} for the network and {part.input_size} for the data: set one of "
                "model.input_size and data.input_size"
            )
        given["input_size"] = part.input_size
    return given
