"""The boundary F-score: how well the outlines of the classes lie, which the intersection over union hardly sees."""

import math

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Integer, UInt8

from mobilevision.segmentation.types import IGNORE_INDEX

TOLERANCE = 0.0075
"""How far an outline may lie beside the true one, as a share of the picture's diagonal."""

Region = Bool[np.ndarray, "H W"]


def boundary_f_scores(
    predicted: Integer[np.ndarray, "H W"],
    mask: UInt8[np.ndarray, "H W"],
    num_classes: int,
    *,
    tolerance: float = TOLERANCE,
) -> Float32[np.ndarray, " C"]:
    """Score the outlines of one picture, class by class, in [0, 1].

    A class's outline is those of its pixels that have a neighbour above, below, left or right that is none of it.
    Precision is the share of the predicted outline that lies within the tolerance of the true one, recall the share of
    the true one within the tolerance of the predicted; the score is their harmonic mean. Where the truth is
    ``IGNORE_INDEX`` a predicted outline may be right but not wrong: VOC's own outlines are 5 pixels wide bands of it. A
    class that fills the picture in both, and so has no outline, scores 1.

    Args:
        predicted: Classes.
        mask: Classes, or ``IGNORE_INDEX``.
        num_classes: Classes of the mask, background included.
        tolerance: As a share of the diagonal.

    Returns:
        NaN for a class that is neither in the truth nor predicted where it counts.

    Reference: Csurka et al., "What is a good evaluation measure for semantic segmentation?", BMVC 2013, section 2.3.
    """
    scores = np.full(num_classes, np.nan, np.float32)
    counted = mask != IGNORE_INDEX
    disk = _disk(tolerance * math.hypot(*mask.shape))
    present = np.bincount(mask[counted], minlength=num_classes) + np.bincount(predicted[counted], minlength=num_classes)
    for label in np.flatnonzero(present):
        scores[label] = _f_score(find_outline(predicted == label), find_outline(mask == label), counted, disk)
    return scores


def find_outline(region: Region) -> Region:
    """Give the pixels of a region with a neighbour that is not in it; the picture's edge is no outline.

    >>> find_outline(np.array([[True, True, False]]))
    array([[False,  True, False]])
    """
    # What lies outside the picture counts as inside the region.
    inner = cv2.erode(region.view(np.uint8), _CROSS, borderType=cv2.BORDER_CONSTANT, borderValue=1)
    outline: Region = region & ~inner.view(bool)
    return outline


_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))


def _f_score(predicted: Region, true: Region, counted: Region, disk: UInt8[np.ndarray, "D D"]) -> float:
    found = predicted & _widen(true, disk)
    num_found, num_predicted = np.count_nonzero(found), np.count_nonzero(found | (predicted & counted))
    num_met, num_true = np.count_nonzero(true & _widen(predicted, disk)), np.count_nonzero(true)
    if num_predicted == num_true == 0:
        return 1.0
    # The harmonic mean of found / predicted and met / true, defined where one of them is 0.
    ratio = num_found * num_true + num_met * num_predicted
    return 2 * num_found * num_met / ratio if ratio else 0.0


def _widen(outline: Region, disk: UInt8[np.ndarray, "D D"]) -> Region:
    return cv2.dilate(outline.view(np.uint8), disk).view(bool)


def _disk(radius: float) -> UInt8[np.ndarray, "D D"]:
    reach = np.arange(-int(radius), int(radius) + 1)
    return (np.hypot(reach, reach[:, None]) <= radius).astype(np.uint8)
