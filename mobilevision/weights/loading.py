"""Load weights into a network that may have other heads and other classes than they were trained for."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from mobilevision.head import Head
from mobilevision.network import Network
from mobilevision.options import trained_options
from mobilevision.weights.build import Networks, build_network
from mobilevision.weights.card import HeadCard, Weights, WeightsCard
from mobilevision.weights.classes import Match, adapt_rows, match_classes

BACKBONE_PREFIXES = ("backbone.", "normalization.")
OPTIONAL_PREFIX = "backbone.last."
"""The last convolution, which a segmenter's backbone does not have."""


class LoadReport(NamedTuple):
    """The outcome of loading weights into a network.

    Attributes:
        source: The file.
        loaded: Tensors that were loaded, adapted ones among them.
        total: Tensors that the network has.
        adapted: Rows that were chosen or reordered, in words.
        missing: Parts of the network that keep their initial values, in words.
        unexpected: Parts of the file that the network does not have, in words.
    """

    source: str
    loaded: int
    total: int
    adapted: str = ""
    missing: str = ""
    unexpected: str = ""

    @property
    def changed(self) -> bool:
        """Whether the network has parts of the file in another form, or lacks parts of it."""
        return bool(self.adapted or self.missing or self.unexpected)

    def __str__(self) -> str:
        parts = (("adapted", self.adapted), ("missing", self.missing), ("unexpected", self.unexpected))
        details = "".join(f"; {name}: {value}" for name, value in parts if value)
        return f"{self.source}: loaded {self.loaded} of {self.total} tensors{details}"


def build_loaded_network(
    card: WeightsCard, weights: Weights, networks: Networks, source: str | Path
) -> tuple[Network, LoadReport]:
    """Build the network that ``card`` describes and load ``weights`` into it.

    Args:
        card: Of the network, which may have other heads and classes than the weights.
        weights: What to load; heads and classes that they lack keep their initial values.
        networks: By task.
        source: The file, for messages.

    Raises:
        ValueError: The weights have none of its heads, or were trained with other options, or do not fit.
    """
    # Nothing is initialized that is replaced at once: the network is never in memory twice.
    with torch.device("meta"):
        network = build_network(card, networks)
    if not _is_complete(network, weights):
        network = build_network(card, networks)
    return network, load_weights(network, weights, source)


def load_weights(network: Network, weights: Weights, source: str | Path, *, strict: bool = False) -> LoadReport:
    """Load a network's backbone, and its heads as far as the weights have them and their classes.

    A head is loaded from the one of its name and task, or from the only one of its task. Its classes are matched by
    name where both sides have names, otherwise by place.

    Args:
        network: Changed in place, once everything is known to fit. On the meta device it takes the tensors themselves,
            and nothing may be missing.
        weights: What to load.
        source: The file, for messages.
        strict: Whether every head and every class must be there.

    Raises:
        ValueError: The weights have none of its heads, were trained with other options, or do not fit beside the
            classes; or, if ``strict``, lack a head or a class.
    """
    heads = network.named_heads
    pairs = match_heads(heads, weights.card)
    if not pairs or (strict and len(pairs) < len(heads)):
        advice = "" if weights.card.heads else ": use backbone_weights"
        raise ValueError(f"{source} holds {weights.card.tasks}, this network {WeightsCard.of(network).tasks}{advice}")
    _check_trained(network.backbone.config, weights.card.backbone, source)
    expected = network.state_dict()
    tensors = {name: weights.tensors[name] for name in expected if name in weights.tensors and _is_backbone(name)}
    tensors |= {name: tensor for name, tensor in expected.items() if name.startswith(OPTIONAL_PREFIX)} | tensors
    reports = {}
    for name, their_name in pairs.items():
        theirs = weights.card.heads[their_name]
        match = match_classes(heads[name], theirs)
        if strict and len(match.places) < heads[name].num_classes:
            raise ValueError(
                f"{source} has {theirs.config.get('num_classes')} classes, this network {heads[name].num_classes}"
            )
        _check_trained(heads[name].config, theirs.config, source)
        tensors |= _head_tensors(heads[name], name, match, _renamed(weights.tensors, their_name, name), theirs)
        reports[name] = _report_classes(heads[name], match, theirs)
    kept = {name: tensor for name, tensor in expected.items() if name.startswith(_prefixes(set(heads) - set(pairs)))}
    _load_state(network, kept | tensors, source)
    _name_classes(heads, pairs, weights.card)
    unmatched = {
        "missing": [name for name in heads if name not in pairs],
        "unexpected": [name for name in weights.card.heads if name not in pairs.values()],
    }
    num_new = len(kept) + sum(len(heads[name].class_rows().tensors) for name in pairs if reports[name]["all_new"])
    return _summarize(str(source), len(expected) - num_new, len(expected), reports, unmatched)


def load_backbone(network: Network, weights: Weights, source: str | Path) -> LoadReport:
    """Load the backbone of a network and its normalization from weights with any heads, or none.

    The last convolution, which a segmenter's backbone does not have, is left out where either side lacks it.

    Raises:
        ValueError: The weights' backbone has another width, padding or epsilon.
    """
    _check_trained(network.backbone.config, weights.card.backbone, source)
    expected = network.state_dict()
    theirs = {name: tensor for name, tensor in weights.tensors.items() if _is_backbone(name)}
    ours = {name: tensor for name, tensor in expected.items() if _is_backbone(name)}
    kept = {name: tensor for name, tensor in ours.items() if name.startswith(OPTIONAL_PREFIX) and name not in theirs}
    loaded = {name: tensor for name, tensor in theirs.items() if name in ours or not name.startswith(OPTIONAL_PREFIX)}
    beside = {name: tensor for name, tensor in expected.items() if not _is_backbone(name)}
    _load_state(network, beside | kept | loaded, source)
    num_missing, num_unexpected = len(expected) - len(loaded), len(weights.tensors) - len(loaded)
    return LoadReport(
        str(source),
        len(loaded),
        len(expected),
        missing=f"{num_missing} tensors beside the backbone" if num_missing else "",
        unexpected=f"{num_unexpected} tensors of {weights.card.tasks}" if num_unexpected else "",
    )


