"""Put weights into a network that may have other classes than they were trained for."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from mobilevision.backbone.image_network import ImageNetwork
from mobilevision.weights.card import Weights, WeightsCard
from mobilevision.weights.classes import HEADS, Match, count_classes, match_classes
from mobilevision.weights.joint import heads_of, take_part
from mobilevision.weights.layout import BACKBONE_ONLY

BACKBONE_PREFIXES = ("backbone.", "normalization.")
OPTIONAL_PREFIX = "backbone.last."

BACKBONE_OPTIONS = ("padding", "norm_eps")
BACKBONE_SHAPE = ("width_mult", "round_to", "depth_mult", "fixed_ends", "scale_last", *BACKBONE_OPTIONS)
"""All that says how a backbone is built, whatever network it is in."""

NETWORK_OPTIONS = (*BACKBONE_OPTIONS, "head_norm_eps", "score_function")
"""What tensors were trained with and does not show in their shapes: under another they compute something else."""

PIXEL_OPTIONS = ("mean", "std")
"""What is loaded with the tensors whatever the network was built with."""


class FitReport(NamedTuple):
    """What became of a file's weights in a network.

    Attributes:
        source: The file.
        num_loaded: Tensors that were taken, adapted ones among them.
        num_expected: Tensors that the network has.
        adapted: What was changed to fit, in words.
        new: What stays as it was drawn, in words.
        ignored: What the file has and the network does not, in words.
    """

    source: str
    num_loaded: int
    num_expected: int
    adapted: str = ""
    new: str = ""
    ignored: str = ""

    @property
    def changed(self) -> bool:
        """Whether the network has something of the file in another form, or lacks something of it."""
        return bool(self.adapted or self.new or self.ignored)

    def __str__(self) -> str:
        parts = (("adapted", self.adapted), ("new", self.new), ("ignored", self.ignored))
        said = "".join(f"; {name}: {value}" for name, value in parts if value)
        return f"{self.source}: loaded {self.num_loaded} of {self.num_expected} tensors{said}"


def fit_network(network: ImageNetwork, weights: Weights, source: str | Path) -> FitReport:
    """Load all of a network but the classes that the weights do not have; those stay as they were drawn.

    Args:
        network: Changed in place, once everything is known to fit. On the meta device it takes the tensors themselves,
            and may have no classes that the weights lack.
        weights: Of the same model.
        source: Where they were read from, for messages.

    Raises:
        ValueError: They are of another model, or were trained with other options, or do not fit beside the classes.
    """
    if network.members:
        return _fit_members(network, weights, source)
    weights = take_part(weights, network.model_name)
    tensors, card = weights
    if card.model != network.model_name:
        advice = ": set backbone_weights instead of weights" if card.model == BACKBONE_ONLY else ""
        raise ValueError(f"{source} holds {_describe(card)}, this network is {network.model_name}{advice}")
    if card.model not in HEADS:
        _check_classes(network, card, source)
        _check_options(network, card, NETWORK_OPTIONS, source)
        report = _load(network, tensors, source)
        network.class_names = card.class_names
        return report
    _check_options(network, card, NETWORK_OPTIONS, source)
    count, match = count_classes(card), match_classes(card, network.num_classes, network.class_names)
    report = _load(network, _adapt(network, weights, match), source)
    take_pixel_options(network, card)
    num_new = network.num_classes - len(match.theirs)
    if card.class_names and not num_new:
        network.class_names = tuple(card.class_names[label] for label in match.theirs.values())
    num_left = count - len(match.theirs)
    return report._replace(
        num_loaded=report.num_loaded - (0 if match.theirs else _count_head(network)),
        adapted=f"{len(match.theirs)} classes of {count} {match.how}" if match.theirs and match.how else "",
        new=f"{num_new} classes of {network.num_classes}" if num_new else "",
        ignored=f"{num_left} classes of {count}" if num_left else "",
    )


def fill_network(network: ImageNetwork, weights: Weights, source: str | Path) -> FitReport:
    """Load all of a network, its classes too; a background that it does not have is dropped.

    Raises:
        ValueError: They are of another model, lack a class, were trained with other options, or do not fit.
    """
    if network.members:
        _check_members(network, weights, source)
    weights = take_part(weights, network.model_name)
    if weights.card.model == network.model_name and not network.members:
        _check_classes(network, weights.card, source)
    return fit_network(network, weights, source)


def fit_backbone(network: ImageNetwork, weights: Weights, source: str | Path) -> FitReport:
    """Load the backbone of a network, and its normalisation, from weights of any model.

    The last convolution, which a segmenter's backbone does not have, is left out where either side lacks it.

    Raises:
        ValueError: The weights' backbone has another width, padding or epsilon.
    """
    tensors, card = weights
    _check_options(network, card, BACKBONE_OPTIONS, source)
    expected = network.state_dict()
    backbone = {name: tensor for name, tensor in tensors.items() if name.startswith(BACKBONE_PREFIXES)}
    taken = {name: tensor for name, tensor in backbone.items() if name in expected or not _is_optional(name)}
    kept = {
        name: tensor
        for name, tensor in expected.items()
        if not name.startswith(BACKBONE_PREFIXES) or _is_optional(name)
    }
    _load(network, kept | taken, source)
    take_pixel_options(network, card)
    num_left, num_new = len(tensors) - len(taken), len(expected) - len(taken)
    return FitReport(
        str(source),
        num_loaded=len(taken),
        num_expected=len(expected),
        new=f"{num_new} tensors beside the backbone" if num_new else "",
        ignored=f"{num_left} tensors of {_describe(card)}" if num_left else "",
    )


def _fit_members(network: ImageNetwork, weights: Weights, source: str | Path) -> FitReport:
    """Load a joint network's backbone, and its heads as far as the weights have them."""
    given = heads_of(weights)
    known = [task for task in network.members if task in given]
    if not known:
        found, wanted = ", ".join(given) or "nothing that is known", ", ".join(network.members)
        raise ValueError(f"{source} has heads for {found}, this network for {wanted}")
    reports = {}
    for task in known:
        member, (tensors, card) = network.members[task], given[task]
        # As the common backbone has it, whichever heads the weights come from.
        last = {name: tensor for name, tensor in member.state_dict().items() if _is_optional(name)}
        tensors = last | {name: tensor for name, tensor in tensors.items() if name in last or not _is_optional(name)}
        reports[task] = fit_network(member, Weights(tensors, card), source)
    missing, left = ([task for task in tasks if task not in known] for tasks in (network.members, given))

    def say(part: str, heads: Sequence[str]) -> str:
        said = [f"{getattr(report, part)} of {task}" for task, report in reports.items() if getattr(report, part)]
        return ", ".join([*said, *(f"the head for {task}" for task in heads)])

    expected = network.state_dict()
    num_new = sum(name.startswith(tuple(f"heads.{task}." for task in missing)) for name in expected)
    num_new += sum(report.num_expected - report.num_loaded for report in reports.values())
    return FitReport(
        str(source),
        len(expected) - num_new,
        len(expected),
        say("adapted", ()),
        say("new", missing),
        say("ignored", left),
    )


