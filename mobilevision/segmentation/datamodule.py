"""Pascal VOC 2012, or any set of pictures with masks, as batches."""

from abc import abstractmethod
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Int64
from torch import Tensor

from mobilevision.segmentation import sbd
from mobilevision.segmentation.balance import count_classes
from mobilevision.segmentation.class_table import read_class_table
from mobilevision.segmentation.folders import MaskFolders
from mobilevision.segmentation.pictures import MaskedPictures, Pair, Transform
from mobilevision.segmentation.protocol import DESCRIPTIONS
from mobilevision.segmentation.transforms import PairTransform, TrainTransform
from mobilevision.segmentation.types import Batch, EvalBatch, EvalProtocol, Sample
from mobilevision.segmentation.voc import (
    AUGMENTED_MASK_DIR,
    AUGMENTED_SPLITS,
    IMAGE_DIR,
    LIST_DIR,
    MASK_DIR,
    VOC_CLASSES,
    VocLayout,
)
from mobilevision.training.datamodule import ImageDataModule
from mobilevision.training.loader import ResumableLoader


class MaskDataModule(ImageDataModule):
    """What the sets with masks share: everything but where the files are.

    Args:
        classes: Names of the classes in the order of the masks' values, background included.
        class_table: Instead of ``classes``, a file that says which numbers (``name,id``) or colours (``name,r,g,b``) in
            the masks are which class.
        input_size: Side of the pictures given to the network, in pixels.
        eval_protocol: What is measured: ``original`` (every pixel of the file; larger pictures are scaled into the
            square), ``pad`` (likewise, and no picture may be larger) or ``centre_crop`` (the middle square).
        min_scale: The smallest factor by which training scales a picture.
        max_scale: The largest.
        loading: As in :class:`ImageDataModule`.

    Raises:
        FileNotFoundError: There is no such table.
        ValueError: The table is none, both or neither of ``classes`` and ``class_table`` are given, or
            ``eval_protocol`` is unknown.
    """

    train_set: MaskedPictures

    def __init__(
        self,
        *,
        classes: Sequence[str] | None,
        class_table: str | None,
        input_size: int,
        eval_protocol: EvalProtocol,
        min_scale: float,
        max_scale: float,
        **loading: Any,
    ) -> None:
        super().__init__(**loading)
        if (classes is None) == (class_table is None):
            raise ValueError("one of data.classes and data.class_table must say the classes, and not both")
        if eval_protocol not in DESCRIPTIONS:
            raise ValueError(f"eval_protocol must be one of {', '.join(DESCRIPTIONS)}, got {eval_protocol!r}")
        self.table = None if class_table is None else read_class_table(class_table)
        self.class_names = tuple(classes or ()) if self.table is None else self.table.names
        self.input_size: int = input_size
        self.eval_protocol: EvalProtocol = eval_protocol
        self.train_transform = TrainTransform(input_size, min_scale=min_scale, max_scale=max_scale)
        self.val_transform = PairTransform(input_size, eval_protocol)

    @abstractmethod
    def find_pairs(self, split: Literal["train", "val"]) -> list[Pair]:
        """Find the files to train on, or to measure on.

        Raises:
            FileNotFoundError: Something is missing; the message says what, and what is expected.
            ValueError: There are no pictures.
        """

    def setup(self, stage: str) -> None:
        """Find the files that ``stage`` needs; see :meth:`find_pairs`."""
        if stage == "fit":
            self.train_set = self._dataset(self.find_pairs("train"), self.train_transform)
        self.val_set = self._dataset(self.find_pairs("val"), self.val_transform)

    def count_classes(self) -> Int64[Tensor, " C"]:
        """Count every class's pixels in the training masks, as they are on the disk.

        Raises:
            ValueError: A mask does not decode or holds what is no class; the message names it.
        """
        return count_classes([pair.mask for pair in self.train_set.pairs], len(self.class_names), self.table)

    def train_dataloader(self) -> ResumableLoader:
        """Give the shuffled, augmented training batches."""
        return self.train_loader(self.train_set, collate_train)

    def val_dataloader(self) -> ResumableLoader:
        """Give the validation batches."""
        return self.eval_loader(self.val_set, partial(collate_eval, protocol=self.eval_protocol))

    def test_dataloader(self) -> ResumableLoader:
        """Give the validation batches: the masks of test sets are rarely public."""
        return self.val_dataloader()

    def _dataset(self, pairs: list[Pair], transform: Transform) -> MaskedPictures:
        files = [path for pair in pairs for path in pair]
        matlab = [path for path in files if path.suffix == sbd.SUFFIX]
        kept = {*self.drop_broken([path for path in files if path.suffix != sbd.SUFFIX]), *matlab}
        whole = [pair for pair in pairs if kept.issuperset(pair)]
        return MaskedPictures(whole, len(self.class_names), transform, self.seed, self.table)


