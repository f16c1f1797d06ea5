"""Start a task's network from weights: its options are theirs where none are given, its classes go by their names."""

import inspect
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, NamedTuple

from mobilevision.backbone.image_network import ImageNetwork
from mobilevision.weights.card import Weights, WeightsCard
from mobilevision.weights.classes import HEADS, match_classes
from mobilevision.weights.file import read_weights
from mobilevision.weights.fitting import BACKBONE_SHAPE, FitReport, fit_network


class Start(NamedTuple):
    """Where a network's weights are from."""

    source: str
    card: WeightsCard


def take_options(given: MutableMapping[str, Any], weights: Weights | None, backbone: Weights | None) -> None:
    """Let options that are not given be those of the weights that a network will start from.

    Args:
        given: By name, None where not given; changed in place. Options that are not in it are not taken.
        weights: Of the whole network; they go before those of the backbone.
        backbone: Whose options matter only as far as they are a backbone's.
    """
    if weights is not None:
        options = dict(weights.card.options)
        if options.get("num_classes") != given.get("num_classes"):
            # Where the background was says nothing of other classes.
            options.pop("background", None)
        _fill(given, options)
    if backbone is not None:
        _fill(given, {name: value for name, value in backbone.card.options.items() if name in BACKBONE_SHAPE})


def _fill(given: MutableMapping[str, Any], options: Mapping[str, Any]) -> None:
    given.update({name: value for name, value in options.items() if name in given and given[name] is None})


def set_options(build: Callable[..., ImageNetwork], given: Mapping[str, Any]) -> dict[str, Any]:
    """Give the options of a network's function that are set; its own defaults stand for the others."""
    return {name: given[name] for name in inspect.signature(build).parameters if given.get(name) is not None}


def name_classes(
    network: ImageNetwork, names: tuple[str, ...], start: Start | None, build: Callable[[], ImageNetwork]
) -> FitReport | None:
    """Give every class of a network its name, and with it the rows of the class that has this name in its weights.

    Args:
        network: Its head is changed in place where the names say something else than the order did.
        names: As many as it has classes.
        start: Where its weights are from, unless they have been changed since: then they are its own.
        build: Makes a network of the same form, for the rows of classes that the weights do not have.

    Returns:
        What has become of the weights, if the rows had to be changed.

    Raises:
        FileNotFoundError: The file that the weights are from is gone.
    """
    card = WeightsCard.of(network) if start is None else start.card
    count = network.num_classes
    taken = card.model not in HEADS or match_classes(card, count, names) == match_classes(card, count)
    report = None
    if not taken:
        fresh = build()
        fresh.class_names = names
        source = "the network" if start is None else start.source
        weights = Weights(network.state_dict(), card) if start is None else read_weights(source)
        report = fit_network(fresh, weights, source)
        rows = {name: row for name, row in fresh.state_dict().items() if HEADS[card.model].tensors.fullmatch(name)}
        network.load_state_dict(rows, strict=False)
    network.class_names = names
    return report
