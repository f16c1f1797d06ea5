"""ImageNet, or any pictures sorted into class folders, as batches."""

from pathlib import Path

import torch
from lightning.pytorch.utilities import rank_zero_warn

from mobilevision.classification.imagenet import (
    SYNSET_LIST,
    ClassList,
    Picture,
    PictureFolders,
    find_pictures,
    list_class_folders,
    read_synset_list,
)
from mobilevision.classification.transforms import EvalTransform, TrainTransform
from mobilevision.classification.types import CROP_SHARE, Batch, EvalCrop, Sample
from mobilevision.training.datamodule import ImageDataModule
from mobilevision.training.loader import ResumableLoader
from mobilevision.training.sampling import EpochSampler


class ImageNetDataModule(ImageDataModule):
    """Pictures in one folder per class, ``train`` and ``val``, with ImageNet's class order where its list is at hand.

    The labels follow the list of classes if there is one, otherwise the sorted folders of the training set, and of the
    validation set only where there is no other. So a validation set with some of the classes is labelled right.

    Args:
        root: Folder of the set.
        train_dir: Folder of the training pictures, in ``root``; not needed to validate.
        val_dir: Folder of the validation pictures, in ``root``.
        class_list: File with a line for each class in order, ``n01440764 tench, Tinca tinca``, in ``root``. Without
            one, ``LOC_synset_mapping.txt`` is taken if ``root`` has it.
        input_size: Side of the pictures given to the network, in pixels.
        min_crop_area: The smallest share of a picture that training cuts out. Small objects want more than ImageNet's.
        rand_augment: Magnitude of RandAugment in training, from 0, which is none at all, to 30; 9 is usual.
        brightness: The largest relative change of the brightness in training, from 0 to 1.
        contrast: Likewise.
        saturation: Likewise.
        random_erase: The share of the training pictures that a rectangle is erased in.
        eval_crop: How validation cuts the middle out: ``short_side`` or ``central``, see ``EvalTransform``.
        crop_share: The share of the picture that validation keeps.
        batch_size: Pictures in a batch of one process.
        num_workers: Processes that read and augment; 0 reads in the training process.
        seed: With epoch and index it decides order and augmentation of every picture.
        skip_broken: Leave pictures that do not decode out, with a count, instead of stopping at them.
    """

    def __init__(
        self,
        root: str,
        *,
        train_dir: str = "train",
        val_dir: str = "val",
        class_list: str | None = None,
        input_size: int = 224,
        min_crop_area: float = 0.08,
        rand_augment: int = 0,
        brightness: float = 0.0,
        contrast: float = 0.0,
        saturation: float = 0.0,
        random_erase: float = 0.0,
        eval_crop: EvalCrop = "short_side",
        crop_share: float = CROP_SHARE,
        batch_size: int = 32,
        num_workers: int = 2,
        seed: int = 0,
        skip_broken: bool = False,
    ) -> None:
        super().__init__(batch_size=batch_size, num_workers=num_workers, seed=seed, skip_broken=skip_broken)
        self.root = Path(root)
        self.train_dir = self.root / train_dir
        self.val_dir = self.root / val_dir
        self.class_list = self.root / (class_list or SYNSET_LIST)
        self.class_list_required = class_list is not None
        self.input_size: int = input_size
        self.train_transform = TrainTransform(
            input_size,
            min_crop_area=min_crop_area,
            rand_augment=rand_augment,
            brightness=brightness,
            contrast=contrast,
            saturation=saturation,
            random_erase=random_erase,
        )
        self.eval_transform = EvalTransform(input_size, crop=eval_crop, share=crop_share)

    def setup(self, stage: str) -> None:
        """Find the pictures that ``stage`` needs and settle the order of the classes.

        Raises:
            FileNotFoundError: A folder or the list of classes is missing; the message says what is expected.
            ValueError: A folder is not among the classes, or there is no picture.
        """
        for folder in (self.train_dir, self.val_dir) if stage == "fit" else (self.val_dir,):
            if not folder.is_dir():
                raise FileNotFoundError(
                    f"{folder} not found: expected {self.train_dir}/CLASS/PICTURE and {self.val_dir}/CLASS/PICTURE, "
                    f"and for ImageNet's class order {self.class_list}"
                )
        classes = self._read_classes()
        self.class_names = classes.names
        if stage == "fit":
            pictures = self._find_pictures(self.train_dir, classes)
            self.train_set = PictureFolders(pictures, self.train_transform, self.seed)
            self.feature_set = PictureFolders(pictures, self.eval_transform, self.seed)
        pictures = self._find_pictures(self.val_dir, classes)
        self.val_set = PictureFolders(pictures, self.eval_transform, self.seed)

    def train_dataloader(self) -> ResumableLoader:
        """Give the shuffled, augmented training batches."""
        return self.train_loader(self.train_set, collate)

    def feature_dataloader(self) -> ResumableLoader:
        """Give the training pictures as validation sees them, in order, and all of them in every process."""
        return ResumableLoader(
            self.feature_set,
            batch_size=self.batch_size,
            sampler=EpochSampler(len(self.feature_set), shuffle=False, seed=self.seed),
            collate_fn=collate,
            num_workers=self.num_workers,
        )

    def val_dataloader(self) -> ResumableLoader:
        """Give the validation batches."""
        return self.eval_loader(self.val_set, collate)

    def test_dataloader(self) -> ResumableLoader:
        """Give the validation batches: the labels of ImageNet's test set are not public."""
        return self.val_dataloader()

    def _read_classes(self) -> ClassList:
        if self.class_list_required or self.class_list.is_file():
            return read_synset_list(self.class_list)
        return list_class_folders(self.train_dir if self.train_dir.is_dir() else self.val_dir)

    def _find_pictures(self, folder: Path, classes: ClassList) -> list[Picture]:
        pictures = find_pictures(folder, classes)
        filled = {classes.folders[picture.label] for picture in pictures}
        empty = sorted(set(list_class_folders(folder).folders) - filled)
        if empty:
            rank_zero_warn(f"{len(empty)} class folders of {folder} hold no picture: {', '.join(empty[:10])}")
        kept = set(self.drop_broken([picture.path for picture in pictures]))
        return [picture for picture in pictures if picture.path in kept]


def collate(samples: list[Sample]) -> Batch:
    """Put samples into a batch whose pixels stay in memory as they were decoded, the channels last."""
    images = torch.stack([sample.image.permute(1, 2, 0) for sample in samples]).permute(0, 3, 1, 2)
    labels = torch.tensor([sample.label for sample in samples])
    positions = torch.tensor([sample.position for sample in samples])
    return Batch(images, labels, positions)