class VocDataModule(MaskDataModule):
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
        sbd_dir: Instead of ``SegmentationClassAug``, SBD's own folder ``cls`` with its .mat files, for the training
            pictures without a mask in ``mask_dir``.
        list_dir: Folder of the lists.
        image_suffix: Of the pictures.
        classes: As in :class:`MaskDataModule`; VOC's 21 by default.
        class_table: As in :class:`MaskDataModule`.
        input_size: As in :class:`MaskDataModule`.
        eval_protocol: As in :class:`MaskDataModule`.
        min_scale: As in :class:`MaskDataModule`.
        max_scale: As in :class:`MaskDataModule`.
        batch_size: Pictures in a batch of one process.
        num_workers: Processes that read and augment; 0 reads in the training process.
        seed: With epoch and index it decides order and augmentation of every picture.
        skip_broken: Leave pictures and masks that do not decode out, with a count, instead of stopping at them; .mat
            files are not looked at.
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
        sbd_dir: str | None = None,
        list_dir: str = LIST_DIR,
        image_suffix: str = ".jpg",
        classes: list[str] | None = None,
        class_table: str | None = None,
        input_size: int = 513,
        eval_protocol: EvalProtocol = "original",
        min_scale: float = 0.5,
        max_scale: float = 2.0,
        batch_size: int = 16,
        num_workers: int = 2,
        seed: int = 0,
        skip_broken: bool = False,
    ) -> None:
        super().__init__(
            classes=VOC_CLASSES if classes is None and class_table is None else classes,
            class_table=class_table,
            input_size=input_size,
            eval_protocol=eval_protocol,
            min_scale=min_scale,
            max_scale=max_scale,
            batch_size=batch_size,
            num_workers=num_workers,
            seed=seed,
            skip_broken=skip_broken,
        )
        if train_mask_dir is None:
            in_one_folder = train_split in AUGMENTED_SPLITS and sbd_dir is None
            train_mask_dir = AUGMENTED_MASK_DIR if in_one_folder else mask_dir
        self.splits = {"train": train_split, "val": val_split}
        layout = VocLayout(Path(root), image_dir, mask_dir, list_dir, image_suffix)
        self.layouts = {"train": layout._replace(mask_dir=train_mask_dir, sbd_dir=sbd_dir), "val": layout}

    def find_pairs(self, split: Literal["train", "val"]) -> list[Pair]:
        """Find what the split's list names."""
        return self.layouts[split].find_pairs(self.splits[split])


class MaskFolderDataModule(MaskDataModule):
    """Folders of pictures and folders of masks of the same names, with classes of one's own.

    Every folder is in ``root`` unless it is absolute, and may hold further folders, the same for pictures and masks.

    Args:
        root: The folder that holds the others.
        classes: As in :class:`MaskDataModule`.
        class_table: As in :class:`MaskDataModule`.
        train_images: Folder of the training pictures.
        train_masks: Folder of their masks.
        val_images: Folder of the pictures to measure on.
        val_masks: Folder of their masks.
        image_suffix: What pictures' names end in, beyond what they share with their mask: ``_leftImg8bit.png`` for
            Cityscapes. Any picture's ending by default.
        mask_suffix: Likewise of the masks: ``_gtFine_labelIds.png`` for Cityscapes.
        input_size: As in :class:`MaskDataModule`.
        eval_protocol: As in :class:`MaskDataModule`.
        min_scale: As in :class:`MaskDataModule`.
        max_scale: As in :class:`MaskDataModule`.
        batch_size: Pictures in a batch of one process.
        num_workers: Processes that read and augment; 0 reads in the training process.
        seed: With epoch and index it decides order and augmentation of every picture.
        skip_broken: Leave pictures and masks that do not decode out, with a count, instead of stopping at them.
    """

    def __init__(
        self,
        root: str,
        *,
        classes: list[str] | None = None,
        class_table: str | None = None,
        train_images: str = "images/train",
        train_masks: str = "masks/train",
        val_images: str = "images/val",
        val_masks: str = "masks/val",
        image_suffix: str = "",
        mask_suffix: str = ".png",
        input_size: int = 513,
        eval_protocol: EvalProtocol = "original",
        min_scale: float = 0.5,
        max_scale: float = 2.0,
        batch_size: int = 16,
        num_workers: int = 2,
        seed: int = 0,
        skip_broken: bool = False,
    ) -> None:
        super().__init__(
            classes=classes,
            class_table=class_table,
            input_size=input_size,
            eval_protocol=eval_protocol,
            min_scale=min_scale,
            max_scale=max_scale,
            batch_size=batch_size,
            num_workers=num_workers,
            seed=seed,
            skip_broken=skip_broken,
        )
        home = Path(root)
        self.folders = {
            "train": MaskFolders(home / train_images, home / train_masks, image_suffix, mask_suffix),
            "val": MaskFolders(home / val_images, home / val_masks, image_suffix, mask_suffix),
        }

    def find_pairs(self, split: Literal["train", "val"]) -> list[Pair]:
        """Find the pictures that are there, each with its mask."""
        return self.folders[split].find_pairs()


def collate_train(samples: list[Sample]) -> Batch:
    """Put samples of one size into a batch."""
    return Batch(_stack_images(samples), torch.stack([sample.mask for sample in samples]), _positions(samples))


def collate_eval(samples: list[Sample], protocol: EvalProtocol = "original") -> EvalBatch:
    """Put samples into a batch, each with the mask to compare with."""
    return EvalBatch(_stack_images(samples), tuple(sample.mask for sample in samples), _positions(samples), protocol)


def _stack_images(samples: list[Sample]) -> Tensor:
    # The pixels stay in memory as they were decoded, the channels last.
    return torch.stack([sample.image.permute(1, 2, 0) for sample in samples]).permute(0, 3, 1, 2)


def _positions(samples: list[Sample]) -> Tensor:
    return torch.tensor([sample.position for sample in samples])
