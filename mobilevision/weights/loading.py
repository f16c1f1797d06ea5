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
from mobilevision.weights.card import Weights, WeightsCard
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
        advice = "" if weights.card.heads else f": use backbone_weights{weights.card.unknown}"
        raise ValueError(f"{source} holds {weights.card.tasks}, this network {WeightsCard.of(network).tasks}{advice}")
    _check_trained(network.backbone.config, weights.card.backbone, source)
    matches = {name: match_classes(heads[name], weights.card.heads[theirs]) for name, theirs in pairs.items()}
    for name, theirs in pairs.items():
        count = weights.card.heads[theirs].config["num_classes"]
        if strict and len(matches[name].places) < heads[name].num_classes:
            raise ValueError(f"{source} has {count} classes, this network {heads[name].num_classes}")
        _check_trained(heads[name].config, weights.card.heads[theirs].config, source)
    expected = network.state_dict()
    state = _backbone_tensors(expected, weights.tensors)
    new = [name for name in heads if name not in pairs]
    state |= {name: tensor for name, tensor in expected.items() if name.startswith(tuple(map(_prefix, new)))}
    for name, theirs in pairs.items():
        state |= _head_tensors(heads[name], name, matches[name], weights, theirs)
    _load_state(network, state, source)
    _name_classes(heads, matches, pairs, weights.card)
    return _report(source, network, weights.card, pairs, matches)


def load_backbone(network: Network, weights: Weights, source: str | Path) -> LoadReport:
    """Load the backbone of a network and its normalization from weights with any heads, or none.

    The last convolution, which a segmenter's backbone does not have, is left out where either side lacks it.

    Raises:
        ValueError: The weights' backbone has another width, padding or epsilon.
    """
    _check_trained(network.backbone.config, weights.card.backbone, source)
    expected = network.state_dict()
    state = _backbone_tensors(expected, weights.tensors)
    loaded = len(state.keys() & weights.tensors.keys())
    _load_state(network, {name: tensor for name, tensor in expected.items() if not _is_backbone(name)} | state, source)
    missing, unexpected = len(expected) - loaded, len(weights.tensors) - loaded
    unknown = weights.card.provenance.get("unknown", "")
    return LoadReport(
        str(source),
        loaded,
        len(expected),
        missing=f"{missing} tensors beside the backbone" if missing else "",
        unexpected=f"{unexpected} tensors of {weights.card.tasks}" if unexpected else unknown,
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


def _prefix(head: str) -> str:
    return f"heads.{head}."


def _backbone_tensors(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the backbone of weights, without a last convolution that is not expected, or with the network's own."""
    theirs = {
        name: tensor
        for name, tensor in tensors.items()
        if _is_backbone(name) and (name in expected or not name.startswith(OPTIONAL_PREFIX))
    }
    return {name: tensor for name, tensor in expected.items() if name.startswith(OPTIONAL_PREFIX)} | theirs


def _head_tensors(head: Head, name: str, match: Match, weights: Weights, theirs: str) -> dict[str, Tensor]:
    """Return the tensors of a head with the rows of its classes in their places."""
    count, prefix = int(weights.card.heads[theirs].config["num_classes"]), _prefix(theirs)
    tensors = {key.removeprefix(prefix): tensor for key, tensor in weights.tensors.items() if key.startswith(prefix)}
    if count != head.num_classes or match.how:
        own, layout = head.state_dict(), head.class_rows()
        for row in layout.tensors:
            adapted = adapt_rows(own[row], tensors.get(row), match, (head.num_classes, count), layout.num_hidden)
            if adapted is not None:
                tensors[row] = adapted
    return {f"{_prefix(name)}{key}": tensor for key, tensor in tensors.items()}


def _name_classes(
    heads: Mapping[str, Head], matches: Mapping[str, Match], pairs: Mapping[str, str], card: WeightsCard
) -> None:
    for name, match in matches.items():
        theirs, head = card.heads[pairs[name]], heads[name]
        named = len(theirs.class_names) == theirs.config["num_classes"] and len(match.places) == head.num_classes
        # The names of the data stay: the weights may spell them differently.
        if named and not head.class_names:
            head.class_names = tuple(theirs.class_names[match.places[label]] for label in range(head.num_classes))


def _report(
    source: str | Path,
    network: Network,
    card: WeightsCard,
    pairs: Mapping[str, str],
    matches: Mapping[str, Match],
) -> LoadReport:
    heads, expected = network.named_heads, network.state_dict()
    new, left = [name for name in heads if name not in pairs], set(card.heads) - set(pairs.values())
    parts: dict[str, list[str]] = {"adapted": [], "missing": [], "unexpected": []}
    for name, match in matches.items():
        count, theirs, matched = heads[name].num_classes, card.heads[pairs[name]].config["num_classes"], match.places
        of_head = f" of {name}" if len(heads) > 1 else ""
        if matched and match.how:
            parts["adapted"].append(f"{len(matched)} classes of {theirs} {match.how}{of_head}")
        if len(matched) < count:
            parts["missing"].append(f"{count - len(matched)} classes of {count}{of_head}")
        if len(matched) < theirs:
            parts["unexpected"].append(f"{theirs - len(matched)} classes of {theirs}{of_head}")
    parts["missing"] += [f"the head {name}" for name in new]
    parts["unexpected"] += [f"the head {name}" for name in card.heads if name in left]
    num_new = sum(key.startswith(tuple(map(_prefix, new))) for key in expected) if new else 0
    num_new += sum(len(heads[name].class_rows().tensors) for name, match in matches.items() if not match.places)
    texts = {part: ", ".join(said) for part, said in parts.items()}
    return LoadReport(str(source), len(expected) - num_new, len(expected), **texts)


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
