"""COCO, or any dataset of images with boxes, as batches."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch.nn.utils.rnn import pad_sequence

from mobilevision.detection.dataset import (
    AnnotatedImages,
    DetectionDataset,
    check_measurable,
    check_trainable,
    find_annotated,
)
from mobilevision.detection.formats.annotations import CocoAnnotations, match_categories
from mobilevision.detection.formats.exports import Format, Split
from mobilevision.detection.formats.layout import FoundDataset, describe_layout, find_dataset, read_part
from mobilevision.detection.head import DetectionConfig
from mobilevision.detection.preprocess import StretchTransform
from mobilevision.detection.transforms import DetectionAugment
from mobilevision.detection.types import PADDING, DetectionBatch, DetectionSample
from mobilevision.findings import Finding, raise_finding
from mobilevision.head import Preprocess
from mobilevision.training.datamodule import STAGE_SPLITS, Collate, ImageDataModule, no_test_split
from mobilevision.training.loader import stack_images


class CocoDataModule(ImageDataModule):
    """Images with boxes: COCO 2017 in its own layout, or any dataset in one of five formats.

    ===========  ===========================================================  ========================================
    format       annotations                                                  images
    ===========  ===========================================================  ========================================
    ``coco``     ``annotations/instances_train2017.json``                     ``train2017``
    ``voc``      ``ImageSets/Main/train.txt`` and ``Annotations``, ``train``  ``JPEGImages``, ``train``
    ``yolo``     ``labels/train``, ``train/labels``                           ``images/train``, ``train/images``
    ``csv``      ``train.csv``                                                relative to ``root``
    ``labelme``  ``train``                                                    ``train``
    ===========  ===========================================================  ========================================

    Other layouts, as Roboflow, CVAT, Label Studio, LabelImg and Darknet write them, are recognized, too; a line says
    what is. An image is found by its base name where its path is one of another machine.
    The validation split is called ``val`` or ``valid``, the test split ``test``. Crowds, and VOC's difficult objects,
    are evaluated as COCO does with crowds and not trained on; images without objects are trained on. After
    :meth:`setup`, ``category_ids`` are the file's own ids of the labels, by which a result file names them; in the
    other formats classes count from 0.

    Args:
        root: Folder of the dataset, or one that holds only this dataset.
        format: ``coco``, ``voc``, ``yolo``, ``csv`` or ``labelme``; recognized by what is in ``root`` where None.
        train_images: Folder of the training images, in ``root``; the format's own where None.
        val_images: Folder of the validation images, in ``root``; the format's own where None.
        test_images: Folder of the test images, in ``root``; the format's own where None.
        train_annotations: File or folder of the training annotations, in ``root``; the format's own where None.
        val_annotations: File or folder of the validation annotations, in ``root``; the format's own where None.
        test_annotations: File or folder of the test annotations, in ``root``; the format's own where None.
        classes: The categories to keep, by name; all of them where None.
        crop: Whether to train on random crops, see ``crop_randomly``.
        flip: Whether to mirror every other training image.
        photometric: Whether to change the colors of training images.
        zoom_out: Whether to show every other training image smaller, see ``zoom_out_randomly``.
        loading: Input size, batch size and the other options of :class:`ImageDataModule`. ``skip_broken`` leaves out
            annotations that cannot be read and boxes that are broken, too.
    """

    category_ids: tuple[int, ...] = ()
    default_size = DetectionConfig.input_size

    def __init__(
        self,
        root: str,
        *,
        format: Format | None = None,  # noqa: A002 - what everybody calls it
        train_images: str | None = None,
        val_images: str | None = None,
        test_images: str | None = None,
        train_annotations: str | None = None,
        val_annotations: str | None = None,
        test_annotations: str | None = None,
        classes: list[str] | None = None,
        crop: bool = True,
        flip: bool = True,
        photometric: bool = False,
        zoom_out: bool = False,
        **loading: Any,
    ) -> None:
        super().__init__(**loading)
        self.root = Path(root)
        self.format = format
        self.paths: dict[Split, tuple[str | None, str | None]] = {
            "train": (train_annotations, train_images),
            "val": (val_annotations, val_images),
            "test": (test_annotations, test_images),
        }
        self.classes = classes
        self._noted: set[Finding] = set()
        self.augmentation = {"crop": crop, "flip": flip, "photometric": photometric, "zoom_out": zoom_out}
        size = self.input_size or self.default_size
        self.set_transforms(StretchTransform(size), size)

    def setup(self, stage: str) -> None:
        """Read the annotations of the splits that ``stage`` needs.

        Raises:
            FileNotFoundError: A part of the dataset is missing; the message says what is expected.
            ValueError: An annotation file is not what it should be or has a broken box, training and validation name
                different categories, or there is no box to train on, or none to measure against.
        """
        found = find_dataset(self.root, self.format, self.paths)
        self.root, self.format = found.root, found.format
        if str(found) != self.recognized:
            self.recognized = str(found)
            rank_zero_info(self.recognized)
        images = {split: self._read(found, split) for split in STAGE_SPLITS[stage]}
        first, *others = images.values()
        if shared := set(first.paths).intersection(*(each.paths for each in others)) if others else ():
            rank_zero_warn(
                f"{len(shared)} images, {min(shared)} among them, are to train on and to measure on: the figures will "
                "be too good"
            )
        for each in others:
            each.annotations = match_categories(first.annotations, each.annotations)
        last = [first, *others][-1].annotations
        self.class_names, self.category_ids = last.class_names, last.category_ids
        if len(set(self.class_names)) < len(self.class_names):
            name = next(name for name in self.class_names if self.class_names.count(name) > 1)
            raise ValueError(f"{last.path}: the names of classes must differ, there are several {name!r}: rename one")
        for split, each in images.items():
            augment = self.augment if split == "train" else None
            self.datasets[split] = DetectionDataset(each, self.preprocess, augment, self.seed)

    def set_transforms(self, preprocess: Preprocess, input_size: int) -> None:
        """Set the evaluation and the training transform."""
        self.preprocess = preprocess
        self.augment = DetectionAugment(input_size, **self.augmentation)

    def collate(self, split: Split) -> Collate:
        """Return the function that puts samples of a split into a batch."""
        return collate

    def _read(self, dataset: FoundDataset, split: Split) -> AnnotatedImages:
        self._check_files(dataset, split)
        part = dataset.parts[split]
        annotations = self._read_annotations(dataset, split)
        paths = annotations.paths(part.images)
        if self.skip_broken:
            decoded = set(self.drop_broken(paths))
            annotations = annotations.of_images(np.array([path in decoded for path in paths], dtype=np.bool_))
        if not annotations.images:
            raise ValueError(f"{annotations.path} names no image that can be read")
        found = find_annotated(annotations, part.images, classes=self.classes, skip_broken=self.skip_broken)
        if split == "train":
            check_trainable(found)
        else:
            check_measurable(found)
        return found

    def _read_annotations(self, dataset: FoundDataset, split: Split) -> CocoAnnotations:
        findings: list[Finding] = []
        annotations = read_part(
            dataset.format,
            dataset.root,
            dataset.parts[split],
            naming=[dataset.parts[name] for name in ("train", "val") if dataset.parts[name].annotations.exists()],
            on_finding=lambda finding: self._note(finding, findings),
        )
        if findings:
            place = dataset.parts[split].annotations
            rank_zero_warn(f"left out {len(findings)} things that are wrong with {place}, first {findings[0]}")
        return annotations

    def _note(self, finding: Finding, problems: list[Finding]) -> None:
        """Add a problem to those that are left out, or stop at it; warn once of anything else."""
        if finding.is_problem and not self.skip_broken:
            raise_finding(finding)
        if finding.is_problem:
            problems.append(finding)
        elif finding not in self._noted:
            self._noted.add(finding)
            rank_zero_warn(str(finding))

    def _check_files(self, dataset: FoundDataset, split: Split) -> None:
        parts = dataset.parts
        if split == "test" and not any(self.paths[split]) and not parts[split].annotations.exists():
            raise no_test_split(f"{describe_layout(dataset.format, split)}, in {self.root}, or data.test_annotations")
        for path in parts[split][:2]:
            if not path.exists():
                expected = ", ".join(str(path) for name in STAGE_SPLITS["fit"] for path in parts[name][:2])
                raise FileNotFoundError(
                    f"{path} not found: expected {expected}, or data.{split}_annotations and data.{split}_images"
                )


def collate(samples: Sequence[DetectionSample]) -> DetectionBatch:
    """Stack samples into a batch: boxes padded, pixels in memory as they were decoded, channels last."""
    return DetectionBatch(
        images=stack_images([sample.image for sample in samples]),
        boxes=pad_sequence([sample.boxes for sample in samples], batch_first=True),
        labels=pad_sequence([sample.labels for sample in samples], batch_first=True, padding_value=PADDING),
        sizes=torch.tensor([sample.size for sample in samples]),
        positions=torch.tensor([sample.position for sample in samples]),
        truths=tuple(sample.truth for sample in samples),
    )
