"""Images with boxes: the files of a dataset, which of its boxes can be trained on, and its samples."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int64
from torch.utils.data import Dataset
from torchmetrics.utilities import rank_zero_warn

from mobilevision.detection.formats.annotations import CocoAnnotations
from mobilevision.detection.formats.coco import read_annotations
from mobilevision.detection.formats.names import is_file
from mobilevision.detection.preprocess import LabeledImage, TransformedImage, preprocess_labeled
from mobilevision.detection.types import DetectionSample, Truth
from mobilevision.head import Preprocess
from mobilevision.images import read_image
from mobilevision.training.loader import SampleKey, sample_seed

MIN_TRAINED_SIDE = 1.0
"""Boxes that are thinner than this many pixels of the file are not trained on."""

MAX_FRACTION = 1.5
"""Boxes that end within this many pixels are fractions of the images' sides, as far as rounding makes them."""

NUM_SHOWN = 10

Augment = Callable[[LabeledImage, int], TransformedImage]
"""An image with boxes and a seed in; the network's pixels and the boxes in these out."""


class AnnotatedImage(NamedTuple):
    """The file of one image and its objects.

    Attributes:
        path: The file.
        size: Height and width, in pixels.
        boxes: Those to train on, xyxy in pixels of the file, clipped to it; no crowds.
        labels: Their classes from 0.
        truth: All annotations as they are, to evaluate against.
    """

    path: Path
    size: tuple[int, int]
    boxes: Float32[np.ndarray, "N 4"]
    labels: Int64[np.ndarray, " N"]
    truth: Truth


class AnnotatedImages:
    """The files of a dataset and their objects, in ascending order of the images' ids; some images have no objects.

    Args:
        annotations: Of all images, with their names and sizes.
        folder: Where the images are.
    """

    def __init__(self, annotations: CocoAnnotations, folder: Path) -> None:
        self.annotations = annotations
        self.paths = annotations.paths(folder)
        self.sizes = annotations.sizes
        self.corners = annotations.clip_boxes()
        self.trained = ~find_thin(annotations) & ~annotations.crowd

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, position: int) -> AnnotatedImage:
        """Return one image by its place in the dataset."""
        position = range(len(self))[position]
        rows = np.arange(self.annotations.starts[position], self.annotations.starts[position + 1])
        rows = rows[self.trained[rows]]
        height, width = self.sizes[position]
        return AnnotatedImage(
            path=self.paths[position],
            size=(int(height), int(width)),
            boxes=self.corners[rows].astype(np.float32),
            labels=self.annotations.labels[rows],
            truth=self.annotations.truth(position),
        )


class DetectionDataset(Dataset[DetectionSample]):
    """Images with boxes, read and transformed when they are asked for.

    Args:
        images: The files and their objects.
        preprocess: The evaluation transform.
        augment: The training augmentation; None for a dataset to evaluate on.
        seed: With epoch and place it decides the randomness of each training sample.
    """

    def __init__(
        self, images: AnnotatedImages, preprocess: Preprocess, augment: Augment | None = None, seed: int = 0
    ) -> None:
        self.images = images
        self.preprocess = preprocess
        self.augment = augment
        self.seed = seed

    def __len__(self) -> int:
        return len(self.images)

    def path(self, position: int) -> Path:
        """Return the file of one image."""
        return self.images.paths[position]

    def __getitem__(self, key: int | SampleKey) -> DetectionSample:
        """Return one sample: by a plain place as in evaluation, by a key with the augmentation of its epoch, if any.

        Raises:
            IndexError: There is no such image.
            ValueError: The image does not decode, or has another size than its annotation.
        """
        if isinstance(key, SampleKey) and self.augment is not None:
            transformed = self.augment(self.read(key.sample), sample_seed(self.seed, key))
            return self.describe(key.sample, transformed)
        position = range(len(self))[key.sample if isinstance(key, SampleKey) else key]
        return self.describe(position, preprocess_labeled(self.read(position), self.preprocess))

    def read(self, position: int) -> LabeledImage:
        """Read one image as it is.

        Raises:
            ValueError: The image does not decode, or has another size than its annotation.
        """
        entry = self.images[position]
        image = read_image(entry.path)
        (height, width), (stated_height, stated_width) = image.shape[:2], entry.size
        if (height, width) != entry.size:
            raise ValueError(
                f"{entry.path} is {width}x{height} pixels, its annotation says {stated_width}x{stated_height}"
            )
        return LabeledImage(image, entry.boxes, entry.labels)

    def describe(self, position: int, transformed: TransformedImage) -> DetectionSample:
        """Return the sample of a transformed image: with the size of its file and its annotations."""
        entry = self.images[position]
        return DetectionSample(**transformed._asdict(), size=entry.size, position=position, truth=entry.truth)


def read_coco(path: Path, folder: Path) -> AnnotatedImages:
    """Read a COCO annotation file and find its images in ``folder``.

    Raises:
        FileNotFoundError: The annotation file or an image is missing.
        ValueError: The file is not COCO, or a box is broken; the message names file, image and annotation.
    """
    return find_annotated(read_annotations(path, folder=folder), folder)


