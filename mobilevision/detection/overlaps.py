"""Which detections of a whole dataset overlap which of its objects."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64, Shaped

from mobilevision.detection.types import Result, Truth

CROWD_OVERLAP = 0.5
"""The share of a detection that must lie on a crowd of its class for it to be no error."""

MAX_PER_CLASS = 100
"""Detections of one class in an image that count, as in COCO's figures."""


class Pairs(NamedTuple):
    """Detections and objects of the same image that overlap, whatever their classes."""

    found: Int64[np.ndarray, " P"]
    true: Int64[np.ndarray, " P"]
    overlaps: Float64[np.ndarray, " P"]

    def select(self, chosen: Shaped[np.ndarray, " K"]) -> "Pairs":
        """Return the pairs at these places, or where this is true."""
        return Pairs(*(column[chosen] for column in self))


class Overlaps(NamedTuple):
    """The detections and objects of a dataset, image after image, and which of them overlap.

    Attributes:
        scores: Of the N detections; in each image the best first, of equal scores the first first.
        labels: The classes of the detections.
        true_labels: The classes of the M objects; crowds are not among them.
        pairs: The pairs that overlap, and by how much.
        on_crowd: Whether a detection has ``CROWD_OVERLAP`` of its area on a crowd of its class.
    """

    scores: Float64[np.ndarray, " N"]
    labels: Int64[np.ndarray, " N"]
    true_labels: Int64[np.ndarray, " M"]
    pairs: Pairs
    on_crowd: Bool[np.ndarray, " N"]


NO_RESULT = Result(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64))
NO_TRUTH = Truth(np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0, np.bool_), np.zeros(0))


def find_overlaps(results: Sequence[Result], truths: Sequence[Truth], min_overlap: float) -> Overlaps:
    """Find all pairs with an intersection over union of at least ``min_overlap``.

    Args:
        results: Of each image; the best ``MAX_PER_CLASS`` of a class count.
        truths: Of the same images.
        min_overlap: Above 0, or everything is a pair.
    """
    parts = []
    num_found = num_true = 0
    # There is always an image, so that there is always something to concatenate.
    for result, truth in zip([NO_RESULT, *results], [NO_TRUTH, *truths], strict=True):
        boxes, scores, labels = _best_first(result)
        objects, true_labels = truth.boxes_xywh[~truth.crowd], truth.labels[~truth.crowd]
        overlaps = box_overlaps(boxes, objects)
        found, true = np.nonzero(overlaps >= min_overlap)
        pairs = (found + num_found, true + num_true, overlaps[found, true])
        parts.append((scores, labels, true_labels, _lie_on_crowds(boxes, labels, truth), *pairs))
        num_found, num_true = num_found + len(boxes), num_true + len(objects)
    scores, labels, true_labels, on_crowd, *columns = map(np.concatenate, zip(*parts, strict=True))
    return Overlaps(scores, labels, true_labels, Pairs(*columns), on_crowd)


def match_greedily(pairs: Pairs) -> Pairs:
    """Return the pairs, in their order, of which neither half was in an earlier one."""
    found_taken: set[int] = set()
    true_taken: set[int] = set()
    kept = []
    for place, (found, true) in enumerate(zip(pairs.found.tolist(), pairs.true.tolist(), strict=True)):
        if found not in found_taken and true not in true_taken:
            found_taken.add(found)
            true_taken.add(true)
            kept.append(place)
    return pairs.select(np.array(kept, dtype=np.int64))


def box_overlaps(
    boxes_xywh: Float64[np.ndarray, "N 4"], others_xywh: Float64[np.ndarray, "M 4"], *, crowds: bool = False
) -> Float64[np.ndarray, "N M"]:
    """Compute each intersection over the union, or over the first box's area if the others are ``crowds``.

    Two boxes without area overlap by 0.

    >>> box_overlaps(np.array([[0.0, 0, 4, 4]]), np.array([[0.0, 0, 4, 2]])).item()
    0.5
    """
    if not len(others_xywh):
        return np.zeros((len(boxes_xywh), 0))
    left, top, width, height = boxes_xywh.T[:, :, None]
    other_left, other_top, other_width, other_height = others_xywh.T[:, None]
    shared_width = np.minimum(left + width, other_left + other_width) - np.maximum(left, other_left)
    shared_height = np.minimum(top + height, other_top + other_height) - np.maximum(top, other_top)
    intersections = np.maximum(shared_width, 0) * np.maximum(shared_height, 0)
    areas = width * height
    wholes = areas + (0 if crowds else other_width * other_height - intersections)
    overlaps: Float64[np.ndarray, "N M"] = intersections / np.maximum(wholes, np.finfo(np.float64).tiny)
    return overlaps


def _lie_on_crowds(
    boxes: Float64[np.ndarray, "N 4"], labels: Int64[np.ndarray, " N"], truth: Truth
) -> Bool[np.ndarray, " N"]:
    overlaps = box_overlaps(boxes, truth.boxes_xywh[truth.crowd], crowds=True)
    same = labels[:, None] == truth.labels[truth.crowd]
    lying: Bool[np.ndarray, " N"] = ((overlaps >= CROWD_OVERLAP) & same).any(axis=1)
    return lying


def _best_first(result: Result) -> Result:
    order = np.argsort(-result.scores, kind="stable")
    labels = result.labels[order]
    if len(labels) > MAX_PER_CLASS:
        by_label = np.argsort(labels, kind="stable")
        ranks = np.arange(len(labels)) - np.searchsorted(labels[by_label], labels[by_label])
        order = order[np.sort(by_label[ranks < MAX_PER_CLASS])]
    return Result(*(column[order] for column in result))
