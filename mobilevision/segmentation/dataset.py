"""Images with masks: their files, and one after the other as samples."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from torch import Tensor
from torch.utils.data import Dataset

from mobilevision.images import read_image
from mobilevision.segmentation.class_table import ClassTable
from mobilevision.segmentation.masks import MaskArray, read_mask
from mobilevision.segmentation.types import SegmentationSample
from mobilevision.training.loader import SampleKey, sample_seed

ImageArray = UInt8[np.ndarray, "H W 3"]
TransformedPair = tuple[UInt8[Tensor, "3 S S"], UInt8[Tensor, "h w"]]
Transform = Callable[[ImageArray, MaskArray], TransformedPair]
"""Image and mask in; the network's pixels and the mask to compare with out."""
Augment = Callable[[ImageArray, MaskArray, int], TransformedPair]
"""Image, mask and seed in; both at the network's size out."""


class ImageAndMask(NamedTuple):
    """The files of an image and its mask."""

    image: Path
    mask: Path


class SplitFiles(NamedTuple):
    """The files of a split, and those that are missing.

    Attributes:
        source: What lists the split: a file or a folder.
        pairs: The images that have a mask.
        without_image: The paths of missing images.
        without_mask: The paths of missing masks.
    """

    source: Path
    pairs: tuple[ImageAndMask, ...]
    without_image: tuple[Path, ...] = ()
    without_mask: tuple[Path, ...] = ()

    def complete(self) -> list[ImageAndMask]:
        """Return the pairs.

        Raises:
            FileNotFoundError: Something is missing; the message names it all.
        """
        faults = [
            f"{len(paths)} {kind} missing: {', '.join(map(str, paths))}"
            for kind, paths in (("images", self.without_image), ("masks", self.without_mask))
            if paths
        ]
        if faults:
            raise FileNotFoundError(f"{self.source}: {'; '.join(faults)}")
        return list(self.pairs)


def read_pair(pair: ImageAndMask, num_classes: int, table: ClassTable | None = None) -> tuple[ImageArray, MaskArray]:
    """Read an image and its mask.

    Raises:
        ValueError: A file does not decode, the mask is of another size than its image, or it holds a value that is no
            class; the message names the file.
    """
    image = read_image(pair.image)
    return image, read_mask_of(image, pair, num_classes, table)


def read_mask_of(image: ImageArray, pair: ImageAndMask, num_classes: int, table: ClassTable | None = None) -> MaskArray:
    """Read the mask of an image that is read already.

    Raises:
        ValueError: The mask does not decode, is of another size than its image, or holds a value that is no class; the
            message names the file.
    """
    mask = read_mask(pair.mask, num_classes, table=table)
    if mask.shape != image.shape[:2]:
        height, width = image.shape[:2]
        raise ValueError(
            f"{pair.mask} must be as large as {pair.image}, {width}x{height}, got {mask.shape[1]}x{mask.shape[0]}"
        )
    return mask


class SegmentationDataset(Dataset[SegmentationSample]):
    """Images with masks, read and transformed when asked for.

    Args:
        pairs: The files; a sample's place in this list is its position.
        num_classes: Classes of the masks, background included.
        preprocess: The evaluation transform of an image with its mask.
        augment: The training augmentation, if this is a training set.
        seed: The run's seed, from which every sample's own is made.
        table: What the numbers or colors in the masks stand for, if they are not the classes themselves.
    """

    def __init__(
        self,
        pairs: Sequence[ImageAndMask],
        num_classes: int,
        preprocess: Transform,
        augment: Augment | None = None,
        *,
        seed: int = 0,
        table: ClassTable | None = None,
    ) -> None:
        self.pairs = pairs
        self.num_classes = num_classes
        self.preprocess = preprocess
        self.augment = augment
        self.seed = seed
        self.table = table

    def __len__(self) -> int:
        return len(self.pairs)

    def path(self, position: int) -> Path:
        """Return the file of one image."""
        return self.pairs[position].image

    def __getitem__(self, key: int | SampleKey) -> SegmentationSample:
        """Read one sample: augmented for the key of a training sample, else as in evaluation.

        Raises:
            IndexError: There is no such sample.
            ValueError: A file does not decode, the mask is of another size than its image or holds a value that is no
                class, or the transform refuses the image; the message names the file.
        """
        position = range(len(self))[key.sample if isinstance(key, SampleKey) else key]
        pair = self.pairs[position]
        image, mask = read_pair(pair, self.num_classes, self.table)
        try:
            if self.augment is not None and isinstance(key, SampleKey):
                pixels, target = self.augment(image, mask, sample_seed(self.seed, key))
            else:
                pixels, target = self.preprocess(image, mask)
        except ValueError as error:
            raise ValueError(f"{pair.image}: {error}") from error
        return SegmentationSample(pixels, target, position)