def find_annotated(
    annotations: CocoAnnotations, folder: Path, *, classes: Sequence[str] | None = None, skip_broken: bool = False
) -> AnnotatedImages:
    """Find the images of annotations, and the boxes to train on.

    A box of no size, or less than half inside its image, is broken: an error, or left out and counted if
    ``skip_broken``. A box that reaches out of its image less far is clipped. A thinner one than a pixel is evaluated
    but not trained on, which a warning says.

    Args:
        annotations: Of all images, with their names and sizes.
        folder: Where the images are.
        classes: The categories to keep, by name; all of them where None.
        skip_broken: Go on without broken boxes, and do not look for the files of the images.

    Raises:
        FileNotFoundError: An image is missing.
        ValueError: There is no such class, or a box is broken; the message names image and annotation.
    """
    path = annotations.path
    if classes is not None:
        annotations = annotations.of_classes(classes)
    if not skip_broken:
        _check_files(path, folder, [image["file_name"] for image in annotations.images])
    broken = annotations.find_broken()
    if broken.any():
        first = f"{path}: {_describe_box(annotations, int(np.argmax(broken)))}"
        if not skip_broken:
            raise ValueError(f"{first}; broken boxes: {broken.sum()}; data.skip_broken leaves them out")
        rank_zero_warn(f"left out {broken.sum()} of {len(broken)} boxes as broken, first {first}")
        annotations = annotations.without(broken)
    thin = find_thin(annotations)
    if thin.any():
        rank_zero_warn(f"{path}: {thin.sum()} boxes are thinner than a pixel and not trained on")
    return AnnotatedImages(annotations, folder)


def check_trainable(images: AnnotatedImages) -> None:
    """Refuse a training set without a box to train on, and warn of classes without one.

    Raises:
        ValueError: No box can be trained on; the message counts them by their faults, and names the likely cause.
    """
    annotations = images.annotations
    counts = np.bincount(annotations.labels[images.trained], minlength=len(annotations.categories))
    absent = [name for name, count in zip(annotations.class_names, counts.tolist(), strict=True) if count == 0]
    if reason := describe_untrainable(annotations):
        raise ValueError(f"{annotations.path} has no box to train on: {reason}")
    if absent:
        more = f" and {len(absent) - NUM_SHOWN} more" if len(absent) > NUM_SHOWN else ""
        rank_zero_warn(
            f"{annotations.path} has no object of {', '.join(absent[:NUM_SHOWN])}{more} to train on: the network will "
            "not find any; data.classes names the classes to keep"
        )


def describe_untrainable(annotations: CocoAnnotations) -> str:
    """Return why none of the boxes can be trained on, with the likely cause; nothing where one can."""
    count, num_crowds = len(annotations.labels), int(annotations.crowd.sum())
    if not (find_thin(annotations) | annotations.crowd).all():
        return ""
    if not count:
        return f"it has no object at all in {len(annotations.images)} images"
    if num_crowds == count:
        return f"all {count} objects are crowds (iscrowd, difficult), which are not trained on"
    if np.abs(annotations.clip_boxes()).max() <= MAX_FRACTION:
        return (
            f"all {count} boxes are thinner than a pixel, and none reaches beyond {MAX_FRACTION:g}: they seem to be "
            "fractions of the images' sides from 0 to 1, where pixels are expected; multiply them by width and height"
        )
    return f"of {count} boxes {num_crowds} are crowds and {count - num_crowds} thinner than a pixel"


def check_measurable(images: AnnotatedImages) -> None:
    """Refuse a dataset without an object to measure a network against.

    Raises:
        ValueError: There is none, or all of them are crowds.
    """
    annotations = images.annotations
    if annotations.crowd.all():
        crowds = f": all {len(annotations.crowd)} are crowds" if len(annotations.crowd) else ""
        raise ValueError(
            f"{annotations.path} has no boxes to measure a network against{crowds}: name annotations with objects"
        )


def find_thin(annotations: CocoAnnotations) -> Bool[np.ndarray, " N"]:
    """Return which boxes are, within their image, thinner than ``MIN_TRAINED_SIDE``."""
    corners = annotations.clip_boxes()
    thin: Bool[np.ndarray, " N"] = (corners[:, 2:] - corners[:, :2]).min(axis=1) < MIN_TRAINED_SIDE
    return thin


def _check_files(path: Path, folder: Path, names: list[str]) -> None:
    # One listing: asking for each of 118 287 files takes minutes on a network drive.
    present = {file.name for file in folder.iterdir()}
    missing = [name for name in names if name not in present and not is_file(folder / name)]
    if missing:
        raise FileNotFoundError(
            f"{folder} lacks {len(missing)} of the {len(names)} images that {path} names, first "
            f"{', '.join(missing[:3])}"
        )


def _describe_box(annotations: CocoAnnotations, row: int) -> str:
    image = annotations.images[annotations.owners[row]]
    box = annotations.boxes_xywh[row].tolist()
    fault = "has no size" if min(box[2:]) <= 0 else f"lies outside its image of {image['width']}x{image['height']}"
    return f"box {box} (x, y, width, height) of annotation {annotations.ids[row]}, image {image['id']}, {fault}"
