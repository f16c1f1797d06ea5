"""Records that the segmentation room hands on.

A mask gives every pixel's class, background included, or ``IGNORE_INDEX`` where no answer counts.
"""

from typing import Literal, NamedTuple

from jaxtyping import Int64, UInt8
from torch import Tensor

IGNORE_INDEX = 255

EvalProtocol = Literal["original", "pad", "centre_crop"]
"""What of a picture is measured; :mod:`mobilevision.segmentation.protocol` says it in words."""


class Fitted(NamedTuple):
    """A picture in the network's square."""

    image: UInt8[Tensor, "3 S S"]
    content: tuple[int, int]
    """Height and width of the part that is picture, from the upper left corner; the rest is padding."""


class Sample(NamedTuple):
    """One image of a set, transformed."""

    image: UInt8[Tensor, "3 S S"]
    mask: UInt8[Tensor, "H W"]
    """At the size of ``image`` for training, at the size of the file for evaluation."""
    position: int
    """Its place in the set, by which repeats of a distributed sampler are dropped."""


class Batch(NamedTuple):
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
