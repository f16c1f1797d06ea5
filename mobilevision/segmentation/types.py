"""Tuples that pass between the files of the segmentation room.

A mask has the class of every pixel, background included, or ``IGNORE_INDEX`` where a pixel does not count.
"""

from typing import Literal, NamedTuple

from jaxtyping import Int64, UInt8
from torch import Tensor

IGNORE_INDEX = 255

EvalProtocol = Literal["original", "pad", "centre_crop"]
"""The pixels that are evaluated, described in :mod:`mobilevision.segmentation.protocol`."""


class SegmentationSample(NamedTuple):
    """One image of a dataset, transformed."""

    image: UInt8[Tensor, "3 S S"]
    mask: UInt8[Tensor, "H W"]
    """At the size of ``image`` for training, at the size of the file for evaluation."""
    position: int
    """Its place in the dataset, by which repeats of a distributed sampler are dropped."""


class SegmentationBatch(NamedTuple):
    """Images and masks for training."""

    images: UInt8[Tensor, "B 3 S S"]
    masks: UInt8[Tensor, "B S S"]
    positions: Int64[Tensor, " B"]


class EvalBatch(NamedTuple):
    """Images and the masks to compare with, each at its own size."""

    images: UInt8[Tensor, "B 3 S S"]
    masks: tuple[UInt8[Tensor, "H W"], ...]
    positions: Int64[Tensor, " B"]
    protocol: EvalProtocol = "original"
    """How images and masks were made from their files."""
