"""Error analysis of a detector: which classes are confused, which kinds of errors there are, and what each kind costs.

Reference: Bolya et al., "TIDE: A General Toolbox for Identifying Object Detection Errors", ECCV 2020, section 2.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64

from mobilevision.detection.overlaps import Overlaps, Pairs, find_overlaps, match_greedily
from mobilevision.detection.types import Result, Truth

SCORE_THRESHOLD = 0.5
"""Detections that score less are not in the confusion matrix."""

FOREGROUND_THRESHOLD = 0.5
"""The least overlap of a detection with the object that it is on."""

BACKGROUND_THRESHOLD = 0.1
"""The least overlap of a detection with an object that it is near."""

RECALLS = np.linspace(0.0, 1.0, 101)


def analyze_detections(
    results: Sequence[Result],
    truths: Sequence[Truth],
    precision: Float64[np.ndarray, "T R C"],
    class_names: Sequence[str],
) -> dict[str, Any]:
    """Return curves, confusions and errors as plain JSON values, with the thresholds that they are measured at.

    Args:
        results: Of each image.
        truths: Of the same images.
        precision: Of each class at the ten IoUs and the 101 recalls; NaN for a class without objects.
        class_names: Of each label.

    Returns:
        ``precision_recall``: by class the precision at 101 recalls from 0 to 1, at an IoU of 0.5 (``iou_50``) and on
        average over the ten IoUs (``iou_50_95``); None for a class without objects. ``confusion``: ``counts``, a row
        for each true class, a column for each class that it was detected as, background last in both. ``errors``: for
        each kind a count and its cost, see :func:`split_errors`.
    """
    errors = split_errors(results, truths, len(class_names))
    return {
        "precision_recall": {
            "iou_50": _to_curves(precision[0], class_names),
            "iou_50_95": _to_curves(precision.mean(axis=0), class_names),
        },
        "confusion": {
            "score_threshold": SCORE_THRESHOLD,
            "iou_threshold": FOREGROUND_THRESHOLD,
            "classes": [*class_names, "background"],
            "counts": confusion_matrix(results, truths, len(class_names)).tolist(),
        },
        "errors": {
            "foreground_threshold": FOREGROUND_THRESHOLD,
            "background_threshold": BACKGROUND_THRESHOLD,
            "map_50": _or_none(errors.map_50),
            "kinds": {
                name: {"count": kind.num_errors, "lost_map_50": _or_none(kind.cost)}
                for name, kind in errors.kinds.items()
            },
        },
    }


def confusion_matrix(
    results: Sequence[Result],
    truths: Sequence[Truth],
    num_classes: int,
    *,
    score_threshold: float = SCORE_THRESHOLD,
    iou_threshold: float = FOREGROUND_THRESHOLD,
) -> Int64[np.ndarray, "C+1 C+1"]:
    """Count each true class (row) against the class it was detected as (column); the last of both is the background.

    Detections and objects are paired whatever their classes, each at most once, by falling overlap, of equal overlaps
    the better detection first. Objects without a partner count as detected as background, detections without one as
    background detected as an object. Crowds are no objects, and what lies on a crowd of its class is left out.

    Args:
        results: Of each image.
        truths: Of the same images.
        num_classes: Labels; the background is not among them.
        score_threshold: Detections that score less do not count.
        iou_threshold: The least intersection over union of a pair.

    >>> truth = Truth(np.array([[0.0, 0, 9, 9]]), np.array([0]), np.array([False]), np.array([81.0]))
    >>> confusion_matrix([Result(truth.boxes_xywh, np.array([0.9]), np.array([1]))], [truth], num_classes=2).tolist()
    [[0, 1, 0], [0, 0, 0], [0, 0, 0]]
    """
    shown = [Result(*(column[result.scores >= score_threshold] for column in result)) for result in results]
    scores, labels, true_labels, pairs, on_crowd = find_overlaps(shown, truths, iou_threshold)
    matched = match_greedily(pairs.select(np.lexsort((pairs.true, -scores[pairs.found], -pairs.overlaps))))
    detected_as = np.full(len(true_labels), num_classes)
    detected_as[matched.true] = labels[matched.found]
    false_alarm = ~on_crowd
    false_alarm[matched.found] = False
    matrix = np.zeros((num_classes + 1, num_classes + 1), dtype=np.int64)
    np.add.at(matrix, (true_labels, detected_as), 1)
    np.add.at(matrix, (num_classes, labels[false_alarm]), 1)
    return matrix


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
    """The input of average precision: detections, whether each is right, and how many objects a class has."""

    scores: Float64[np.ndarray, " N"]
    labels: Int64[np.ndarray, " N"]
    right: Bool[np.ndarray, " N"]
    num_objects: Int64[np.ndarray, " C"]


def split_errors(results: Sequence[Result], truths: Sequence[Truth], num_classes: int) -> ErrorSplit:
    """Count the kinds of errors among wrong detections and missed objects, and compute what each kind costs.

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
    missed objects do not count. What lies on a crowd of its class is no error.

    Args:
        results: Of each image.
        truths: Of the same images.
        num_classes: Labels; the background is not among them.
    """
    overlaps = find_overlaps(results, truths, BACKGROUND_THRESHOLD)
    matched = _match_objects(overlaps)
    right, found = np.zeros_like(overlaps.on_crowd), np.zeros(len(overlaps.true_labels), dtype=np.bool_)
    right[matched.found], found[matched.true] = True, True
    counts = right | ~overlaps.on_crowd
    kinds, pointers = _find_kinds(overlaps, counts & ~right)

    ranking = Ranking(overlaps.scores, overlaps.labels, right, np.bincount(overlaps.true_labels, minlength=num_classes))
    map_50 = _mean_ap(ranking, counts)
    missed = ~found
    split = {}
    for name, wrong in kinds.items():
        fixed, kept = ranking, counts & ~wrong
        if name in pointers:
            pairs = pointers[name].select(~found[pointers[name].true])
            missed[pairs.true] = False
            fixed, kept = _put_right(overlaps, ranking, kept, pairs)
        split[name] = ErrorKind(int(wrong.sum()), max(_mean_ap(fixed, kept) - map_50, 0.0))
    fewer = ranking.num_objects - np.bincount(overlaps.true_labels[missed], minlength=num_classes)
    cost = max(_mean_ap(ranking._replace(num_objects=fewer), counts) - map_50, 0.0)
    return ErrorSplit(map_50, split | {"missed": ErrorKind(int(missed.sum()), cost)})


def _match_objects(overlaps: Overlaps) -> Pairs:
    pairs = overlaps.pairs.select(overlaps.pairs.overlaps >= FOREGROUND_THRESHOLD)
    pairs = pairs.select(overlaps.labels[pairs.found] == overlaps.true_labels[pairs.true])
    # Of an image's detections the best come first; of objects that one overlaps equally pycocotools takes the last.
    return match_greedily(pairs.select(np.lexsort((-pairs.true, -pairs.overlaps, pairs.found))))


def _find_kinds(
    overlaps: Overlaps, wrong: Bool[np.ndarray, " N"]
) -> tuple[dict[str, Bool[np.ndarray, " N"]], dict[str, Pairs]]:
    """Return which of the ``wrong`` detections are of which kind, and which objects those of the first two point to."""
    pairs = overlaps.pairs.select(wrong[overlaps.pairs.found])
    same = overlaps.labels[pairs.found] == overlaps.true_labels[pairs.true]
    own, other = _closest(pairs.select(same)), _closest(pairs.select(~same))
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
        "classification": other.select(classification[other.found]),
        "localization": own.select(localization[own.found]),
    }
    return kinds, pointers


def _closest(pairs: Pairs) -> Pairs:
    """Return of each detection the pair with the largest overlap, of equal ones the first object's."""
    pairs = pairs.select(np.lexsort((pairs.true, -pairs.overlaps, pairs.found)))
    return pairs.select(np.unique(pairs.found, return_index=True)[1])


def _put_right(
    overlaps: Overlaps, ranking: Ranking, kept: Bool[np.ndarray, " N"], pairs: Pairs
) -> tuple[Ranking, Bool[np.ndarray, " N"]]:
    """Return the ranking where the best detection that points to an object is right, in the object's class."""
    best = match_greedily(pairs.select(np.lexsort((pairs.found, -overlaps.scores[pairs.found]))))
    labels, right, kept = ranking.labels.copy(), ranking.right.copy(), kept.copy()
    labels[best.found] = overlaps.true_labels[best.true]
    right[best.found], kept[best.found] = True, True
    return ranking._replace(labels=labels, right=right), kept


def _mean_ap(ranking: Ranking, kept: Bool[np.ndarray, " N"]) -> float:
    """Return the mean over the classes with objects of the precision at 101 recalls, made to fall, as COCO does."""
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


def _to_curves(
    precision: Float64[np.ndarray, "R C"], class_names: Sequence[str]
) -> dict[str, list[float | None] | None]:
    curves = zip(class_names, precision.T.tolist(), strict=True)
    return {name: None if math.isnan(curve[0]) else curve for name, curve in curves}


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
