"""Pictures with masks: which there are, and one after the other as samples."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from torch import Tensor
from torch.utils.data import Dataset

from mobilevision.images import read_image
from mobilevision.segmentation.class_table import ClassTable
from mobilevision.segmentation.masks import Mask, read_mask
from mobilevision.segmentation.types import Sample
from mobilevision.training.sampling import SampleKey, sample_seed

Pixels = UInt8[np.ndarray, "H W 3"]
Transform = Callable[[Pixels, Mask, int], tuple[UInt8[Tensor, "3 S S"], UInt8[Tensor, "h w"]]]
"""Picture, mask and seed in; the network's pixels and the mask to compare with out."""


class Pair(NamedTuple):
    """A picture and its mask."""

    image: Path
    mask: Path


class Listing(NamedTuple):
    """What a set is made of, and what is missing.

    Attributes:
        source: What lists the set: a file or a folder.
        pairs: What there is.
        without_image: Where pictures are missing: the paths they should have.
        without_mask: Likewise for masks.
    """

    source: Path
    pairs: tuple[Pair, ...]
    without_image: tuple[Path, ...] = ()
    without_mask: tuple[Path, ...] = ()

    def complete(self) -> list[Pair]:
        """Give the pairs.

        Raises:
            FileNotFoundError: Something is missing; the message names it all.
        """
        faults = [
            f"{len(paths)} {kind} missing: {', '.join(map(str, paths))}"
            for kind, paths in (("pictures", self.without_image), ("masks", self.without_mask))
            if paths
        ]
        if faults:
            raise FileNotFoundError(f"{self.source}: {'; '.join(faults)}")
        return list(self.pairs)


def read_pair(pair: Pair, num_classes: int, table: ClassTable | None = None) -> tuple[Pixels, Mask]:
    """Read a picture and its mask.

    Raises:
        ValueError: A file does not decode, the mask is of another size than its picture, or it holds a value that is no
            class; the message names the file.
    """
    image = read_image(pair.image)
    return image, read_mask_of(image, pair, num_classes, table)


def read_mask_of(image: Pixels, pair: Pair, num_classes: int, table: ClassTable | None = None) -> Mask:
    """Read the mask of a picture that is read already.

    Raises:
        ValueError: As :func:`read_pair`.
    """
    mask = read_mask(pair.mask, num_classes, table=table)
    if mask.shape != image.shape[:2]:
        height, width = image.shape[:2]
        raise ValueError(
            f"{pair.mask} must be as large as {pair.image}, {width}x{height}, got {mask.shape[1]}x{mask.shape[0]}"
        )
    return mask


class MaskedPictures(Dataset[Sample]):
    """Pictures with masks, read and transformed when asked for.

    Args:
        pairs: What there is; a sample's place in this list is its position.
        num_classes: Classes of the masks, background included.
        transform: Makes the network's pixels and the mask to compare with.
        seed: The run's seed, from which every sample's own is made.
        table: What the numbers or colours in the masks stand for, if they are not the classes themselves.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        num_classes: int,
        transform: Transform,
        seed: int = 0,
        table: ClassTable | None = None,
    ) -> None:
        self.pairs = pairs
        self.num_classes = num_classes
        self.transform = transform
        self.seed = seed
        self.table = table

    def __len__(self) -> int:
        return len(self.pairs)

    def path(self, position: int) -> Path:
        """Give the file of one picture."""
        return self.pairs[position].image

    def __getitem__(self, key: SampleKey) -> Sample:
        """Read one sample.

        Raises:
            ValueError: As :func:`read_pair`, or the transform refuses the picture; the message names the file.
        """
        pair = self.pairs[key.sample]
        image, mask = read_pair(pair, self.num_classes, self.table)
        try:
            pixels, target = self.transform(image, mask, sample_seed(self.seed, key))
        except ValueError as error:
            raise ValueError(f"{pair.image}: {error}") from error
        return Sample(pixels, target, position=key.sample)