def _check_members(network: ImageNetwork, weights: Weights, source: str | Path) -> None:
    given = heads_of(weights)
    if weights.card.model != network.model_name or set(given) != set(network.members):
        raise ValueError(
            f"{source} has heads for {', '.join(given) or 'nothing that is known'}, this network for "
            f"{', '.join(network.members)}"
        )
    for task, member in network.members.items():
        _check_classes(member, given[task].card, source)


def take_pixel_options(network: ImageNetwork, card: WeightsCard) -> None:
    """Let a network say of its pixels' normalisation what a card says, with whose tensors it is loaded."""
    network.take_options(
        {name: card.options[name] for name in PIXEL_OPTIONS if name in card.options and name in network.options}
    )


def _is_optional(name: str) -> bool:
    return name.startswith(OPTIONAL_PREFIX)


def _describe(card: WeightsCard) -> str:
    return "the backbone alone" if card.model == BACKBONE_ONLY else card.model


def _count_head(network: ImageNetwork) -> int:
    head = HEADS[network.model_name]
    return sum(head.tensors.fullmatch(name) is not None for name in network.state_dict())


def _adapt(network: ImageNetwork, weights: Weights, match: Match) -> dict[str, Tensor]:
    """Give the tensors with the head's rows in the network's places."""
    tensors, card = weights
    count, head = count_classes(card), HEADS[card.model]
    if count == network.num_classes and not match.how:
        return tensors
    adapted = dict(tensors)
    for name, own in network.state_dict().items():
        if not head.tensors.fullmatch(name):
            continue
        rows = head.split(own, network.num_classes)
        if not match.theirs:
            adapted[name] = own
        elif name in tensors and tensors[name].shape == (len(rows) * (head.num_hidden + count), *own.shape[1:]):
            theirs = head.split(tensors[name], count)[:, head.rows(list(match.theirs.values()))]
            if len(match.theirs) < network.num_classes:
                rows = rows.clone()
                rows[:, head.rows(list(match.theirs))] = theirs
                theirs = rows
            adapted[name] = theirs.flatten(0, 1)
    return adapted


def _check_classes(network: ImageNetwork, card: WeightsCard, source: str | Path) -> None:
    count = card.options.get("num_classes")
    known = card.model in HEADS and isinstance(count, int)
    fits = (
        len(match_classes(card, network.num_classes, network.class_names).theirs) == network.num_classes
        if known
        else count == network.num_classes
    )
    if not fits:
        raise ValueError(f"{source} has {count} classes, this network has {network.num_classes}")


def _check_options(network: ImageNetwork, card: WeightsCard, names: Sequence[str], source: str | Path) -> None:
    for name in names:
        theirs, ours = card.options.get(name), network.options.get(name)
        if None not in (theirs, ours) and theirs != ours:
            raise ValueError(
                f"{source} was trained with {name} {theirs}, this network has {ours}: set {name} to {theirs}"
            )


def _load(network: ImageNetwork, tensors: Mapping[str, Tensor], source: str | Path) -> FitReport:
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
        {name: tensor.to(expected[name].dtype) for name, tensor in tensors.items()} if assign else tensors,
        assign=assign,
    )
    return FitReport(str(source), len(tensors), len(expected))
