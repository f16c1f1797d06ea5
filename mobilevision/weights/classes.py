"""The rows of a head that stand for classes: match them between a network and weights, and choose among them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mobilevision.head import Head
from mobilevision.weights.card import HeadCard, Weights


class Match(NamedTuple):
    """The class of the weights that each class of a network is; those that the weights lack are not in it.

    Attributes:
        places: Their class by ours, in the order of ours.
        how: The rule in words, where it is not one to one.
    """

    places: Mapping[int, int]
    how: str = ""


def match_classes(head: Head, theirs: HeadCard) -> Match:
    """Match a head's classes with those of weights.

    As many are taken to be the same. Of other numbers the head may know a rule: a background is dropped, or the numbers
    that COCO does not use. But where a name that both have stands in another place, or there is no such rule, classes
    of the same name go together and no others.

    Raises:
        ValueError: The weights do not state their number of classes.
    """
    count = theirs.config.get("num_classes")
    if not isinstance(count, int) or count < 1:
        raise ValueError(f"num_classes of the weights must be at least 1, got {count}")
    # With fewer names than classes the head's rule says which are named.
    their_names = theirs.class_names if len(theirs.class_names) == count else ()
    their_places = {name: place for place, name in enumerate(_numbered(their_names))}
    ours = dict(enumerate(_numbered(head.class_names)))
    named = {label: their_places[name] for label, name in ours.items() if name in their_places}
    rule = head.match_places(count, theirs.config)
    if rule is None or any(rule[0][label] != place for label, place in named.items()):
        return Match(named, "by name")
    return Match(dict(enumerate(rule[0])), rule[1])


def remap_head_by_class_name(head: Head, class_names: tuple[str, ...]) -> None:
    """Put the rows of a head's classes into another order of the same classes, or name classes without names.

    Args:
        head: Changed in place.
        class_names: Of all its classes.

    Raises:
        ValueError: The head has other classes.
    """
    if len(class_names) != head.num_classes or (head.class_names and sorted(class_names) != sorted(head.class_names)):
        raise ValueError(
            f"the data has {len(class_names)} classes ({', '.join(class_names[:3])}, ...), the network has "
            f"{head.num_classes} ({', '.join(head.class_names[:3]) or 'without names'}, ...)"
        )
    if head.class_names:
        layout, places = head.class_rows(), {name: place for place, name in enumerate(_numbered(head.class_names))}
        rows = _rows([places[name] for name in _numbered(class_names)], layout.num_hidden)
        state = head.state_dict()
        for name in layout.tensors:
            tensor = state[name]
            tensor.copy_(_groups(tensor, layout.num_hidden + head.num_classes)[:, rows].flatten(0, 1))
    head.class_names = class_names


def adapt_rows(
    own: Tensor, theirs: Tensor | None, match: Match, num_classes: tuple[int, int], num_hidden: int
) -> Tensor | None:
    """Return a head's tensor with the rows of the weights in the places of its classes.

    Args:
        own: Of the head; classes that the weights lack keep its rows.
        theirs: Of the weights, if they have it.
        match: Of the classes.
        num_classes: Of the head and of the weights.
        num_hidden: Rows in front of those of the classes.

    Returns:
        None where the weights have no tensor of the expected form.
    """
    ours, count = num_classes
    rows = _groups(own, num_hidden + ours)
    if not match.places:
        return own
    if theirs is None or theirs.shape != (len(rows) * (num_hidden + count), *own.shape[1:]):
        return theirs
    chosen = _groups(theirs, num_hidden + count)[:, _rows(list(match.places.values()), num_hidden)]
    if len(match.places) < ours:
        rows = rows.clone()
        rows[:, _rows(list(match.places), num_hidden)] = chosen
        chosen = rows
    return chosen.flatten(0, 1)


def select_classes(weights: Weights, name: str, head: Head, classes: Sequence[int]) -> Weights:
    """Return weights that keep some classes of a head, in the order in which they are given.

    Args:
        weights: With the head.
        name: Of the head.
        head: A head of this kind with all of the classes; its values do not matter.
        classes: At least one.

    Raises:
        ValueError: There are none, or one that the head does not have.
    """
    tensors, card = weights
    described = card.heads[name]
    if not classes or not all(0 <= label < head.num_classes for label in classes):
        raise ValueError(f"classes must be among 0 to {head.num_classes - 1}, and some of them, got {list(classes)}")
    layout = head.class_rows()
    rows = _rows(classes, layout.num_hidden)
    kept = {
        f"heads.{name}.{row}": _groups(tensors[f"heads.{name}.{row}"], layout.num_hidden + head.num_classes)[:, rows]
        for row in layout.tensors
    }
    config = {**described.config, "num_classes": len(classes)}
    if "background" in config:
        config["background"] = None
    names = tuple(described.class_names[label] for label in classes) if described.class_names else ()
    heads = {**card.heads, name: described._replace(config=config, class_names=names)}
    return Weights(tensors | {row: tensor.flatten(0, 1) for row, tensor in kept.items()}, card._replace(heads=heads))


def _groups(tensor: Tensor, size: int) -> Tensor:
    """View the first axis as groups (a detector's anchors) of rows."""
    return tensor.reshape(-1, size, *tensor.shape[1:])


def _rows(classes: Sequence[int], num_hidden: int) -> Tensor:
    """Return the places of classes in a group, and of what is hidden in front of them."""
    return torch.tensor([*range(num_hidden), *(num_hidden + label for label in classes)], device="cpu")


def _numbered(names: Sequence[str]) -> list[tuple[str, int]]:
    """Return names, each with how often it was there before: two of ImageNet's classes are cranes."""
    seen: Counter[str] = Counter()
    numbered = []
    for name in names:
        numbered.append((name, seen[name]))
        seen[name] += 1
    return numbered
