"""COCO's JSON files of annotations."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64

from mobilevision.detection.formats.annotations import CocoAnnotations, Row, to_starts
from mobilevision.detection.formats.names import match_names, read_sizes
from mobilevision.detection.formats.values import to_flag, to_id, to_number
from mobilevision.findings import Finding, OnFinding, raise_finding

FARTHEST = 1e9
"""No box reaches beyond this many pixels; a larger number is not one of pixels."""

Fault = tuple[str, str]
"""The kind of a finding and its message."""


def read_annotations(
    path: str | Path, *, folder: Path | None = None, on_finding: OnFinding = raise_finding
) -> CocoAnnotations:
    """Read a COCO annotation file with any categories.

    Evaluation needs the ids of images and categories, and image, category and bbox of annotations only. Ids may be
    whole numbers of any size, also as text. An annotation without bbox has the box around its outline.

    Args:
        path: The file.
        folder: Where the images are; None if they are not needed. With it every image must have a file name, which
            becomes that of its file, see :func:`match_names`; a size that is missing is read from the file.
        on_finding: Called for every image, category and annotation that contradicts the format or the file itself. The
            default stops at the first one; if it returns, they are left out one by one. Of two images or categories
            of one id the first stays.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not JSON, or one of its lists is missing; the message names the file.
    """
    return annotations_of(Path(path), read_json(Path(path)), folder=folder, on_finding=on_finding)


def annotations_of(
    path: Path, data: Any, *, folder: Path | None = None, on_finding: OnFinding = raise_finding
) -> CocoAnnotations:
    """Return the content of a COCO file as columns.

    Args:
        path: The file, for messages.
        data: Its content.
        folder: Where the images are; None if they are not needed.
        on_finding: Called for everything that is wrong, see :func:`read_annotations`.

    Raises:
        ValueError: One of its lists is missing.
    """
    images = _sort_by_id(path, "image", _rows_of(path, data, "images"), on_finding)
    if folder is not None:
        images = _find_files(path, folder, images, on_finding)
    categories = _sort_by_id(path, "category", _rows_of(path, data, "categories"), on_finding)
    places, labels = ({row["id"]: place for place, row in enumerate(rows)} for rows in (images, categories))
    rows = _rows_of(path, data, "annotations")
    kept: Sequence[int] = range(len(rows))
    columns = _read_columns(rows, places, labels)
    if columns is None:
        # Only here is every row looked at by itself: a large file without faults is read in a few steps.
        rows = [_with_exact_ids(row) for row in rows]
        kept = _find_good(path, "annotation", rows, partial(_find_annotation_fault, places, labels), on_finding)
        rows = [rows[place] for place in kept]
        columns = _read_columns(rows, places, labels)
        assert columns is not None
    order = np.argsort(columns.owners, kind="stable")
    ordered = [(kept[place], rows[place]) for place in order.tolist()]
    return CocoAnnotations(
        path=path,
        images=images,
        categories=categories,
        starts=to_starts(np.bincount(columns.owners, minlength=len(images))),
        ids=[row.get("id", f"at place {place}") for place, row in ordered],
        boxes_xywh=columns.boxes_xywh[order],
        labels=columns.labels[order],
        crowd=columns.crowd[order],
        areas=columns.areas[order],
    )


def read_json(path: Path) -> Any:
    """Read JSON without outlines, which are most of a COCO file and of use only where a box is missing.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not JSON.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found")
    try:
        with path.open(encoding="utf-8-sig") as file:
            return json.load(file, object_hook=_without_outline)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from error


def _rows_of(path: Path, data: Any, key: str) -> list[Row]:
    rows = data.get(key) if isinstance(data, dict) else None
    if isinstance(rows, list) and all(isinstance(row, dict) for row in rows):
        return rows
    if key == "annotations" and rows is None:
        raise ValueError(
            f"{path} has no boxes: {key!r} is missing, as in the image_info files of COCO, whose boxes are not public"
        )
    raise ValueError(
        f"{path} is not a COCO annotation file: {key!r} is missing; expected an object with lists of objects under "
        "'images', 'annotations' and 'categories'"
    )


def number_column(
    path: Path, rows: Sequence[Row], key: str, shape: tuple[int, ...] = ()
) -> Float64[np.ndarray, "N ..."]:
    """Return finite numbers of one shape from every row.

    Raises:
        ValueError: A row has none, or something else; the message names the file and the row.
    """
    if (numbers := _to_finite([row.get(key) for row in rows], (len(rows), *shape))) is not None:
        return numbers
    row = next(row for row in rows if _to_finite(row.get(key), shape) is None)
    wanted = f"{shape[0]} finite numbers" if shape else "a finite number"
    text = json.dumps(row, default=str)
    text = text if len(text) <= 100 else f"{text[:100]}..."
    raise ValueError(f"{path}: {key} must be {wanted}, got {row.get(key)} in {text}")


class _Columns(NamedTuple):
    owners: Int64[np.ndarray, " N"]
    labels: Int64[np.ndarray, " N"]
    boxes_xywh: Float64[np.ndarray, "N 4"]
    crowd: Bool[np.ndarray, " N"]
    areas: Float64[np.ndarray, " N"]


