"""Build networks from the descriptions of their weights."""

from collections.abc import Mapping, Sequence
from typing import Any

from mobilevision.backbone.mobilenet_v2 import BackboneConfig, MobileNetV2
from mobilevision.network import Network
from mobilevision.options import check_names, field_names, split_options
from mobilevision.weights.card import HeadCard, WeightsCard

Networks = Mapping[str, type[Network]]
"""The networks for one task that may be built, by task."""

HeadOptions = Mapping[str, Mapping[str, Any]]
"""Options by head: fields of its config, ``task`` where the name is none, ``class_names``, a detector's ``preset``."""


def build_network(card: WeightsCard, networks: Networks) -> Network:
    """Build the network that a card describes, with randomly initialized weights.

    Args:
        card: With at least one head.
        networks: By task.

    Raises:
        ValueError: The card has no head, an unknown task or option, or a value that is not allowed.
    """
    check_names("task", [head.task for head in card.heads.values()], networks)
    classes = {name: networks[head.task].head_class for name, head in card.heads.items()}
    backbone = MobileNetV2(card.backbone, last=any("last" in head_class.taps for head_class in classes.values()))
    heads = {}
    for name, (task, config, class_names) in card.heads.items():
        config_class = classes[name].config_class
        check_names(f"option of the head {name}", config, field_names(config_class))
        heads[name] = classes[name](backbone, config_class(**config))
        if class_names and len(class_names) != heads[name].num_classes:
            raise ValueError(
                f"class_names of the head {name} must be {heads[name].num_classes}, as num_classes of {task}, got "
                f"{len(class_names)}"
            )
        heads[name].class_names = class_names
    network_class = networks[card.heads[name].task] if len(heads) == 1 else Network
    return network_class(backbone, heads)


def resolve_heads(
    heads: Sequence[str] | HeadOptions, theirs: Mapping[str, HeadCard], networks: Networks
) -> tuple[dict[str, HeadCard], dict[str, Any]]:
    """Return the descriptions of heads: what is given, else what the weights have, else the defaults.

    Args:
        heads: Names of tasks, or options by head.
        theirs: The heads of the weights that they will start from.
        networks: By task.

    Returns:
        The descriptions, and the options of the backbone that a detector's ``preset`` stands for.

    Raises:
        ValueError: There are none, or an unknown task or option.
    """
    given: HeadOptions = heads if isinstance(heads, Mapping) else {task: {} for task in heads}
    if not given:
        raise ValueError(f"heads must be one or more, such as {', '.join(networks)}, got none")
    cards: dict[str, HeadCard] = {}
    backbone: dict[str, Any] = {}
    for name, stated in given.items():
        options = dict(stated)
        known = theirs.get(name)
        task = options.pop("task", known.task if known else name)
        check_names(f"task of the head {name}", [task], networks)
        shared = [option for option in options if option in field_names(BackboneConfig)]
        if shared:
            raise ValueError(f"{shared[0]} must be given for all heads together, got it for {name}")
        if known is None or known.task != task:
            alike = [head for head in theirs.values() if head.task == task]
            known = alike[0] if len(alike) == 1 else None
        cards[name], of_preset = _resolve_head(networks[task], options, known)
        backbone |= of_preset
    return cards, backbone


def _resolve_head(
    network_class: type[Network], given: Mapping[str, Any], theirs: HeadCard | None
) -> tuple[HeadCard, dict[str, Any]]:
    options = network_class.expand_options(given)
    names = tuple(options.pop("class_names", ()))
    backbone, stated = split_options(options, BackboneConfig, network_class.head_class.config_class)
    config: dict[str, Any] = {} if theirs is None else dict(theirs.config)
    if theirs is not None and stated.get("num_classes") in (None, config.get("num_classes")):
        names = names or theirs.class_names
        # Fewer names than classes: the weights have rows that nobody uses.
        config["num_classes"] = len(names) or config["num_classes"]
    elif config.get("background"):
        # Where the background was does not matter for other classes.
        config["background"] = None
    return HeadCard(network_class.head_class.task, {**config, **stated}, names), backbone
