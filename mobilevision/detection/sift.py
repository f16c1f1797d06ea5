"""Take out of a COCO file what contradicts itself, so that the rest can be read."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mobilevision.detection.annotations import CocoAnnotations, Row, annotations_of, are_finite, read_json, rows_of
from mobilevision.findings import Complain, Finding

Fault = Callable[[Row], tuple[str, str] | None]
"""Says what keeps a row from being read: the kind of finding and the message."""


def sift_coco(path: Path, complain: Complain) -> CocoAnnotations:
    """Read a COCO file and leave every image, category and annotation out that cannot be read, one by one.

    Of two images or categories of one id the first stays; annotations of one id both stay.

    Args:
        path: The file.
        complain: Called for each.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not JSON, or one of its lists is missing.
    """
    data = read_json(path)
    images, categories, annotations = (rows_of(path, data, key) for key in ("images", "categories", "annotations"))
    images = _sift(path, "image", images, (_number_fault, _again(), _picture_fault, _again("file_name")), complain)
    categories = _sift(path, "category", categories, (_number_fault, _again()), complain)
    known = {
        "image_id": frozenset(row["id"] for row in images),
        "category_id": frozenset(row["id"] for row in categories),
    }
    faults = (_unknown(known["image_id"], "image_id"), _unknown(known["category_id"], "category_id"), _box_fault)
    annotations = _sift(path, "annotation", annotations, faults, complain)
    _sift(path, "annotation", [row for row in annotations if "id" in row], (_again(),), complain)
    return annotations_of(path, {"images": images, "categories": categories, "annotations": annotations})


def _sift(path: Path, kind: str, rows: Sequence[Row], faults: Sequence[Fault], complain: Complain) -> list[Row]:
    kept = []
    for place, row in enumerate(rows):
        found = next((fault for find in faults if (fault := find(row))), None)
        if found is None:
            kept.append(row)
        else:
            where = f"{kind} {row['id']}" if "id" in row else f"{kind} at place {place}"
            complain(Finding(found[0], path, where, found[1]))
    return kept


def _number_fault(row: Row) -> tuple[str, str] | None:
    if isinstance(row.get("id"), int):
        return None
    return "unreadable annotation", f"id must be an integer, got {row.get('id')}"


def _picture_fault(row: Row) -> tuple[str, str] | None:
    if not isinstance(row.get("file_name"), str):
        return "unreadable annotation", f"file_name must be text, got {row.get('file_name')}"
    sides = [row.get("width"), row.get("height")]
    if are_finite(sides, (2,)) and min(map(float, sides)) >= 1:  # type: ignore[arg-type]
        return None
    return "unreadable annotation", f"width and height must be at least 1, got {sides[0]} and {sides[1]}"


def _box_fault(row: Row) -> tuple[str, str] | None:
    if not are_finite(row.get("bbox"), (4,)):
        return "unreadable annotation", f"bbox must be 4 finite numbers, got {row.get('bbox')}"
    area = row.get("area", 0)
    if not are_finite(area, ()) or float(area) < 0:
        return "unreadable annotation", f"area must be a finite number and not negative, got {area}"
    return None


def _again(key: str = "id") -> Fault:
    seen: set[Any] = set()

    def fault(row: Row) -> tuple[str, str] | None:
        name = str(row[key])
        if name in seen:
            return "duplicate id", f"there are several with the {key} {name}"
        seen.add(name)
        return None

    return fault


def _unknown(ids: frozenset[Any], key: str) -> Fault:
    kind = "unknown class" if key == "category_id" else "unknown image"

    def fault(row: Row) -> tuple[str, str] | None:
        value = row.get(key)
        if isinstance(value, int) and value in ids:
            return None
        return kind, f"there is no {key} {value}"

    return fault
