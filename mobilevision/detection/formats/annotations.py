"""The annotations of a dataset as columns, numbered as COCO numbers them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64

from mobilevision.detection.types import Truth

Row = Mapping[str, Any]

MIN_INSIDE = 0.5
"""A box with less of its area inside its image is broken: most often it is xyxy written as xywh."""

FLAT_IN_TRAIN2017 = frozenset({200365, 550395})
"""The images of the published train2017 with an object without height, which everybody leaves out."""


NUM_SHOWN = 20


class CocoAnnotations(NamedTuple):
    """The annotations of a dataset with labels that count from 0; other formats are numbered as COCO does.

    Images and categories come in ascending order of their ids, so that a category's place is its label. The N
    annotations come image by image, in the file's order within each.

    Attributes:
        path: The file, or the name of the dataset in messages.
        images: The file's own records of the images.
        categories: The file's own records of the categories.
        starts: Annotations of image i are the rows from ``starts[i]`` to ``starts[i + 1]``.
        ids: The annotations' ids, or their places in the file where they have none.
        boxes_xywh: In pixels, unchanged.
        labels: Classes from 0.
        crowd: Whether the box holds a crowd.
        areas: Of the objects themselves; of the box where the file has none.
    """

    path: Path
    images: tuple[Row, ...]
    categories: tuple[Row, ...]
    starts: Int64[np.ndarray, " I+1"]
    ids: Sequence[object]
    boxes_xywh: Float64[np.ndarray, "N 4"]
    labels: Int64[np.ndarray, " N"]
    crowd: Bool[np.ndarray, " N"]
    areas: Float64[np.ndarray, " N"]

    @property
    def image_ids(self) -> tuple[int, ...]:
        """The file's id of each image."""
        return tuple(image["id"] for image in self.images)

    @property
    def category_ids(self) -> tuple[int, ...]:
        """The file's id of each label."""
        return tuple(category["id"] for category in self.categories)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each label; its id where the file has no name."""
        return tuple(str(category.get("name", category["id"])) for category in self.categories)

    @property
    def owners(self) -> Int64[np.ndarray, " N"]:
        """The image of each annotation, as its place in ``images``."""
        return np.repeat(np.arange(len(self.images)), np.diff(self.starts))

    @property
    def sizes(self) -> Float64[np.ndarray, "I 2"]:
        """Height and width of each image in pixels, if the file has them."""
        return np.array([(image["height"], image["width"]) for image in self.images], np.float64).reshape(-1, 2)

    def paths(self, folder: Path) -> list[Path]:
        """Return the file of each image, if the file has their names."""
        return [folder / str(image["file_name"]) for image in self.images]

    def truth(self, index: int) -> Truth:
        """Return the annotations of one image, unchanged."""
        rows = slice(self.starts[index], self.starts[index + 1])
        columns = (self.boxes_xywh, self.labels, self.crowd, self.areas)
        return Truth(*(column[rows] for column in columns))

    def clip_boxes(self) -> Float64[np.ndarray, "N 4"]:
        """Return the boxes as xyxy in pixels of the file, clipped to their images."""
        corners = self.boxes_xywh.copy()
        corners[:, 2:] += corners[:, :2]
        clipped: Float64[np.ndarray, "N 4"] = np.clip(corners, 0, np.tile(self.sizes[self.owners][:, ::-1], 2))
        return clipped

    def find_broken(self) -> Bool[np.ndarray, " N"]:
        """Return which boxes have no size, or lie mostly outside their image."""
        width, height = self.boxes_xywh[:, 2:].T
        corners = self.clip_boxes()
        inside = np.prod(corners[:, 2:] - corners[:, :2], axis=1)
        published = np.array([image_id in FLAT_IN_TRAIN2017 for image_id in self.image_ids], np.bool_)[self.owners]
        flat = (width <= 0) | (height < 0) | ((height == 0) & ~published)
        broken: Bool[np.ndarray, " N"] = flat | (inside < MIN_INSIDE * width * height)
        return broken

    def without(self, dropped: Bool[np.ndarray, " N"]) -> "CocoAnnotations":
        """Return the annotations without some; their images stay."""
        kept = ~dropped
        counts = np.bincount(self.owners[kept], minlength=len(self.images))
        return self._replace(
            starts=to_starts(counts),
            ids=[name for name, keep in zip(self.ids, kept, strict=True) if keep],
            boxes_xywh=self.boxes_xywh[kept],
            labels=self.labels[kept],
            crowd=self.crowd[kept],
            areas=self.areas[kept],
        )

    def of_images(self, kept: Bool[np.ndarray, " I"]) -> "CocoAnnotations":
        """Return some of the images with their annotations."""
        rest = self.without(~kept[self.owners])
        images = tuple(image for image, keep in zip(self.images, kept, strict=True) if keep)
        return rest._replace(images=images, starts=to_starts(np.diff(rest.starts)[kept]))

    def of_classes(self, names: Sequence[str]) -> "CocoAnnotations":
        """Return the annotations of the categories of these names, in the file's order; all images stay.

        Raises:
            ValueError: A name that the file does not have.
        """
        unknown = [name for name in names if name not in self.class_names]
        if unknown:
            raise ValueError(f"{self.path} has no category {unknown[0]!r}, it has {', '.join(self.class_names)}")
        kept = np.array([name in names for name in self.class_names], dtype=np.bool_)
        rest = self.without(~kept[self.labels])
        return rest._replace(
            categories=tuple(category for category, keep in zip(self.categories, kept, strict=True) if keep),
            labels=(np.cumsum(kept) - 1)[rest.labels],
        )


def match_categories(first: CocoAnnotations, other: CocoAnnotations) -> CocoAnnotations:
    """Return the annotations of another split with the labels of the first, matched by the names of the classes.

    Raises:
        ValueError: Their names differ, or one of them has a name twice; the message names both lists.
    """
    names, others = first.class_names, other.class_names
    if names == others:
        return other
    if sorted(names) != sorted(others) or len(set(names)) < len(names):
        raise ValueError(
            f"{first.path} and {other.path} must have the same categories, got {_list_names(names)}, and "
            f"{_list_names(others)}: give both the same list, or keep the same ones by data.classes"
        )
    places = {name: label for label, name in enumerate(others)}
    order = [places[name] for name in names]
    labels = np.argsort(order)[other.labels]
    return other._replace(categories=tuple(other.categories[label] for label in order), labels=labels)


def _list_names(names: Sequence[str]) -> str:
    more = f" and {len(names) - NUM_SHOWN} more" if len(names) > NUM_SHOWN else ""
    return f"{', '.join(map(repr, names[:NUM_SHOWN]))}{more}"


def to_starts(counts: Int64[np.ndarray, " I"]) -> Int64[np.ndarray, " I+1"]:
    """Return where the rows of each image start, from the number of its rows.

    >>> to_starts(np.array([2, 0, 1])).tolist()
    [0, 2, 2, 3]
    """
    return np.concatenate([[0], np.cumsum(counts)])
