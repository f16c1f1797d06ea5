"""Pascal VOC 2012, or any images with masks, as batches."""

from abc import abstractmethod
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Int64
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from mobilevision.head import Preprocess
from mobilevision.segmentation.balance import count_classes
from mobilevision.segmentation.check import check_presence
from mobilevision.segmentation.class_table import read_class_table
from mobilevision.segmentation.dataset import ImageAndMask, SegmentationDataset
from mobilevision.segmentation.head import SegmentationConfig
from mobilevision.segmentation.layouts import (
    AUGMENTED_MASK_DIR,
    AUGMENTED_SPLITS,
    IMAGE_DIR,
    LIST_DIR,
    MASK_DIR,
    VOC_CLASSES,
    MaskFolders,
    VocLayout,
)
from mobilevision.segmentation.masks import SBD_SUFFIX
from mobilevision.segmentation.preprocess import FitTransform
from mobilevision.segmentation.protocol import DESCRIPTIONS, ProtocolTransform
from mobilevision.segmentation.transforms import SegmentationAugment
from mobilevision.segmentation.types import EvalBatch, EvalProtocol, SegmentationBatch, SegmentationSample
from mobilevision.training.datamodule import STAGE_SPLITS, Collate, ImageDataModule, Split, no_test_split
from mobilevision.training.loader import stack_images


class MaskDataModule(ImageDataModule):
    """Batches of images with masks, from wherever their files are.

    Args:
        classes: Names of the classes in the order of the masks' values, background included.
        class_table: Instead of ``classes``, a file that says which numbers (``name,id``) or colors (``name,r,g,b``) in
            the masks are which class.
        eval_protocol: Which pixels are measured: ``original`` (every pixel of the file; larger images are scaled into
            the square), ``pad`` (every pixel of the file, and no image may be larger) or ``centre_crop`` (the middle
            square).
        min_scale: The smallest factor by which training scales an image.
        max_scale: The largest factor by which training scales an image.
        batch_size: Images in a batch of one process.
        loading: Input size and what else :class:`ImageDataModule` has. Of a broken pair ``skip_broken`` leaves out
            both; .mat files are not read for it.

    Raises:
        FileNotFoundError: There is no such table.
        ValueError: The table is damaged, both or neither of ``classes`` and ``class_table`` are given,
            ``eval_protocol`` is unknown, or ``min_scale`` is not above 0 and at most ``max_scale``.
    """

    default_classes: ClassVar[Sequence[str] | None] = None
    """The classes where neither ``classes`` nor ``class_table`` are given."""

    default_size = SegmentationConfig.input_size

    def __init__(
        self,
        *,
        classes: list[str] | None = None,
        class_table: str | None = None,
        eval_protocol: EvalProtocol = "original",
        min_scale: float = 0.5,
        max_scale: float = 2.0,
        batch_size: int = 16,
        **loading: Any,
    ) -> None:
        super().__init__(batch_size=batch_size, **loading)
        names = self.default_classes if classes is None and class_table is None else classes
        if (names is None) == (class_table is None):
            raise ValueError("one of data.classes and data.class_table must say the classes, and not both")
        if eval_protocol not in DESCRIPTIONS:
            raise ValueError(f"eval_protocol must be one of {', '.join(DESCRIPTIONS)}, got {eval_protocol!r}")
        self.table = None if class_table is None else read_class_table(class_table)
        self.class_names = tuple(names or ()) if self.table is None else self.table.names
        self.eval_protocol: EvalProtocol = eval_protocol
        self.scales = {"min_scale": min_scale, "max_scale": max_scale}
        size = self.input_size or self.default_size
        self.set_transforms(FitTransform(size), size)

    @abstractmethod
    def find_pairs(self, split: Split) -> list[ImageAndMask]:
        """Find the files of a split.

        Raises:
            FileNotFoundError: Something is missing; the message says what, and what is expected.
            ValueError: There are no images.
        """

    def setup(self, stage: str) -> None:
        """Find the files that ``stage`` needs, see :meth:`find_pairs`, and warn of classes that cannot be learned.

        Raises:
            FileNotFoundError: Something is missing.
            ValueError: There are no images, no pixel of any class beside one, or a mask does not decode.
        """
        for split in STAGE_SPLITS[stage]:
            pairs = self._drop_broken_pairs(self.find_pairs(split))
            self._check_classes(split, [pair.mask for pair in pairs])
            self.datasets[split] = SegmentationDataset(
                pairs,
                len(self.class_names),
                self.preprocess,
                self.augment if split == "train" else None,
                seed=self.seed,
                table=self.table,
            )

    def set_transforms(self, preprocess: Preprocess, input_size: int) -> None:
        """Set the evaluation transform, by the protocol, and the training transform."""
        self.preprocess = ProtocolTransform(preprocess, input_size, self.eval_protocol)
        self.augment = SegmentationAugment(input_size, **self.scales)

    def collate(self, split: Split) -> Collate:
        """Return the function that puts samples of a split into a batch."""
        return collate_train if split == "train" else partial(collate_eval, protocol=self.eval_protocol)

    def count_classes(self) -> Int64[Tensor, " C"]:
        """Count every class's pixels in the training masks, as they are on disk.

        Raises:
            ValueError: A mask does not decode or holds a value that is no class; the message names it.
        """
        return count_classes([pair.mask for pair in self.train_set.pairs], len(self.class_names), self.table)

    def _check_classes(self, split: Split, masks: list[Path]) -> None:
        place = f"the {split} masks, such as {masks[0]}"
        absent = check_presence(place, masks, self.class_names, self.table)
        if split == "train" and absent:
            if 1 < len(self.class_names) <= len(absent) + 1:
                raise ValueError(f"{place}, must hold several classes, no pixel is of {', '.join(absent)}")
            rank_zero_warn(f"{place}, have no pixel of {', '.join(absent)}: such a class cannot be learned")

    def _drop_broken_pairs(self, pairs: list[ImageAndMask]) -> list[ImageAndMask]:
        files = [path for pair in pairs for path in pair]
        matlab = [path for path in files if path.suffix == SBD_SUFFIX]
        kept = {*self.drop_broken([path for path in files if path.suffix != SBD_SUFFIX]), *matlab}
        whole = [pair for pair in pairs if kept.issuperset(pair)]
        if not whole:
            raise ValueError(f"none of {len(pairs)} images with their masks can be read, such as {pairs[0].image}")
        return whole