def match_heads(heads: Mapping[str, Head], card: WeightsCard) -> dict[str, str]:
    """Return for each head of a network the head of weights that it is loaded from, by name; others are left out."""
    pairs = {}
    for name, head in heads.items():
        if name in card.heads and card.heads[name].task == head.task:
            pairs[name] = name
            continue
        ours = [other for other, each in heads.items() if each.task == head.task]
        theirs = [other for other, each in card.heads.items() if each.task == head.task]
        if len(ours) == len(theirs) == 1:
            pairs[name] = theirs[0]
    return pairs


def _is_complete(network: Network, weights: Weights) -> bool:
    """Whether every value of a network is in the weights."""
    pairs = match_heads(network.named_heads, weights.card)
    whole = all(name in weights.tensors for name in network.state_dict() if _is_backbone(name))
    return whole and all(
        name in pairs and len(match_classes(head, weights.card.heads[pairs[name]]).places) == head.num_classes
        for name, head in network.named_heads.items()
    )


def _is_backbone(name: str) -> bool:
    return name.startswith(BACKBONE_PREFIXES)


def _prefixes(heads: set[str]) -> tuple[str, ...]:
    return tuple(f"heads.{name}." for name in heads)


def _renamed(tensors: Mapping[str, Tensor], theirs: str, ours: str) -> dict[str, Tensor]:
    """Return the tensors of their head under the names of ours."""
    prefix = f"heads.{theirs}."
    return {
        f"heads.{ours}.{name.removeprefix(prefix)}": tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


def _head_tensors(
    head: Head, name: str, match: Match, tensors: dict[str, Tensor], theirs: HeadCard
) -> dict[str, Tensor]:
    """Return the tensors of a head with the rows of its classes in their places."""
    count = int(theirs.config["num_classes"])
    if count == head.num_classes and not match.how:
        return tensors
    own = head.state_dict()
    adapted = {
        f"heads.{name}.{row}": adapt_rows(
            own[row], tensors.get(f"heads.{name}.{row}"), match, (head.num_classes, count), head.class_rows().num_hidden
        )
        for row in head.class_rows().tensors
    }
    return tensors | {row: tensor for row, tensor in adapted.items() if tensor is not None}


def _report_classes(head: Head, match: Match, theirs: HeadCard) -> dict[str, str]:
    num_classes, count, matched = head.num_classes, int(theirs.config["num_classes"]), len(match.places)
    return {
        "adapted": f"{matched} classes of {count} {match.how}" if matched and match.how else "",
        "missing": f"{num_classes - matched} classes of {num_classes}" if matched < num_classes else "",
        "unexpected": f"{count - matched} classes of {count}" if matched < count else "",
        "all_new": "" if matched else "all",
    }


def _summarize(
    source: str, loaded: int, total: int, reports: Mapping[str, Mapping[str, str]], unmatched: Mapping[str, list[str]]
) -> LoadReport:
    def join(part: str) -> str:
        several = len(reports) + len(unmatched["missing"]) > 1
        said = [f"{each[part]} of {name}" if several else each[part] for name, each in reports.items() if each[part]]
        return ", ".join([*said, *(f"the head {name}" for name in unmatched.get(part, ()))])

    return LoadReport(source, loaded, total, join("adapted"), join("missing"), join("unexpected"))


def _name_classes(heads: Mapping[str, Head], pairs: Mapping[str, str], card: WeightsCard) -> None:
    for name, their_name in pairs.items():
        theirs, head = card.heads[their_name], heads[name]
        places = match_classes(head, theirs).places
        if len(theirs.class_names) == theirs.config["num_classes"] and len(places) == head.num_classes:
            head.class_names = tuple(theirs.class_names[places[label]] for label in range(head.num_classes))


def _check_trained(ours: object, theirs: object, source: str | Path) -> None:
    """Refuse options under which the tensors would compute something else.

    Raises:
        ValueError: An option that the weights were trained with is another.
    """
    stated = theirs if isinstance(theirs, Mapping) else trained_options(theirs)
    for name, value in trained_options(ours).items():
        if stated.get(name, value) != value:
            raise ValueError(
                f"{source} was trained with {name} {stated[name]}, this network has {value}: set {name} to "
                f"{stated[name]}"
            )


def _load_state(network: Network, tensors: Mapping[str, Tensor], source: str | Path) -> None:
    expected = network.state_dict()
    misfits = [
        name
        for name in sorted(expected.keys() | tensors.keys())
        if name not in expected or name not in tensors or expected[name].shape != tensors[name].shape
    ]
    if misfits:
        raise ValueError(
            f"{source} does not fit: {len(misfits)} of {len(expected)} tensors differ in name or shape, first "
            f"{misfits[0]}; was it made with another width or head?"
        )
    # A network without memory of its own takes the tensors themselves.
    assign = any(tensor.is_meta for tensor in expected.values())
    network.load_state_dict(
        {name: _laid_out(tensor, expected[name]) for name, tensor in tensors.items()} if assign else tensors,
        assign=assign,
    )


def _laid_out(tensor: Tensor, expected: Tensor) -> Tensor:
    """Return a tensor in the type and memory format of a network's own."""
    order = torch.channels_last if expected.ndim == 4 else torch.preserve_format
    return tensor.to(expected.dtype, memory_format=order)
