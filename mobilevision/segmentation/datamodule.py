"""Pascal VOC 2012, or any set of masks laid out like it, as batches."""

from pathlib import Path

import torch
from torch import Tensor

from mobilevision.segmentation.transforms import EvalTransform, TrainTransform
from mobilevision.segmentation.types import Batch, EvalBatch, Sample
from mobilevision.segmentation.voc import (
    AUGMENTED_MASK_DIR,
    AUGMENTED_SPLITS,
    IMAGE_DIR,
    LIST_DIR,
    MASK_DIR,
    VOC_CLASSES,
    MaskedPictures,
    Pair,
    Transform,
    VocLayout,
)
from mobilevision.training.datamodule import ImageDataModule
from mobilevision.training.loader import ResumableLoader


class VocDataModule(ImageDataModule):
    """Pictures with masks in the layout of VOC 2012, with VOC's classes or those of another set.

    Every folder is in ``root`` unless it is absolute.

    Args:
        root: The folder ``VOC2012``, or one that holds it or ``VOCdevkit/VOC2012``.
        train_split: Name of the training list, without ``.txt``; not needed to validate.
        val_split: Name of the validation list.
        image_dir: Folder of the pictures.
        mask_dir: Folder of the masks.
        train_mask_dir: Folder of the training masks, if it is another: ``SegmentationClassAug`` unless given for the
            split ``train_aug``.
        list_dir: Folder of the lists.
        image_suffix: Of the pictures.
        classes: Names of the classes in the order of the masks' values, background included; VOC's 21 by default.
        input_size: Side of the pictures given to the network, in pixels.
        min_scale: The smallest factor by which training scales a picture.
        max_scale: The largest.
        batch_size: Pictures in a batch of one process.
        num_workers: Processes that read and augment; 0 reads in the training process.
        seed: With epoch and index it decides order and augmentation of every picture.
        skip_broken: Leave pictures and masks that do not decode out, with a count, instead of stopping at them.
    """

    def __init__(
        self,
        root: str,
        *,
        train_split: str = "train_aug",
        val_split: str = "val",
        image_dir: str = IMAGE_DIR,
        mask_dir: str = MASK_DIR,
        train_mask_dir: str | None = None,
        list_dir: str = LIST_DIR,
        image_suffix: str = ".jpg",
        classes: list[str] | None = None,
        input_size: int = 513,
        min_scale: float = 0.5,
        max_scale: float = 2.0,
        batch_size: int = 16,
        num_workers: int = 2,
        seed: int = 0,
        skip_broken: bool = False,
    ) -> None:
        super().__init__(batch_size=batch_size, num_workers=num_workers, seed=seed, skip_broken=skip_broken)
        if train_mask_dir is None:
            train_mask_dir = AUGMENTED_MASK_DIR if train_split in AUGMENTED_SPLITS else mask_dir
        self.train_split = train_split
        self.val_split = val_split
        self.val_layout = VocLayout(Path(root), image_dir, mask_dir, list_dir, image_suffix)
        self.train_layout = self.val_layout._replace(mask_dir=train_mask_dir)
        self.class_names = VOC_CLASSES if classes is None else tuple(classes)
        self.input_size = input_size
        self.train_transform = TrainTransform(input_size, min_scale=min_scale, max_scale=max_scale)

    def setup(self, stage: str) -> None:
        """Find the files that ``stage`` needs.

        Raises:
            FileNotFoundError: Something is missing; the message says what, and what is expected.
            ValueError: A list is empty.
        """
        if stage == "fit":
            pairs = self.train_layout.find_pairs(self.train_split)
            self.train_set = self._dataset(pairs, self.train_transform)
        pairs = self.val_layout.find_pairs(self.val_split)
        self.val_set = self._dataset(pairs, EvalTransform(self.input_size).keep_mask)

    def train_dataloader(self) -> ResumableLoader:
        """Give the shuffled, augmented training batches."""
        return self.train_loader(self.train_set, collate_train)

    def val_dataloader(self) -> ResumableLoader:
        """Give the validation batches."""
        return self.eval_loader(self.val_set, collate_eval)

    def test_dataloader(self) -> ResumableLoader:
        """Give the validation batches: the masks of VOC's test set are not public."""
        return self.val_dataloader()

    def _dataset(self, pairs: list[Pair], transform: Transform) -> MaskedPictures:
        kept = set(self.drop_broken([path for pair in pairs for path in pair]))
        whole = [pair for pair in pairs if kept.issuperset(pair)]
        return MaskedPictures(whole, len(self.class_names), transform, self.seed)


def collate_train(samples: list[Sample]) -> Batch:
    """Put samples of one size into a batch."""
    return Batch(_stack_images(samples), torch.stack([sample.mask for sample in samples]), _positions(samples))


def collate_eval(samples: list[Sample]) -> EvalBatch:
    """Put samples into a batch, each with the mask of its file."""
    return EvalBatch(_stack_images(samples), tuple(sample.mask for sample in samples), _positions(samples))


def _stack_images(samples: list[Sample]) -> Tensor:
    # The pixels stay in memory as they were decoded, the channels last.
    return torch.stack([sample.image.permute(1, 2, 0) for sample in samples]).permute(0, 3, 1, 2)


def _positions(samples: list[Sample]) -> Tensor:
    return torch.tensor([sample.position for sample in samples])
