"""Images that stand in a dataset with boxes and in one with masks: trained on once, with both labels."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.utils.data import Dataset

from mobilevision.detection import datamodule as detection
from mobilevision.detection import types as boxes
from mobilevision.detection.dataset import DetectionDataset
from mobilevision.detection.transforms import DetectionAugment
from mobilevision.segmentation import datamodule as segmentation
from mobilevision.segmentation import types as masks
from mobilevision.segmentation.dataset import ImageAndMask, SegmentationDataset, read_mask_of
from mobilevision.segmentation.types import IGNORE_INDEX
from mobilevision.training.datamodule import Collate, ImageDataModule, ImageDataset
from mobilevision.training.loader import SampleKey, sample_seed

BOTH = "both"
"""The name of the images with boxes and masks, beside those of the heads."""


class PairedBatch(NamedTuple):
    """Images with boxes and masks, for one pass.

    Attributes:
        batches: The batch of each head, by name; the images are the same.
    """

    batches: dict[str, Any]


def split_passes(step: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the passes of a training step, each with the batches of the heads that its images have labels for."""
    return [
        batch.batches if isinstance(batch, PairedBatch) else {name: batch}
        for name, batch in step.items()
        if batch is not None
    ]


class Positions(NamedTuple):
    """The positions of one image in the two datasets."""

    boxes: int
    mask: int


def pair_by_name(boxed: ImageDataset, masked: ImageDataset) -> list[Positions]:
    """Match the images of two datasets whose files have the same name, whatever their folders and suffixes.

    Raises:
        ValueError: There are none, or several images of one name in a dataset, and some in the other.
    """
    first, second = _positions(boxed), _positions(masked)
    common = [name for name in first if name in second]
    for dataset, positions in ((boxed, first), (masked, second)):
        for name in common:
            if len(positions[name]) > 1:
                paths = " and ".join(str(dataset.path(position)) for position in positions[name][:2])
                raise ValueError(f"pair_by_name needs one image of a name in a dataset, got {paths}")
    if not common:
        raise ValueError(
            "pair_by_name needs images with boxes and with masks whose files have the same name, got none, such as "
            f"{boxed.path(0)} and {masked.path(0)}"
        )
    return [Positions(first[name][0], second[name][0]) for name in common]


def _positions(dataset: ImageDataset) -> dict[str, list[int]]:
    positions: dict[str, list[int]] = {}
    for position in range(len(dataset)):
        positions.setdefault(dataset.path(position).stem, []).append(position)
    return positions


class Pairing:
    """The datasets of images with boxes and masks, and of those that have one of the two.

    Args:
        modules: Data modules by head, one of them with boxes and one with masks.

    Raises:
        ValueError: There are not exactly one dataset with boxes and one with masks.
    """

    def __init__(self, modules: Mapping[str, ImageDataModule]) -> None:
        boxed = {name: module for name, module in modules.items() if isinstance(module, detection.CocoDataModule)}
        masked = {name: module for name, module in modules.items() if isinstance(module, segmentation.MaskDataModule)}
        if len(boxed) != 1 or len(masked) != 1:
            raise ValueError(
                f"pair_by_name needs one dataset with boxes and one with masks, got {', '.join(modules)} as "
                f"{', '.join(type(module).__name__ for module in modules.values())}"
            )
        ((self.boxed_name, self.boxed),) = boxed.items()
        ((self.masked_name, self.masked),) = masked.items()
        self.pairs: list[Positions] = []

    def find_pairs(self) -> str:
        """Match the images of the training sets, and return how many were found, in words.

        Raises:
            ValueError: There are none to pair, or their names are ambiguous.
        """
        datasets = self.boxed.train_set, self.masked.train_set
        self.pairs = pair_by_name(*datasets)
        only_boxes, only_masks = (len(dataset) - len(self.pairs) for dataset in datasets)
        return f"{len(self.pairs)} images have boxes and a mask, {only_boxes} boxes only, {only_masks} a mask only"

    def paired_dataset(self) -> tuple["PairedDataset", Collate]:
        """Return the images with both labels, and what puts them into a batch."""
        return PairedDataset(self.boxed.train_set, self.masked.train_set, self.pairs), self._collate

    def rest_of(self, name: str) -> tuple["Subset", Collate] | None:
        """Return the images of a head that have no other labels, and what puts them into a batch.

        Returns:
            None for a head that nothing is paired with.
        """
        if name == self.boxed_name:
            return _without(self.boxed.train_set, {pair.boxes for pair in self.pairs}), detection.collate
        if name == self.masked_name:
            return _without(self.masked.train_set, {pair.mask for pair in self.pairs}), segmentation.collate_train
        return None

    def _collate(self, samples: list["PairedSample"]) -> PairedBatch:
        boxed = detection.collate([sample.boxed for sample in samples])
        masked = masks.SegmentationBatch(
            boxed.images, torch.stack([sample.mask for sample in samples]), boxed.positions
        )
        return PairedBatch({self.boxed_name: boxed, self.masked_name: masked})


class PairedSample(NamedTuple):
    """An image with its boxes, and the part of its mask that it shows."""

    boxed: boxes.DetectionSample
    mask: UInt8[Tensor, "S S"]


class PairedDataset(Dataset[PairedSample]):
    """Images with boxes and masks, read once and augmented as the detector's are; positions are those of its dataset.

    Args:
        boxed: The training set with boxes.
        masked: The training set with masks.
        pairs: The positions of each image in both.
    """

    def __init__(self, boxed: DetectionDataset, masked: SegmentationDataset, pairs: Sequence[Positions]) -> None:
        assert isinstance(boxed.augment, DetectionAugment)
        self.boxed = boxed
        self.masked = masked
        self.pairs = pairs
        self.augment = boxed.augment

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, key: SampleKey) -> PairedSample:
        """Read one image.

        Raises:
            ValueError: A file does not decode, the image has another size than its annotations or its mask, or the mask
                holds a value that is no class.
        """
        position, in_masked = self.pairs[key.sample]
        labeled = self.boxed.read(position)
        pair = ImageAndMask(self.boxed.path(position), self.masked.pairs[in_masked].mask)
        mask = read_mask_of(labeled.image, pair, self.masked.num_classes, self.masked.table)
        seed = sample_seed(self.boxed.seed, SampleKey(key.epoch, position))
        transformed, view = self.augment.with_view(labeled, seed)
        shown = view.show_mask(mask, fill=IGNORE_INDEX)
        return PairedSample(self.boxed.describe(position, transformed), torch.from_numpy(shown))


class Subset(Dataset[Any]):
    """Some images of a dataset; a sample's position is that in the whole dataset.

    Args:
        whole: The dataset.
        positions: Of the images.
    """

    def __init__(self, whole: Any, positions: Sequence[int]) -> None:
        self.whole = whole
        self.positions = positions

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, key: SampleKey) -> Any:
        """Read one image, as the whole dataset does."""
        return self.whole[SampleKey(key.epoch, self.positions[key.sample])]


def _without(dataset: Any, taken: set[int]) -> Subset:
    return Subset(dataset, [position for position in range(len(dataset)) if position not in taken])
