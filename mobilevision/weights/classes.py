"""The rows of a network's head that stand for classes: choose among them, and match them between two networks."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mobilevision.backbone.image_network import Scalar
from mobilevision.weights.card import Weights, WeightsCard

IMAGENET_WITH_BACKGROUND = 1001
BACKGROUND = "background"

NUM_COCO_IDS = 90
UNUSED_COCO_IDS = frozenset({12, 26, 29, 30, 45, 66, 68, 69, 71, 83})
COCO_ROWS = tuple(number - 1 for number in range(1, NUM_COCO_IDS + 1) if number not in UNUSED_COCO_IDS)
"""Where COCO's 80 classes stand among its 90 numbers, which TensorFlow's detectors predict."""


class Head(NamedTuple):
    """The part of a network that has rows for classes.

    Attributes:
        tensors: The names of its tensors. Their first axis goes over anchors, if there are any, and then over classes.
        num_hidden: Rows before those of the classes a person can name: the background of a detector.
    """

    tensors: re.Pattern[str]
    num_hidden: int = 0

    def split(self, tensor: Tensor, num_classes: int) -> Tensor:
        """View the first axis as anchors and classes, the hidden ones among them."""
        return tensor.reshape(-1, self.num_hidden + num_classes, *tensor.shape[1:])

    def rows(self, classes: Sequence[int]) -> Tensor:
        """Give the places of classes, and of what is hidden in front of them."""
        return torch.tensor([*range(self.num_hidden), *(self.num_hidden + label for label in classes)])


HEADS: Mapping[str, Head] = {
    "mobilenet_v2": Head(re.compile(r"head\.linear\.(weight|bias)")),
    "ssdlite_mobilenet_v2": Head(re.compile(r"head\.class_predictors\.\d+\.pointwise\.(weight|bias)"), num_hidden=1),
    "deeplabv3_mobilenet_v2": Head(re.compile(r"head\.logits\.(weight|bias)")),
}


def background_option(num_classes: int, class_names: Sequence[str] = ()) -> dict[str, Scalar]:
    """Say where a classifier of TensorFlow's family has its background: first of 1001, or where it is called so."""
    named = [name.strip().lower() for name in class_names]
    if len(named) == num_classes and BACKGROUND in (named[0], named[-1]):
        return {"background": "first" if named[0] == BACKGROUND else "last"}
    return {"background": "first" if num_classes == IMAGENET_WITH_BACKGROUND else None}


def count_classes(card: WeightsCard) -> int:
    """Give the number of classes that a card says.

    Raises:
        ValueError: It says none.
    """
    num_classes = card.options.get("num_classes")
    if card.model not in HEADS or not isinstance(num_classes, int) or num_classes < 1:
        raise ValueError(f"expected weights of a network with classes, got {card.model} of {num_classes}")
    return num_classes


def select_classes(weights: Weights, classes: Sequence[int]) -> Weights:
    """Keep some of a network's classes, in the order in which they are given.

    Raises:
        ValueError: There are none, or one that the network does not have.
    """
    tensors, card = weights
    num_classes = count_classes(card)
    if not classes or not all(0 <= label < num_classes for label in classes):
        raise ValueError(f"classes must be among 0 to {num_classes - 1}, and some of them, got {list(classes)}")
    head = HEADS[card.model]
    rows = head.rows(classes)
    kept = {
        name: head.split(tensor, num_classes)[:, rows].flatten(0, 1) if head.tensors.fullmatch(name) else tensor
        for name, tensor in tensors.items()
    }
    options = {**card.options, "num_classes": len(classes)}
    if "background" in options:
        options["background"] = None
    names = tuple(card.class_names[label] for label in classes) if card.class_names else ()
    return Weights(kept, card._replace(options=options, class_names=names))


def drop_background(weights: Weights) -> Weights:
    """Leave out the background of a classifier: what is left are the classes in torchvision's order.

    It is the first class where the weights do not say that it is the last.

    Raises:
        ValueError: It is no classifier, or it would be left without classes.
    """
    card = weights.card
    num_classes = card.options.get("num_classes")
    if card.model != "mobilenet_v2" or not isinstance(num_classes, int) or num_classes < 2:
        raise ValueError(
            f"only a classifier of two classes or more has a background to leave out, got {card.model} of {num_classes}"
        )
    return select_classes(weights, without_background(num_classes, card.options.get("background")))


def without_background(num_classes: int, place: Scalar) -> range:
    """Give the classes beside the background."""
    return range(num_classes - 1) if place == "last" else range(1, num_classes)


class Match(NamedTuple):
    """Which class of a file each class of a network is; those that are none of the file's are not in it."""

    theirs: Mapping[int, int]
    """In the order of the network's."""
    how: str = ""
    """In words, where it is not one to one."""


def match_classes(card: WeightsCard, num_classes: int, class_names: Sequence[str] = ()) -> Match:
    """Match a network's classes with a file's.

    As many are taken to be the same. Of more, a classifier's background is dropped, or the numbers that COCO does not
    use. But where a name that both have stands in another place, or there is no such rule, classes of the same name go
    together and no others.

    Args:
        card: Of the file.
        num_classes: Of the network.
        class_names: Of the network, if it has any.
    """
    theirs = {name: label for label, name in enumerate(_numbered(card.class_names))}
    ours = dict(enumerate(_numbered(class_names)))
    named = {label: theirs[name] for label, name in ours.items() if name in theirs}
    placed = _match_places(card, num_classes)
    if placed is None or any(placed.theirs[label] != place for label, place in named.items()):
        return Match(named, "by name")
    return placed


def _match_places(card: WeightsCard, num_classes: int) -> Match | None:
    count, background = count_classes(card), card.options.get("background")
    if count == num_classes:
        return Match({label: label for label in range(count)})
    if background and count == num_classes + 1:
        return Match(dict(enumerate(without_background(count, background))), "without the background")
    if card.model == "ssdlite_mobilenet_v2" and count == NUM_COCO_IDS and num_classes == len(COCO_ROWS):
        return Match(dict(enumerate(COCO_ROWS)), "without the numbers that COCO does not use")
    return None


def _numbered(names: Sequence[str]) -> list[tuple[str, int]]:
    """Give names, each with how often it was there before: two of ImageNet's classes are cranes."""
    seen: Counter[str] = Counter()
    numbered = []
    for name in names:
        numbered.append((name, seen[name]))
        seen[name] += 1
    return numbered
