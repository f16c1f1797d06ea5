"""The pictures of a set, and which of their boxes can be trained on."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64
from torchmetrics.utilities import rank_zero_warn

from mobilevision.detection.annotations import CocoAnnotations, number_column, read_annotations
from mobilevision.detection.types import Truth

MIN_SIDE = 1.0
"""Boxes that are thinner than this many pixels of the file are not trained on."""

MIN_INSIDE = 0.5
"""A box with less of its area inside its image is broken: most often it is xyxy written as xywh."""

LINES_OF_TRAIN2017 = (200365, 550395)
"""The images of the published train2017 with an object without height, which everybody leaves out."""


class CocoImage(NamedTuple):
    """One picture and its objects.

    Attributes:
        path: The file.
        size: Height and width, in pixels.
        boxes: What is trained on, xyxy in pixels of the file, clipped to it; no crowds.
        labels: Their classes from 0.
        truth: What is evaluated against: all annotations, as they are.
    """

    path: Path
    size: tuple[int, int]
    boxes: Float32[np.ndarray, "N 4"]
    labels: Int64[np.ndarray, " N"]
    truth: Truth


class CocoImages:
    """The pictures of a set in ascending order of their ids, those without objects among them.

    Args:
        annotations: What the set's file says.
        folder: Where the pictures are.
        trained: Which annotations can be trained on.
        kept: The pictures to have, as places in the file's ascending order; all of them where None.

    Raises:
        ValueError: A picture has no name or no size.
    """

    def __init__(
        self,
        annotations: CocoAnnotations,
        folder: Path,
        trained: Bool[np.ndarray, " N"],
        kept: Sequence[int] | None = None,
    ) -> None:
        self.annotations = annotations
        self.folder = folder
        self.trained = trained
        self.kept = range(len(annotations.images)) if kept is None else kept
        self.sizes = image_sizes(annotations)
        self.corners = clip_to_images(annotations)

    def __len__(self) -> int:
        return len(self.kept)

    def __getitem__(self, position: int) -> CocoImage:
        """Give one picture by its place in the set."""
        index = self.kept[position]
        rows = np.arange(self.annotations.starts[index], self.annotations.starts[index + 1])
        rows = rows[self.trained[rows]]
        height, width = self.sizes[index]
        return CocoImage(
            path=self._path(index),
            size=(int(height), int(width)),
            boxes=self.corners[rows].astype(np.float32),
            labels=self.annotations.labels[rows],
            truth=self.annotations.truth(index),
        )

    @property
    def paths(self) -> list[Path]:
        """The files, in the set's order."""
        return [self._path(index) for index in self.kept]

    def only(self, paths: Sequence[Path]) -> "CocoImages":
        """Keep the pictures whose files are among ``paths``."""
        wanted = set(paths)
        kept = [index for index in self.kept if self._path(index) in wanted]
        return CocoImages(self.annotations, self.folder, self.trained, kept)

    def _path(self, index: int) -> Path:
        return self.folder / str(self.annotations.images[index]["file_name"])


def read_coco(
    path: Path, folder: Path, *, classes: Sequence[str] | None = None, skip_broken: bool = False
) -> CocoImages:
    """Read a COCO annotation file and find its pictures, see :func:`find_pictures`.

    Raises:
        FileNotFoundError: The annotation file or a picture is missing.
        ValueError: The file is not COCO, or a box is broken; the message names file, image and annotation.
    """
    return find_pictures(read_annotations(path), folder, classes=classes, skip_broken=skip_broken)


