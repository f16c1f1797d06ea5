"""What kinds of errors a detector makes, and what each kind costs.

Reference: Bolya et al., "TIDE: A General Toolbox for Identifying Object Detection Errors", ECCV 2020, section 2.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64

from mobilevision.detection.overlaps import Overlaps, Pairs, find_overlaps, take_once
from mobilevision.detection.types import Result, Truth

FOREGROUND_THRESHOLD = 0.5
"""The least overlap of a detection with the object that it is on."""

BACKGROUND_THRESHOLD = 0.1
"""The least overlap of a detection with an object that it is near."""

RECALLS = np.linspace(0.0, 1.0, 101)


class ErrorKind(NamedTuple):
    """How many errors of a kind there are, and how much mean AP at an IoU of 0.5 would gain without them."""

    num_errors: int
    cost: float


class ErrorSplit(NamedTuple):
    """All errors, each of one kind.

    Attributes:
        map_50: Mean AP at an IoU of 0.5 as it is; NaN without objects.
        kinds: By name, see :func:`split_errors`.
    """

    map_50: float
    kinds: Mapping[str, ErrorKind]


class Ranking(NamedTuple):
    """What average precision is made of: detections, whether each is right, and how many objects a class has."""

    scores: Float64[np.ndarray, " N"]
    labels: Int64[np.ndarray, " N"]
    right: Bool[np.ndarray, " N"]
    num_objects: Int64[np.ndarray, " C"]


def split_errors(results: Sequence[Result], truths: Sequence[Truth], num_classes: int) -> ErrorSplit:
    """Say of each wrong detection and each missed object what kind of error it is, and what its kind costs.

    A detection is on an object if they overlap by ``FOREGROUND_THRESHOLD``, and near it if by less but by
    ``BACKGROUND_THRESHOLD``. By falling score, each takes the object of its class that it is on and overlaps most among
    those still free, as in COCO's protocol. A detection that takes none is, by the first of these that applies:

    * ``localization``: near an object of its class, and on none;
    * ``classification``: on an object of another class;
    * ``duplicate``: on an object of its class, which a better detection took;
    * ``background``: neither on nor near any object;
    * ``both``: near an object of another class.

    ``missed`` are the objects that no detection took and none of the first two kinds points to: each of those points to
    the object that it overlaps most, for the first among those of its class, for the second among the others.

    The cost of a kind is what mean AP at an IoU of 0.5 gains, at least 0, if it alone is put right: the best detection
    of the first two kinds that points to an object that nobody took becomes right; all others of the kind go away;
    missed objects are not asked for. What lies on a crowd of its class is no error.

    Args:
        results: Of each image.
        truths: Of the same images.
        num_classes: Labels; the background is not among them.
    """
    overlaps = find_overlaps(results, truths, BACKGROUND_THRESHOLD)
    taken = _take_objects(overlaps)
    right, found = np.zeros_like(overlaps.on_crowd), np.zeros(len(overlaps.true_labels), dtype=np.bool_)
    right[taken.found], found[taken.true] = True, True
    counts = right | ~overlaps.on_crowd
    kinds, pointers = _tell_kinds(overlaps, counts & ~right)

    ranking = Ranking(overlaps.scores, overlaps.labels, right, np.bincount(overlaps.true_labels, minlength=num_classes))
    map_50 = _mean_ap(ranking, counts)
    missed = ~found
    split = {}
    for name, wrong in kinds.items():
        fixed, kept = ranking, counts & ~wrong
        if name in pointers:
            pairs = pointers[name].take(~found[pointers[name].true])
            missed[pairs.true] = False
            fixed, kept = _put_right(overlaps, ranking, kept, pairs)
        split[name] = ErrorKind(int(wrong.sum()), max(_mean_ap(fixed, kept) - map_50, 0.0))
    fewer = ranking.num_objects - np.bincount(overlaps.true_labels[missed], minlength=num_classes)
    cost = max(_mean_ap(ranking._replace(num_objects=fewer), counts) - map_50, 0.0)
    return ErrorSplit(map_50, split | {"missed": ErrorKind(int(missed.sum()), cost)})


def _take_objects(overlaps: Overlaps) -> Pairs:
    pairs = overlaps.pairs.take(overlaps.pairs.overlaps >= FOREGROUND_THRESHOLD)
    pairs = pairs.take(overlaps.labels[pairs.found] == overlaps.true_labels[pairs.true])
    # Of an image's detections the best come first; of objects that one overlaps equally pycocotools takes the last.
    return take_once(pairs.take(np.lexsort((-pairs.true, -pairs.overlaps, pairs.found))))


def _tell_kinds(
    overlaps: Overlaps, wrong: Bool[np.ndarray, " N"]
) -> tuple[dict[str, Bool[np.ndarray, " N"]], dict[str, Pairs]]:
    """Say which of the ``wrong`` detections are of which kind, and which objects those of the first two point to."""
    pairs = overlaps.pairs.take(wrong[overlaps.pairs.found])
    same = overlaps.labels[pairs.found] == overlaps.true_labels[pairs.true]
    own, other = _closest(pairs.take(same)), _closest(pairs.take(~same))
    own_overlap, other_overlap = np.zeros(len(wrong)), np.zeros(len(wrong))
    own_overlap[own.found], other_overlap[other.found] = own.overlaps, other.overlaps

    localization = (own_overlap >= BACKGROUND_THRESHOLD) & (own_overlap < FOREGROUND_THRESHOLD)
    classification = ~localization & (other_overlap >= FOREGROUND_THRESHOLD)
    duplicate = ~classification & (own_overlap >= FOREGROUND_THRESHOLD)
    background = wrong & (np.maximum(own_overlap, other_overlap) < BACKGROUND_THRESHOLD)
    kinds = {
        "classification": classification,
        "localization": localization,
        "both": wrong & ~(localization | classification | duplicate | background),
        "duplicate": duplicate,
        "background": background,
    }
    pointers = {
        "classification": other.take(classification[other.found]),
        "localization": own.take(localization[own.found]),
    }
    return kinds, pointers


def _closest(pairs: Pairs) -> Pairs:
    """Keep of each detection the pair with the largest overlap, of equal ones the first object's."""
    pairs = pairs.take(np.lexsort((pairs.true, -pairs.overlaps, pairs.found)))
    return pairs.take(np.unique(pairs.found, return_index=True)[1])


