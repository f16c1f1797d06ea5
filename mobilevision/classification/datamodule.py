"""ImageNet, or any images in one folder per class, as batches."""

import copy
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_warn

from mobilevision.classification.dataset import (
    SYNSET_LIST,
    ClassificationDataset,
    ClassList,
    LabeledFile,
    find_labeled_images,
    list_class_folders,
    read_synset_list,
)
from mobilevision.classification.head import ClassificationConfig
from mobilevision.classification.preprocess import CropTransform
from mobilevision.classification.transforms import ClassificationAugment
from mobilevision.classification.types import ClassificationBatch, ClassificationSample
from mobilevision.head import Preprocess
from mobilevision.images import IMAGE_SUFFIXES
from mobilevision.training.datamodule import STAGE_SPLITS, Collate, ImageDataModule, Split, no_test_split
from mobilevision.training.loader import EpochSampler, ResumableLoader, stack_images


class ImageNetDataModule(ImageDataModule):
    """Images in one folder per class: folders ``train``, ``val`` and ``test``, with ImageNet's classes or others.

    The labels follow the list of classes if there is one, otherwise the sorted folders of the training set; of the
    validation or test set only where there is no training set. So a validation set with some of the classes has the
    right labels.

    Args:
        root: Folder of the dataset.
        train_dir: Folder of the training images, in ``root``; only needed to train.
        val_dir: Folder of the validation images, in ``root``.
        test_dir: Folder of the test images, in ``root``; only needed to test.
        class_list: File with a line for each class in order, ``n01440764 tench, Tinca tinca``, in ``root``. Without
            one, ``LOC_synset_mapping.txt`` is used if ``root`` has it.
        min_crop_area: The smallest share of an image that training crops. Small objects need more than ImageNet's.
        rand_augment: Magnitude of RandAugment in training, from 0, which is none at all, to 30; 9 is usual.
        brightness: The largest relative change of the brightness in training, from 0 to 1.
        contrast: The largest relative change of the contrast in training, from 0 to 1.
        saturation: The largest relative change of the saturation in training, from 0 to 1.
        random_erase: The share of the training images in which a rectangle is erased.
        loading: Input size, batch size and what else :class:`ImageDataModule` has.

    Raises:
        ValueError: An option of the augmentation is out of its range.
    """

    default_size = ClassificationConfig.input_size

    def __init__(
        self,
        root: str,
        *,
        train_dir: str = "train",
        val_dir: str = "val",
        test_dir: str = "test",
        class_list: str | None = None,
        min_crop_area: float = 0.08,
        rand_augment: int = 0,
        brightness: float = 0.0,
        contrast: float = 0.0,
        saturation: float = 0.0,
        random_erase: float = 0.0,
        **loading: Any,
    ) -> None:
        super().__init__(**loading)
        self.root = Path(root)
        self.folders: dict[Split, Path] = {
            "train": self.root / train_dir,
            "val": self.root / val_dir,
            "test": self.root / test_dir,
        }
        self.class_list = self.root / (class_list or SYNSET_LIST)
        self.class_list_required = class_list is not None
        self.augmentation: dict[str, Any] = {
            "min_crop_area": min_crop_area,
            "rand_augment": rand_augment,
            "brightness": brightness,
            "contrast": contrast,
            "saturation": saturation,
            "random_erase": random_erase,
        }
        size = self.input_size or self.default_size
        self.set_transforms(CropTransform(size), size)

    def setup(self, stage: str) -> None:
        """Find the images that ``stage`` needs and settle the order of the classes.

        Raises:
            FileNotFoundError: A folder or the list of classes is missing; the message says what is expected.
            ValueError: A folder is not among the classes, or there is no image.
        """
        splits = STAGE_SPLITS[stage]
        for split in splits:
            self._check_folder(split)
        classes = self._read_classes()
        self.class_names = classes.names
        for split in splits:
            images = self._find_images(self.folders[split], classes)
            augment = self.augment if split == "train" else None
            self.datasets[split] = ClassificationDataset(images, self.preprocess, augment, self.seed)

    def set_transforms(self, preprocess: Preprocess, input_size: int) -> None:
        """Set the evaluation and the training transform."""
        self.preprocess = preprocess
        self.augment = ClassificationAugment(input_size, **self.augmentation)

    def collate(self, split: Split) -> Collate:
        """Return the function that puts samples of a split into a batch."""
        return collate

    def feature_dataloader(self) -> ResumableLoader:
        """Return the training images as in evaluation, in order, and all of them in every process."""
        dataset = copy.copy(self.train_set)
        dataset.augment = None
        return ResumableLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=EpochSampler(len(dataset), shuffle=False, seed=self.seed),
            collate_fn=collate,
            num_workers=self.num_workers,
        )

    def _check_folder(self, split: Split) -> None:
        folder = self.folders[split]
        if folder.is_dir():
            return
        if split == "test":
            raise no_test_split(f"{folder}/CLASS/IMAGE")
        raise FileNotFoundError(
            f"{folder} not found: expected {self.folders['train']}/CLASS/IMAGE and {self.folders['val']}/CLASS/IMAGE, "
            f"and for ImageNet's class order {self.class_list}"
        )

    def _read_classes(self) -> ClassList:
        if self.class_list_required or self.class_list.is_file():
            return read_synset_list(self.class_list)
        return list_class_folders(next(folder for folder in self.folders.values() if folder.is_dir()))

    def _find_images(self, folder: Path, classes: ClassList) -> list[LabeledFile]:
        images = find_labeled_images(folder, classes)
        present = list_class_folders(folder).folders
        empty = sorted(set(present) - {classes.folders[image.label] for image in images})
        if empty:
            rank_zero_warn(f"{len(empty)} class folders of {folder} hold no image: {', '.join(empty[:10])}")
        absent = sorted(set(classes.folders) - set(present))
        if absent and folder == self.folders["train"]:
            rank_zero_warn(
                f"{len(absent)} classes have no folder in {folder} and are not learned: {', '.join(absent[:10])}"
            )
        loose = [path.name for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]
        if loose:
            rank_zero_warn(
                f"{len(loose)} images in {folder} are in no class folder and left out: {', '.join(loose[:3])}"
            )
        kept = set(self.drop_broken([image.path for image in images]))
        return [image for image in images if image.path in kept]


def collate(samples: list[ClassificationSample]) -> ClassificationBatch:
    """Stack samples into a batch."""
    images, labels, positions = zip(*samples, strict=True)
    return ClassificationBatch(stack_images(list(images)), torch.tensor(labels), torch.tensor(positions))
