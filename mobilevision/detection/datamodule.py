"""COCO, or any set of pictures with boxes, as batches."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from lightning.pytorch.utilities import rank_zero_warn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from mobilevision.detection.coco import CocoImage, CocoImages, find_pictures
from mobilevision.detection.formats import Format, Part, Split, find_format, find_part, read_part
from mobilevision.detection.transforms import EvalTransform, Labelled, TrainTransform, Transformed
from mobilevision.detection.types import PADDING, Batch, Sample
from mobilevision.findings import Finding, refuse
from mobilevision.images import read_image
from mobilevision.training.datamodule import ImageDataModule
from mobilevision.training.loader import ResumableLoader
from mobilevision.training.sampling import SampleKey, sample_seed


class CocoDataset(Dataset[Sample]):
    """The pictures of a set, read and transformed when they are asked for.

    Args:
        images: What the set holds.
        transform: For training or for evaluation.
        seed: With epoch and place it decides the randomness of each picture.
    """

    def __init__(self, images: CocoImages, transform: Callable[[Labelled, int], Transformed], seed: int) -> None:
        self.images = images
        self.transform = transform
        self.seed = seed

    def __len__(self) -> int:
        return len(self.images)

    def path(self, position: int) -> Path:
        """Give the file of one picture."""
        return self.images[position].path

    def __getitem__(self, key: SampleKey) -> Sample:
        """Give one picture.

        Raises:
            ValueError: It does not decode, or has another size than the annotations say.
        """
        return self.describe(key.sample, self.transform(self.read(key.sample), sample_seed(self.seed, key)))

    def read(self, position: int) -> Labelled:
        """Read one picture, as it is.

        Raises:
            ValueError: As above.
        """
        entry = self.images[position]
        return Labelled(read_picture(entry), entry.boxes, entry.labels)

    def describe(self, position: int, transformed: Transformed) -> Sample:
        """Put with a transformed picture what is known of its file."""
        entry = self.images[position]
        return Sample(**transformed._asdict(), size=entry.size, position=position, truth=entry.truth)


class CocoDataModule(ImageDataModule):
    """Pictures with boxes: COCO 2017 in its own layout, or any set in one of four formats.

    ========  ===========================================================  ==========================================
    format    annotations                                                  pictures
    ========  ===========================================================  ==========================================
    ``coco``  ``annotations/instances_train2017.json``                     ``train2017``
    ``voc``   ``ImageSets/Main/train.txt`` and ``Annotations``, ``train``  ``JPEGImages``, ``train``
    ``yolo``  ``labels/train``, ``train/labels``                           ``images/train``, ``train/images``
    ``csv``   ``train.csv``                                                relative to ``root``
    ========  ===========================================================  ==========================================

    Crowds, and VOC's difficult objects, are evaluated as COCO does with crowds and not trained on; images without
    objects are trained on. After :meth:`setup`, ``category_ids`` are the file's own ids of the labels, by which a
    result file names them; in the other formats classes count from 0.

    Args:
        root: Folder of the set.
        format: ``coco``, ``voc``, ``yolo`` or ``csv``; recognised by what is in ``root`` where None.
        train_images: Folder of the training pictures, in ``root``; the format's own where None.
        val_images: Folder of the validation pictures, likewise.
        train_annotations: File or folder of the training annotations, likewise.
        val_annotations: File or folder of the validation annotations, likewise.
        classes: The categories to keep, by name; all of them where None.
        input_size: Side of the pictures given to the network, in pixels.
        crop: Whether to train on random crops, see ``crop_randomly``.
        flip: Whether to mirror every other training picture.
        photometric: Whether to change the colours of training pictures.
        zoom_out: Whether to show every other training picture smaller, see ``zoom_out_randomly``.
        batch_size: Pictures in a batch of one process.
        num_workers: Processes that read and augment; 0 reads in the training process.
        seed: With epoch and index it decides order and augmentation of every picture.
        skip_broken: Leave out pictures that do not decode and boxes that are broken, with a count, instead of stopping.
    """

    category_ids: tuple[int, ...] = ()
    train_set: CocoDataset

    def __init__(
        self,
        root: str,
        *,
        format: Format | None = None,  # noqa: A002 - what everybody calls it
        train_images: str | None = None,
        val_images: str | None = None,
        train_annotations: str | None = None,
        val_annotations: str | None = None,
        classes: list[str] | None = None,
        input_size: int = 320,
        crop: bool = True,
        flip: bool = True,
        photometric: bool = False,
        zoom_out: bool = False,
        batch_size: int = 32,
        num_workers: int = 2,
        seed: int = 0,
        skip_broken: bool = False,
    ) -> None:
        super().__init__(batch_size=batch_size, num_workers=num_workers, seed=seed, skip_broken=skip_broken)
        self.root = Path(root)
        self.format = format
        self.paths: dict[Split, tuple[str | None, str | None]] = {
            "train": (train_annotations, train_images),
            "val": (val_annotations, val_images),
        }
        self.classes = classes
        self.input_size: int = input_size
        self.train_transform = TrainTransform(
            input_size, crop=crop, flip=flip, photometric=photometric, zoom_out=zoom_out
        )

    def setup(self, stage: str) -> None:
        """Read the annotations that ``stage`` needs.

        Raises:
            FileNotFoundError: A part of the set is missing; the message says what is expected.
            ValueError: An annotation file is not what it should be or has a broken box, or training and validation
                name different categories.
        """
        parts = self.find_parts()
        val = self._read(parts, "val")
        self.class_names = val.annotations.class_names
        self.category_ids = val.annotations.category_ids
        self.val_set = CocoDataset(val, EvalTransform(self.input_size).with_boxes, self.seed)
        if stage == "fit":
            train = self._read(parts, "train")
            if train.annotations.class_names != self.class_names:
                first, second = (parts[split].annotations for split in ("train", "val"))
                raise ValueError(f"{first} and {second} must have the same categories")
            self.train_set = CocoDataset(train, self.train_transform, self.seed)

    def find_parts(self) -> dict[Split, Part]:
        """Say where the splits are, whether they are there or not.

        Raises:
            FileNotFoundError: The set's format is not known and not recognised.
            ValueError: It looks like several formats.
        """
        self.format = self.format or find_format(self.root, [annotations for annotations, _ in self.paths.values()])
        return {split: find_part(self.format, self.root, split, *paths) for split, paths in self.paths.items()}

    def train_dataloader(self) -> ResumableLoader:
        """Give the shuffled, augmented training batches."""
        return self.train_loader(self.train_set, collate)

    def val_dataloader(self) -> ResumableLoader:
        """Give the validation batches."""
        return self.eval_loader(self.val_set, collate)

    def test_dataloader(self) -> ResumableLoader:
        """Give the validation batches: the boxes of COCO's test set are not public."""
        return self.val_dataloader()

    def _read(self, parts: Mapping[Split, Part], split: Split) -> CocoImages:
        assert self.format is not None
        part = parts[split]
        for path in part:
            if not path.exists():
                expected = ", ".join(str(path) for part in parts.values() for path in part)
                raise FileNotFoundError(f"{path} not found: expected {expected}")
        left_out: list[Finding] = []
        others = [other for other in parts.values() if other != part and other.annotations.exists()]
        complain = left_out.append if self.skip_broken else refuse
        annotations = read_part(self.format, self.root, part, others=others, complain=complain)
        if left_out:
            rank_zero_warn(
                f"left out {len(left_out)} things that are wrong with {part.annotations}, first {left_out[0]}"
            )
        images = find_pictures(annotations, part.images, classes=self.classes, skip_broken=self.skip_broken)
        if self.skip_broken:
            images = images.only(self.drop_broken(images.paths))
        if not len(images):
            raise ValueError(f"{part.annotations} names no picture that can be read")
        return images


def collate(samples: Sequence[Sample]) -> Batch:
    """Put samples into a batch: boxes padded, pixels in memory as they were decoded, the channels last."""
    return Batch(
        images=torch.stack([sample.image.permute(1, 2, 0) for sample in samples]).permute(0, 3, 1, 2),
        boxes=pad_sequence([sample.boxes for sample in samples], batch_first=True),
        labels=pad_sequence([sample.labels for sample in samples], batch_first=True, padding_value=PADDING),
        sizes=torch.tensor([sample.size for sample in samples]),
        positions=torch.tensor([sample.position for sample in samples]),
        truths=tuple(sample.truth for sample in samples),
    )


def read_picture(entry: CocoImage) -> UInt8[np.ndarray, "H W 3"]:
    """Read a picture of the size that its boxes are made for.

    Raises:
        ValueError: It does not decode, or has another size than the annotations say.
    """
    image = read_image(entry.path)
    (height, width), (stated_height, stated_width) = image.shape[:2], entry.size
    if (height, width) != entry.size:
        raise ValueError(f"{entry.path} is {width}x{height} pixels, its annotation says {stated_width}x{stated_height}")
    return image