def _put_right(
    overlaps: Overlaps, ranking: Ranking, kept: Bool[np.ndarray, " N"], pairs: Pairs
) -> tuple[Ranking, Bool[np.ndarray, " N"]]:
    """Let the best detection that points to an object be right, in the object's class."""
    best = take_once(pairs.take(np.lexsort((pairs.found, -overlaps.scores[pairs.found]))))
    labels, right, kept = ranking.labels.copy(), ranking.right.copy(), kept.copy()
    labels[best.found] = overlaps.true_labels[best.true]
    right[best.found], kept[best.found] = True, True
    return ranking._replace(labels=labels, right=right), kept


def _mean_ap(ranking: Ranking, kept: Bool[np.ndarray, " N"]) -> float:
    """Average over the classes with objects: precision at 101 recalls, made to fall, as COCO has it."""
    order = np.flatnonzero(kept)
    order = order[np.lexsort((-ranking.scores[order], ranking.labels[order]))]
    labels, right = ranking.labels[order], ranking.right[order]
    present = np.flatnonzero(ranking.num_objects)
    starts, ends = (np.searchsorted(labels, present, side=side) for side in ("left", "right"))
    precisions = []
    for label, start, end in zip(present.tolist(), starts.tolist(), ends.tolist(), strict=True):
        hits = np.cumsum(right[start:end])
        precision = np.maximum.accumulate((hits / np.arange(1, end - start + 1))[::-1])[::-1]
        places = np.searchsorted(hits / ranking.num_objects[label], RECALLS, side="left")
        precisions.append(np.append(precision, 0.0)[places].mean())
    return float(np.mean(precisions)) if precisions else float("nan")
