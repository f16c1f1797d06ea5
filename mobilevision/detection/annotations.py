"""Annotations in COCO's terms as columns, and the JSON files they come from."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64

from mobilevision.detection.types import Truth

Row = Mapping[str, Any]


class CocoAnnotations(NamedTuple):
    """The annotations of a set with labels that count from 0; sets in other formats are numbered as COCO does.

    Images and categories come in ascending order of their ids, so that a category's place is its label. The N
    annotations come image by image, in the file's order within each.

    Attributes:
        path: The file, or what else the set is called by.
        images: The file's own records.
        categories: Likewise.
        starts: Annotations of image i are the rows from ``starts[i]`` to ``starts[i + 1]``.
        ids: The annotations' ids, or their places in the file where they have none.
        boxes_xywh: In pixels, unchanged.
        labels: Classes from 0.
        crowd: Whether the box holds a crowd.
        areas: Of the objects themselves; of the box where the file does not say.
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

    def truth(self, index: int) -> Truth:
        """Give the annotations of one image, unchanged."""
        rows = slice(self.starts[index], self.starts[index + 1])
        columns = (self.boxes_xywh, self.labels, self.crowd, self.areas)
        return Truth(*(column[rows] for column in columns))

    def without(self, dropped: Bool[np.ndarray, " N"]) -> "CocoAnnotations":
        """Leave annotations out; their images stay."""
        kept = ~dropped
        counts = np.bincount(self.owners[kept], minlength=len(self.images))
        return self._replace(
            starts=_to_starts(counts),
            ids=[name for name, keep in zip(self.ids, kept, strict=True) if keep],
            boxes_xywh=self.boxes_xywh[kept],
            labels=self.labels[kept],
            crowd=self.crowd[kept],
            areas=self.areas[kept],
        )

    def of_classes(self, names: Sequence[str]) -> "CocoAnnotations":
        """Keep the categories of these names, in the file's order; all images stay.

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


def read_annotations(path: str | Path) -> CocoAnnotations:
    """Read a COCO annotation file with any categories.

    Only what evaluation needs is asked for: ids of images and categories, and image, category and bbox of annotations.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not JSON, not COCO, or contradicts itself; the message names the file and the place.
    """
    return annotations_of(Path(path), read_json(Path(path)))


def annotations_of(path: Path, data: Any) -> CocoAnnotations:
    """Take the annotations out of what a COCO file says.

    Args:
        path: The file, for messages.
        data: Its content.

    Raises:
        ValueError: It is not COCO, or contradicts itself.
    """
    images, categories = (_by_id(path, rows_of(path, data, key), key) for key in ("images", "categories"))
    rows = rows_of(path, data, "annotations")
    owners = _places(path, rows, "image_id", images)
    order = np.argsort(owners, kind="stable")
    rows, owners = [rows[place] for place in order], owners[order]
    boxes = number_column(path, rows, "bbox", shape=(4,))
    return CocoAnnotations(
        path=path,
        images=images,
        categories=categories,
        starts=_to_starts(np.bincount(owners, minlength=len(images))),
        ids=[row.get("id", f"at place {place}") for row, place in zip(rows, order.tolist(), strict=True)],
        boxes_xywh=boxes,
        labels=_places(path, rows, "category_id", categories),
        crowd=np.array([bool(row.get("iscrowd")) for row in rows], dtype=np.bool_),
        areas=_areas(path, rows, boxes),
    )


def read_json(path: Path) -> Any:
    """Read JSON without what it says of outlines, which is most of a COCO file and of no use for boxes.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not JSON.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found")
    try:
        with path.open(encoding="utf-8") as file:
            return json.load(file, object_hook=_without_outline)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from error


def number_column(
    path: Path, rows: Sequence[Row], key: str, shape: tuple[int, ...] = ()
) -> Float64[np.ndarray, "N ..."]:
    """Take finite numbers of one shape from every row.

    Raises:
        ValueError: A row has none, or something else.
    """
    try:
        numbers = np.array([row[key] for row in rows], dtype=np.float64).reshape(len(rows), *shape)
        if np.isfinite(numbers).all():
            return numbers
    except (KeyError, TypeError, ValueError):
        pass
    row = next(row for row in rows if not are_finite(row.get(key), shape))
    wanted = f"{shape[0]} finite numbers" if shape else "a finite number"
    raise ValueError(f"{path}: {key} must be {wanted}, got {row.get(key)} in {describe_row(row)}")


def _without_outline(record: dict[str, Any]) -> dict[str, Any]:
    record.pop("segmentation", None)
    return record


def rows_of(path: Path, data: Any, key: str) -> list[Row]:
    """Take one of the lists out of what a COCO file says.

    Raises:
        ValueError: There is none, or not one of objects.
    """
    rows = data.get(key) if isinstance(data, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(
            f"{path} is not a COCO annotation file: {key!r} is missing; expected an object with lists of objects under "
            f"'images', 'annotations' and 'categories'"
        )
    return rows


def _by_id(path: Path, rows: list[Row], key: str) -> tuple[Row, ...]:
    for row in rows:
        if not isinstance(row.get("id"), int):
            raise ValueError(f"{path}: the id of {key} must be an integer, got {row.get('id')} in {describe_row(row)}")
    if len({row["id"] for row in rows}) < len(rows):
        raise ValueError(f"{path}: the ids of {key} must differ, got one twice")
    return tuple(sorted(rows, key=lambda row: row["id"]))


def _places(path: Path, rows: Sequence[Row], key: str, targets: Sequence[Row]) -> Int64[np.ndarray, " N"]:
    places = {target["id"]: place for place, target in enumerate(targets)}
    try:
        return np.array([places[row[key]] for row in rows], dtype=np.int64)
    except (KeyError, TypeError) as error:
        row = next(row for row in rows if isinstance(row.get(key), list | dict) or row.get(key) not in places)
        raise ValueError(f"{path}: there is no {key} {row.get(key)}, which is named in {describe_row(row)}") from error


def _areas(path: Path, rows: Sequence[Row], boxes: Float64[np.ndarray, "N 4"]) -> Float64[np.ndarray, " N"]:
    box_areas = np.maximum(boxes[:, 2] * boxes[:, 3], 0).tolist()
    stated = [row if "area" in row else {"area": area} for row, area in zip(rows, box_areas, strict=True)]
    areas = number_column(path, stated, "area")
    if (areas < 0).any():
        row = stated[int(np.argmax(areas < 0))]
        raise ValueError(f"{path}: area must not be negative, got {row['area']} in {describe_row(row)}")
    return areas


def _to_starts(counts: Int64[np.ndarray, " I"]) -> Int64[np.ndarray, " I+1"]:
    return np.concatenate([[0], np.cumsum(counts)])


def are_finite(value: Any, shape: tuple[int, ...]) -> bool:
    """Whether a value is finite numbers of a shape."""
    try:
        numbers = np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        return False
    return numbers.shape == shape and bool(np.isfinite(numbers).all())


def describe_row(row: Row) -> str:
    """Say which row is meant: its beginning, on one line."""
    text = json.dumps(row, default=str)
    return text if len(text) <= 100 else f"{text[:100]}..."