def find_pictures(
    annotations: CocoAnnotations, folder: Path, *, classes: Sequence[str] | None = None, skip_broken: bool = False
) -> CocoImages:
    """Find the pictures of annotations, and the boxes to train on.

    A box of no size, or less than half inside its image, is broken: an error, or left out and counted if
    ``skip_broken``. A box that reaches out of its image less far is clipped. A thinner one than a pixel is evaluated
    but not trained on, which a warning says.

    Args:
        annotations: What is known of them.
        folder: Where they are.
        classes: The categories to keep, by name; all of them where None.
        skip_broken: Go on without broken boxes, and without pictures that are missing: whoever reads them counts them.

    Raises:
        FileNotFoundError: A picture is missing.
        ValueError: A picture has no name or no size, or a box is broken; the message names image and annotation.
    """
    path = annotations.path
    if classes is not None:
        annotations = annotations.of_classes(classes)
    names = [image.get("file_name") for image in annotations.images]
    if None in names:
        image_id = annotations.image_ids[names.index(None)]
        raise ValueError(f"{path}: image {image_id} has no 'file_name'")
    if not skip_broken:
        _check_files(path, folder, [str(name) for name in names])
    broken = find_broken_boxes(annotations)
    if broken.any():
        first = f"{path}: {_describe(annotations, int(np.argmax(broken)))}"
        if not skip_broken:
            raise ValueError(f"{first}; broken boxes: {broken.sum()}; data.skip_broken leaves them out")
        rank_zero_warn(f"left out {broken.sum()} of {len(broken)} boxes as broken, first {first}")
        annotations = annotations.without(broken)
    corners = clip_to_images(annotations)
    thin = (corners[:, 2:] - corners[:, :2]).min(axis=1) < MIN_SIDE
    if thin.any():
        rank_zero_warn(f"{path}: {thin.sum()} boxes are thinner than a pixel and not trained on")
    return CocoImages(annotations, folder, ~thin & ~annotations.crowd)


def image_sizes(annotations: CocoAnnotations) -> Float64[np.ndarray, "I 2"]:
    """Give the height and width of each image, in pixels.

    Raises:
        ValueError: An image has none.
    """
    columns = [number_column(annotations.path, annotations.images, key) for key in ("height", "width")]
    return np.stack(columns, axis=1)


def clip_to_images(annotations: CocoAnnotations) -> Float64[np.ndarray, "N 4"]:
    """Give the boxes as xyxy in pixels of the file, clipped to their images."""
    corners = annotations.boxes_xywh.copy()
    corners[:, 2:] += corners[:, :2]
    height_width = image_sizes(annotations)[annotations.owners]
    clipped: Float64[np.ndarray, "N 4"] = np.clip(corners, 0, np.tile(height_width[:, ::-1], 2))
    return clipped


def find_broken_boxes(annotations: CocoAnnotations) -> Bool[np.ndarray, " N"]:
    """Say which boxes have no size, or lie mostly outside their image."""
    width, height = annotations.boxes_xywh[:, 2:].T
    corners = clip_to_images(annotations)
    inside = np.prod(corners[:, 2:] - corners[:, :2], axis=1)
    published = np.isin(np.array(annotations.image_ids, dtype=np.int64)[annotations.owners], LINES_OF_TRAIN2017)
    flat = (width <= 0) | (height < 0) | ((height == 0) & ~published)
    broken: Bool[np.ndarray, " N"] = flat | (inside < MIN_INSIDE * width * height)
    return broken


def _check_files(path: Path, folder: Path, names: list[str]) -> None:
    # One listing: asking for each of 118 287 files takes minutes on a network drive.
    present = {file.name for file in folder.iterdir()}
    missing = [name for name in names if name not in present and not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{folder} lacks {len(missing)} of the {len(names)} pictures that {path} names, first "
            f"{', '.join(missing[:3])}"
        )


def _describe(annotations: CocoAnnotations, row: int) -> str:
    image = annotations.images[annotations.owners[row]]
    box = annotations.boxes_xywh[row].tolist()
    fault = "has no size" if min(box[2:]) <= 0 else f"lies outside its image of {image['width']}x{image['height']}"
    return f"box {box} (x, y, width, height) of annotation {annotations.ids[row]}, image {image['id']}, {fault}"
