"""Pictures that stand in the sets of detector and segmenter, each once and with both labels."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch.utils.data import Dataset

from mobilevision.detection import datamodule as detection
from mobilevision.detection.transforms import TrainTransform
from mobilevision.detection.types import Sample
from mobilevision.multitask.types import BoxesAndMasks
from mobilevision.segmentation.pictures import MaskedPictures, Pair, read_mask_of
from mobilevision.segmentation.types import IGNORE_INDEX
from mobilevision.training.datamodule import PictureSet
from mobilevision.training.sampling import SampleKey, sample_seed


class Places(NamedTuple):
    """The places of one picture in the two sets."""

    boxes: int
    mask: int


def pair_by_name(boxed: PictureSet, masked: PictureSet) -> list[Places]:
    """Find the pictures of two sets whose files have the same name, whatever their folders and endings.

    Raises:
        ValueError: There are none, or several pictures of one name in a set, and some in the other.
    """
    first, second = _places(boxed), _places(masked)
    common = [name for name in first if name in second]
    for pictures, places in ((boxed, first), (masked, second)):
        for name in common:
            if len(places[name]) > 1:
                paths = " and ".join(str(pictures.path(place)) for place in places[name][:2])
                raise ValueError(f"pair_by_name needs one picture of a name in a set, got {paths}")
    if not common:
        raise ValueError(
            "pair_by_name needs pictures with boxes and with masks whose files have the same name, got none, such as "
            f"{boxed.path(0)} and {masked.path(0)}"
        )
    return [Places(first[name][0], second[name][0]) for name in common]


def _places(pictures: PictureSet) -> dict[str, list[int]]:
    places: dict[str, list[int]] = {}
    for place in range(len(pictures)):
        places.setdefault(pictures.path(place).stem, []).append(place)
    return places


class PairedSample(NamedTuple):
    """A picture with its boxes, and its mask as far as it is seen."""

    boxed: Sample
    mask: torch.Tensor


class PairedPictures(Dataset[PairedSample]):
    """Pictures with boxes and masks, read once and transformed as the detector's are; positions are those of its set.

    Args:
        boxed: The detector's set.
        masked: The segmenter's.
        places: Of each picture in both.
        transform: The detector's.
    """

    def __init__(
        self,
        boxed: detection.CocoDataset,
        masked: MaskedPictures,
        places: Sequence[Places],
        transform: TrainTransform,
    ) -> None:
        self.boxed = boxed
        self.masked = masked
        self.places = places
        self.transform = transform

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, key: SampleKey) -> PairedSample:
        """Give one picture.

        Raises:
            ValueError: A file does not decode, the picture has another size than its annotations or its mask, or the
                mask holds what is no class.
        """
        position, in_masked = self.places[key.sample]
        labelled = self.boxed.read(position)
        pair = Pair(self.boxed.path(position), self.masked.pairs[in_masked].mask)
        mask = read_mask_of(labelled.image, pair, self.masked.num_classes, self.masked.table)
        seed = sample_seed(self.boxed.seed, SampleKey(key.epoch, position))
        transformed, view = self.transform.with_view(labelled, seed)
        shown = view.show_mask(mask, fill=IGNORE_INDEX)
        return PairedSample(self.boxed.describe(position, transformed), torch.from_numpy(shown))


class Rest(Dataset[Any]):
    """Some pictures of a set; a sample's position is that in the whole set.

    Args:
        whole: The set.
        positions: Of those that are left.
    """

    def __init__(self, whole: Any, positions: Sequence[int]) -> None:
        self.whole = whole
        self.positions = positions

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, key: SampleKey) -> Any:
        """Give one picture, as the whole set does."""
        return self.whole[SampleKey(key.epoch, self.positions[key.sample])]


def collate_paired(samples: list[PairedSample]) -> BoxesAndMasks:
    """Put samples into a batch."""
    boxed = detection.collate([sample.boxed for sample in samples])
    return BoxesAndMasks(boxed, torch.stack([sample.mask for sample in samples]))
