"""The boundary F-score: how well the outlines of the classes fit, which intersection over union hardly shows."""

import math
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Int64, Integer, UInt8

from mobilevision.segmentation.types import IGNORE_INDEX

TOLERANCE = 0.0075
"""How far an outline may lie beside the true one, as a share of the image's diagonal."""

NUM_BITS = 8
"""Classes that are widened at once: each has a bit of a pixel's number."""

Labels = UInt8[np.ndarray, "H W"]


class Outlines(NamedTuple):
    """The outlines of all classes in a mask: few pixels, so that only these are looked at when they are counted.

    Attributes:
        places: Where they are, in the mask as one row.
        labels: The class of each pixel.
        drawn: A mask of them alone; ``IGNORE_INDEX`` elsewhere.
    """

    places: Int64[np.ndarray, " N"]
    labels: UInt8[np.ndarray, " N"]
    drawn: Labels


def boundary_f_scores(
    predicted: Integer[np.ndarray, "H W"],
    mask: UInt8[np.ndarray, "H W"],
    num_classes: int,
    *,
    tolerance: float = TOLERANCE,
) -> Float32[np.ndarray, " C"]:
    """Compute the boundary F-score of each class in one image, in [0, 1].

    A class's outline is those of its pixels that have a neighbor of another class above, below, left or right.
    Precision is the share of the predicted outline that lies within the tolerance of the true one, recall the share of
    the true one within the tolerance of the predicted; the score is their harmonic mean. Where the truth is
    ``IGNORE_INDEX`` a predicted outline may be right but not wrong: VOC's own outlines are 5 pixels wide bands of it. A
    class that fills the image in both, and so has no outline, scores 1.

    Args:
        predicted: Classes.
        mask: Classes, or ``IGNORE_INDEX``.
        num_classes: Classes of the mask, background included.
        tolerance: As a share of the diagonal.

    Returns:
        NaN for a class that is neither in the truth nor predicted where it counts.

    Reference: Csurka et al., "What is a good evaluation measure for semantic segmentation?", BMVC 2013, section 2.3.
    """
    counted = mask != IGNORE_INDEX
    radius = tolerance * math.hypot(*mask.shape)
    guess = predicted.astype(np.uint8)
    found, true = _draw(guess, find_outlines(guess)), _draw(mask, find_outlines(mask) & counted)
    right, met = _is_near(found, true, radius), _is_near(true, found, radius)

    def count(labels: UInt8[np.ndarray, " N"]) -> Int64[np.ndarray, " C"]:
        return np.bincount(labels, minlength=num_classes)

    num_right = count(found.labels[right])
    num_predicted = count(found.labels[right | counted.ravel()[found.places]])
    num_met, num_true = count(true.labels[met]), count(true.labels)
    # The harmonic mean of right / predicted and met / true, defined where one of them is 0.
    ratio = num_right * num_true + num_met * num_predicted
    scores = np.where((num_predicted == 0) & (num_true == 0), 1.0, 2 * num_right * num_met / np.maximum(ratio, 1))
    scores[~(_is_present(mask, counted) | _is_present(guess, counted))[:num_classes]] = np.nan
    return scores.astype(np.float32)


def find_outlines(labels: Integer[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """Return the pixels with a neighbor of another label; the edge of the mask is no outline.

    >>> find_outlines(np.array([[1, 1, 0]]))
    array([[False,  True,  True]])
    """
    outlines = np.zeros(labels.shape, bool)
    for axis in (0, 1):
        ahead, behind = (_slide(labels, step, axis) for step in (1, -1))
        differs = ahead != behind
        for step in (1, -1):
            _slide(outlines, step, axis)[...] |= differs
    return outlines


def widen(bits: UInt8[np.ndarray, "H W"], radius: float) -> UInt8[np.ndarray, "H W"]:
    """Set every bit in all pixels within the radius, between centers, of a pixel that has it."""
    reach = int(radius)
    widened, row, width = np.zeros_like(bits), bits.copy(), 0
    # From the disk's ends to its middle, where it is widest: each row of it is the last one, and a little more.
    for height in range(reach, -1, -1):
        while math.hypot(width + 1, height) <= radius:
            width += 1
            _merge(row, bits, width, axis=1)
        _merge(widened, row, height, axis=0)
    return widened


def _merge(target: UInt8[np.ndarray, "H W"], source: UInt8[np.ndarray, "H W"], distance: int, *, axis: int) -> None:
    """Add a source's bits at a distance on both sides."""
    for step in (distance, -distance):
        _slide(target, step, axis)[...] |= _slide(source, -step, axis)


def _slide(pixels: np.ndarray, step: int, axis: int) -> np.ndarray:
    """Return the pixels without the first ones along an axis, or without the last for a negative ``step``."""
    kept = slice(step, None) if step >= 0 else slice(None, step)
    return pixels[kept] if axis == 0 else pixels[:, kept]


def _is_present(labels: Labels, counted: Bool[np.ndarray, "H W"]) -> Bool[np.ndarray, " 256"]:
    counts = cv2.calcHist([labels], [0], counted.view(np.uint8), [IGNORE_INDEX + 1], [0, IGNORE_INDEX + 1])
    present: Bool[np.ndarray, " 256"] = counts.ravel() > 0
    return present


def _draw(labels: Labels, outlines: Bool[np.ndarray, "H W"]) -> Outlines:
    places = np.flatnonzero(outlines)
    drawn = np.full(labels.shape, IGNORE_INDEX, np.uint8)
    drawn.ravel()[places] = found = labels.ravel()[places]
    return Outlines(places, found, drawn)


def _is_near(outlines: Outlines, others: Outlines, radius: float) -> Bool[np.ndarray, " N"]:
    """Return for each pixel of some outlines whether the others of its own class come within the radius of it."""
    near = np.zeros(len(outlines.places), bool)
    size = IGNORE_INDEX + 1
    classes = np.flatnonzero(np.bincount(outlines.labels, minlength=size) * np.bincount(others.labels, minlength=size))
    for first in range(0, len(classes), NUM_BITS):
        bit_of = np.zeros(size, np.uint8)
        chosen = classes[first : first + NUM_BITS]
        bit_of[chosen] = 1 << np.arange(len(chosen))
        bits = widen(cv2.LUT(others.drawn, bit_of), radius)
        near |= (bits.ravel()[outlines.places] & bit_of[outlines.labels]) != 0
    return near
