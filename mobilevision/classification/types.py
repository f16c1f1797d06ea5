"""Tuples that pass between the files of the classification room."""

from typing import Literal, NamedTuple

from jaxtyping import Int64, UInt8
from torch import Tensor

EvalCrop = Literal["short_side", "central"]
"""The part of an image that is evaluated: a square out of its center after its short side was resized, as torchvision
does, or its central part, whatever its aspect, resized to a square, as TensorFlow's slim does."""

Background = Literal["first", "last"]
"""The place of a class for everything that is none of the others, which TensorFlow's classifiers have."""

CROP_SHARE = 0.875
"""The crop's share of the resized short side, or of each side: 224 of 256."""


class ClassificationSample(NamedTuple):
    """One image of a dataset, transformed."""

    image: UInt8[Tensor, "3 H W"]
    label: int
    position: int
    """Its place in the dataset, by which repeats of a distributed sampler are dropped."""


class ClassificationBatch(NamedTuple):
    """Images and labels, as the network and the loss take them."""

    images: UInt8[Tensor, "B 3 H W"]
    labels: Int64[Tensor, " B"]
    positions: Int64[Tensor, " B"]