class VocDataModule(MaskDataModule):
    """Images with masks in the layout of VOC 2012, with VOC's classes or those of another dataset.

    Every folder is in ``root`` unless it is absolute.

    Args:
        root: The folder ``VOC2012``, or one that holds it or ``VOCdevkit/VOC2012``.
        train_split: Name of the training list, without ``.txt``; only needed to train.
        val_split: Name of the validation list.
        test_split: Name of the test list; only needed to test.
        image_dir: Folder of the images.
        mask_dir: Folder of the masks.
        train_mask_dir: Folder of the training masks, if it is another: ``SegmentationClassAug`` unless given for the
            split ``train_aug``.
        sbd_dir: Instead of ``SegmentationClassAug``, SBD's own folder ``cls`` with its .mat files, for the training
            images without a mask in ``mask_dir``.
        list_dir: Folder of the lists of ids.
        image_suffix: The end of the images' names, after their id.
        options: Classes, VOC's 21 by default, and what else :class:`MaskDataModule` has.

    Raises:
        FileNotFoundError: There is no such table of classes.
        ValueError: An option of :class:`MaskDataModule` is wrong.
    """

    default_classes = VOC_CLASSES

    def __init__(
        self,
        root: str,
        *,
        train_split: str = "train_aug",
        val_split: str = "val",
        test_split: str = "test",
        image_dir: str = IMAGE_DIR,
        mask_dir: str = MASK_DIR,
        train_mask_dir: str | None = None,
        sbd_dir: str | None = None,
        list_dir: str = LIST_DIR,
        image_suffix: str = ".jpg",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if train_mask_dir is None:
            in_one_folder = train_split in AUGMENTED_SPLITS and sbd_dir is None
            train_mask_dir = AUGMENTED_MASK_DIR if in_one_folder else mask_dir
        layout = VocLayout(Path(root), image_dir, mask_dir, list_dir, image_suffix)
        self.splits: dict[Split, tuple[VocLayout, str]] = {
            "train": (layout._replace(mask_dir=train_mask_dir, sbd_dir=sbd_dir), train_split),
            "val": (layout, val_split),
            "test": (layout, test_split),
        }

    def find_pairs(self, split: Split) -> list[ImageAndMask]:
        """Find the files that the split's list names."""
        layout, name = self.splits[split]
        if split == "test" and not layout.list_file(name).is_file():
            raise no_test_split(str(layout.list_file(name)))
        return layout.find_pairs(name)


class MaskFolderDataModule(MaskDataModule):
    """Folders of images and folders of masks of the same names, with classes of one's own.

    Every folder is in ``root`` unless it is absolute, and may hold further folders, the same for images and masks.

    Args:
        root: The folder that holds the others.
        train_images: Folder of the training images; only needed to train.
        train_masks: Folder of the training masks.
        val_images: Folder of the validation images.
        val_masks: Folder of the validation masks.
        test_images: Folder of the test images; only needed to test.
        test_masks: Folder of the test masks.
        image_suffix: The end of the images' names, beyond the part they share with their mask:
            ``_leftImg8bit.png`` for Cityscapes. Any ending of an image by default.
        mask_suffix: The end of the masks' names, beyond the part they share with their image:
            ``_gtFine_labelIds.png`` for Cityscapes. ``.png`` by default or, where there is no such file and masks have
            a folder of their own, any ending of an image.
        options: Classes or a table of classes, and what else :class:`MaskDataModule` has.

    Raises:
        FileNotFoundError: There is no such table of classes.
        ValueError: An option of :class:`MaskDataModule` is wrong.
    """

    def __init__(
        self,
        root: str,
        *,
        train_images: str = "images/train",
        train_masks: str = "masks/train",
        val_images: str = "images/val",
        val_masks: str = "masks/val",
        test_images: str = "images/test",
        test_masks: str = "masks/test",
        image_suffix: str = "",
        mask_suffix: str = "",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        home = Path(root)
        folders = {
            "train": (train_images, train_masks),
            "val": (val_images, val_masks),
            "test": (test_images, test_masks),
        }
        self.folders = {
            split: MaskFolders(home / images, home / masks, image_suffix, mask_suffix)
            for split, (images, masks) in folders.items()
        }

    def find_pairs(self, split: Split) -> list[ImageAndMask]:
        """Find the images of a split, each with its mask."""
        folders = self.folders[split]
        if split == "test" and not folders.image_dir.is_dir():
            raise no_test_split(folders.expected)
        return folders.find_pairs()


def collate_train(samples: list[SegmentationSample]) -> SegmentationBatch:
    """Stack samples of one size into a batch."""
    images, masks, positions = zip(*samples, strict=True)
    return SegmentationBatch(stack_images(list(images)), torch.stack(masks), torch.tensor(positions))


def collate_eval(samples: list[SegmentationSample], protocol: EvalProtocol = "original") -> EvalBatch:
    """Put samples into a batch, each with the mask to compare with."""
    images, masks, positions = zip(*samples, strict=True)
    return EvalBatch(stack_images(list(images)), masks, torch.tensor(positions), protocol)
