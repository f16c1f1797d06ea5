"""Tuples that pass between the files of the detection room.

Boxes are ``xyxy`` in pixels of the network's input unless a name says otherwise. Labels count from 0 and leave the
background out. The boxes of the images in a batch are padded to the same number; the label of padding is
``PADDING``.
"""

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64, UInt8
from torch import Tensor

PADDING = -1

ScoreFunction = Literal["sigmoid", "softmax"]
"""The function from logits to scores, and with it the cross-entropy that a detector is trained with."""


class Truth(NamedTuple):
    """The annotations of one image, as it is evaluated: in pixels of the file, crowds included.

    NumPy's arrays, because they stay where COCO's protocol is computed: they are not moved to the network's device, and
    a loader's process hands a whole one over in the time of a single tensor.
    """

    boxes_xywh: Float64[np.ndarray, "N 4"]
    labels: Int64[np.ndarray, " N"]
    crowd: Bool[np.ndarray, " N"]
    areas: Float64[np.ndarray, " N"]


class Result(NamedTuple):
    """The detections of one image, in pixels of the file, as a COCO result file has them."""

    boxes_xywh: Float64[np.ndarray, "N 4"]
    scores: Float64[np.ndarray, " N"]
    labels: Int64[np.ndarray, " N"]


class DetectionSample(NamedTuple):
    """One image of a dataset, transformed; crowds are not among its boxes."""

    image: UInt8[Tensor, "3 H W"]
    boxes: Float[Tensor, "N 4"]
    labels: Int64[Tensor, " N"]
    size: tuple[int, int]
    """Height and width of the file, in pixels."""
    position: int
    """Its place in the dataset, by which repeats of a distributed sampler are dropped."""
    truth: Truth


class DetectionBatch(NamedTuple):
    """Images and padded targets."""

    images: UInt8[Tensor, "B 3 S S"]
    boxes: Float[Tensor, "B N 4"]
    labels: Int64[Tensor, "B N"]
    sizes: Int64[Tensor, "B 2"]
    """Height and width of each file, in pixels."""
    positions: Int64[Tensor, " B"]
    truths: tuple[Truth, ...]


class DetectorOutput(NamedTuple):
    """Offsets and logits of every anchor."""

    offsets: Float[Tensor, "B A 4"]
    """(dx, dy, dw, dh), as encode_boxes returns them."""
    logits: Float[Tensor, "B A C+1"]
    """Column 0 is the background, column c + 1 is class c."""


class Detections(NamedTuple):
    """The objects found in one image, best first."""

    boxes: Float[Tensor, "N 4"]
    scores: Float[Tensor, " N"]
    labels: Int64[Tensor, " N"]


class PaddedDetections(NamedTuple):
    """The objects found in each image of a batch, best first, padded with zeros and the label ``PADDING``."""

    boxes: Float[Tensor, "B K 4"]
    scores: Float[Tensor, "B K"]
    labels: Int64[Tensor, "B K"]
