"""Which classes are taken for which."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64

from mobilevision.detection.overlaps import find_overlaps, take_once
from mobilevision.detection.types import Result, Truth

SCORE_THRESHOLD = 0.5
IOU_THRESHOLD = 0.5


def confusion_matrix(
    results: Sequence[Result],
    truths: Sequence[Truth],
    num_classes: int,
    *,
    score_threshold: float = SCORE_THRESHOLD,
    iou_threshold: float = IOU_THRESHOLD,
) -> Int64[np.ndarray, "C+1 C+1"]:
    """Count each true class (row) against what it was taken for (column); the last of both is the background.

    Detections and objects are paired whatever their classes, each at most once, by falling overlap, of equal overlaps
    the better detection first. Objects without a partner were taken for background, detections without one are
    background taken for an object. Crowds are no objects, and what lies on a crowd of its class is left out.

    Args:
        results: Of each image.
        truths: Of the same images.
        num_classes: Labels; the background is not among them.
        score_threshold: Detections that do not score as much do not count.
        iou_threshold: The least intersection over union of a pair.

    >>> truth = Truth(np.array([[0.0, 0, 9, 9]]), np.array([0]), np.array([False]), np.array([81.0]))
    >>> confusion_matrix([Result(truth.boxes_xywh, np.array([0.9]), np.array([1]))], [truth], num_classes=2).tolist()
    [[0, 1, 0], [0, 0, 0], [0, 0, 0]]
    """
    shown = [Result(*(column[result.scores >= score_threshold] for column in result)) for result in results]
    scores, labels, true_labels, pairs, on_crowd = find_overlaps(shown, truths, iou_threshold)
    taken = take_once(pairs.take(np.lexsort((pairs.true, -scores[pairs.found], -pairs.overlaps))))
    seen_as = np.full(len(true_labels), num_classes)
    seen_as[taken.true] = labels[taken.found]
    false_alarm = ~on_crowd
    false_alarm[taken.found] = False
    matrix = np.zeros((num_classes + 1, num_classes + 1), dtype=np.int64)
    np.add.at(matrix, (true_labels, seen_as), 1)
    np.add.at(matrix, (num_classes, labels[false_alarm]), 1)
    return matrix
