"""Records that the classification room hands on."""

from typing import NamedTuple

from jaxtyping import Int64, UInt8
from torch import Tensor


class Sample(NamedTuple):
    """One image of a set."""

    image: UInt8[Tensor, "3 H W"]
    label: int
    position: int
    """Its place in the set, by which repeats of a distributed sampler are dropped."""


class Batch(NamedTuple):
    """Images and labels, as the network and the loss take them."""

    images: UInt8[Tensor, "B 3 H W"]
    labels: Int64[Tensor, " B"]
    positions: Int64[Tensor, " B"]