def _read_columns(rows: Sequence[Row], places: Mapping[int, int], labels: Mapping[int, int]) -> _Columns | None:
    """Return the columns of all rows at once; None where a row is faulty."""
    try:
        ids = [(row["image_id"], row["category_id"]) for row in rows]
        # Text is another key, and True and 1.0 are the same key as 1.
        if any(type(key) is not int for pair in ids for key in pair):
            return None
        owners = np.array([places[image] for image, _ in ids], dtype=np.int64)
        classes = np.array([labels[category] for _, category in ids], dtype=np.int64)
    except KeyError:
        return None
    boxes = _to_finite([row.get("bbox") for row in rows], (len(rows), 4))
    if boxes is None or np.abs(boxes).max(initial=0) > FARTHEST:
        return None
    box_areas = np.maximum(boxes[:, 2] * boxes[:, 3], 0).tolist()
    stated = (row.get("area") for row in rows)
    areas = _to_finite(
        [own if area is None else area for area, own in zip(stated, box_areas, strict=True)], (len(rows),)
    )
    crowd = [to_flag(row.get("iscrowd")) for row in rows]
    if areas is None or areas.min(initial=0) < 0 or None in crowd:
        return None
    return _Columns(owners, classes, boxes, np.array(crowd, dtype=np.bool_), areas)


def _to_finite(values: Any, shape: tuple[int, ...]) -> Float64[np.ndarray, "..."] | None:
    try:
        numbers = np.array(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        return None
    # An empty list has no second axis.
    numbers = numbers.reshape(shape) if not numbers.size and 0 in shape else numbers
    return numbers if numbers.shape == shape and np.isfinite(numbers).all() else None


def _sort_by_id(path: Path, kind: str, rows: Sequence[Row], on_finding: OnFinding) -> tuple[Row, ...]:
    seen: set[int] = set()

    def find_fault(row: Row) -> Fault | None:
        number = to_id(row.get("id"))
        if number is None:
            return "unreadable annotation", f"id must be a whole number, got {row.get('id')!r}"
        if number in seen:
            return "duplicate id", f"there are several with the id {number}"
        seen.add(number)
        return None

    good = [rows[place] for place in _find_good(path, kind, rows, find_fault, on_finding)]
    return tuple(sorted(({**row, "id": to_id(row["id"])} for row in good), key=lambda row: row["id"]))


def _find_files(path: Path, folder: Path, images: Sequence[Row], on_finding: OnFinding) -> tuple[Row, ...]:
    """Return the images that have a size, which may be that of their file, with the names of their files."""
    images = [images[place] for place in _find_good(path, "image", images, _find_name_fault, on_finding)]
    names = match_names(path, folder, [image["file_name"] for image in images], on_finding)
    sides = [(image.get("height"), image.get("width")) for image in images]
    known = [None if None in pair else (1, 1) for pair in sides]
    found: list[Row] = []
    sizes = read_sizes([path] * len(names), folder, names, known)
    for image, name, size, stated in zip(images, names, sizes, known, strict=True):
        if isinstance(size, Finding):
            on_finding(size)
        else:
            own = {} if stated else {"height": size[0], "width": size[1]}
            found.append({**image, "file_name": name, **own})
    return tuple(found[place] for place in _find_good(path, "image", found, _find_size_fault, on_finding))


def _find_good(
    path: Path, kind: str, rows: Sequence[Row], find_fault: Callable[[Row], Fault | None], on_finding: OnFinding
) -> list[int]:
    good = []
    for place, row in enumerate(rows):
        fault = find_fault(row)
        if fault is None:
            good.append(place)
        else:
            on_finding(Finding(fault[0], path, f"{kind} {row.get('id', f'at place {place}')}", fault[1]))
    return good


def _find_name_fault(row: Row) -> Fault | None:
    name = row.get("file_name")
    if isinstance(name, str) and name.strip():
        return None
    return "unreadable annotation", f"file_name must be text, got {name!r}"


def _find_size_fault(row: Row) -> Fault | None:
    width, height = row["width"], row["height"]
    if to_number(width) >= 1 and to_number(height) >= 1:
        return None
    return "unreadable annotation", f"width and height must be at least 1, got {width} and {height}"


def _with_exact_ids(row: Row) -> Row:
    exact = {key: number for key in ("image_id", "category_id") if (number := to_id(row.get(key))) is not None}
    return {**row, **exact}


def _find_annotation_fault(places: Mapping[int, int], labels: Mapping[int, int], row: Row) -> Fault | None:
    for key, known, kind in (("image_id", places, "unknown image"), ("category_id", labels, "unknown class")):
        value = row.get(key)
        if type(value) is not int or value not in known:
            return kind, f"there is no {key} {value!r}"
    box, area = row.get("bbox"), row.get("area")
    if not isinstance(box, list) or len(box) != 4 or not all(abs(to_number(number)) <= FARTHEST for number in box):
        return "unreadable annotation", f"bbox must be 4 finite numbers of pixels, got {box}"
    if area is not None and not to_number(area) >= 0:
        return "unreadable annotation", f"area must be a finite number and not negative, got {area}"
    if to_flag(row.get("iscrowd")) is None:
        return "unreadable annotation", f"iscrowd must be 0, 1, true or false, got {row['iscrowd']!r}"
    return None


def _without_outline(record: dict[str, Any]) -> dict[str, Any]:
    outline = record.pop("segmentation", None)
    if outline and not record.get("bbox") and (box := _box_around(outline)):
        record["bbox"] = box
    return record


def _box_around(outline: Any) -> list[float] | None:
    """Return the box around polygons, None where they are none."""
    try:
        polygons = [outline] if isinstance(outline[0], int | float) else outline
        points = np.concatenate([np.asarray(polygon, dtype=np.float64).reshape(-1, 2) for polygon in polygons])
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    if not len(points):
        return None
    low = points.min(axis=0)
    return [*low.tolist(), *(points.max(axis=0) - low).tolist()]
