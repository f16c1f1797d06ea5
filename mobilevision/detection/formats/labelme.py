"""LabelMe's shapes: a JSON file for each image, whose objects are rectangles, polygons, circles or masks."""

import math
from pathlib import Path
from typing import Any

from mobilevision.detection.formats.coco import read_json
from mobilevision.detection.formats.records import ImageRecord, ObjectRecord, find_visible, read_records
from mobilevision.detection.formats.values import to_number
from mobilevision.findings import Finding, OnFinding

FLAT_SHAPES = frozenset({"point", "points", "line", "linestrip"})
"""The types of shapes without an area."""

SNIFFED = 1 << 16


def read_labelme(annotations: Path, folder: Path, on_finding: OnFinding) -> list[ImageRecord]:
    """Read the JSON files of a folder.

    Args:
        annotations: Folder of the JSON files.
        folder: Where the images are. An image has the name of its JSON file, or else the one that is written in it.
        on_finding: Called for a file that is not LabelMe's, and for a shape without a label, an area or points.
    """
    paths = find_visible(annotations, "*.json")
    files = [(path, path.relative_to(annotations).with_suffix("")) for path in paths]
    return read_records(files, folder, _read_file, on_finding)


def looks_like_labelme(folder: Path) -> bool:
    """Return whether the first JSON file of a folder has shapes."""
    path = next((path for path in sorted(folder.glob("*.json")) if not path.name.startswith(".")), None)
    if path is None:
        return False
    with path.open("rb") as file:
        return b'"shapes"' in file.read(SNIFFED)


def _read_file(path: Path, on_finding: OnFinding) -> ImageRecord | None:
    try:
        data = read_json(path)
    except ValueError as error:
        on_finding(Finding("unreadable annotation", path, "", str(error).removeprefix(f"{path} ")))
        return None
    shapes = data.get("shapes") if isinstance(data, dict) else None
    if not isinstance(shapes, list):
        on_finding(Finding("unreadable annotation", path, "", "is not LabelMe's: a list 'shapes' is missing"))
        return None
    objects = []
    for number, shape in enumerate(shapes, start=1):
        try:
            objects.append(_read_shape(f"shape {number}", shape))
        except ValueError as error:
            on_finding(Finding("unreadable annotation", path, f"shape {number}", str(error)))
    height, width = to_number(data.get("imageHeight")), to_number(data.get("imageWidth"))
    size = (int(height), int(width)) if height >= 1 and width >= 1 else None
    name = data.get("imagePath")
    return ImageRecord(path, name.strip() if isinstance(name, str) else "", tuple(objects), size)


def _read_shape(place: str, shape: Any) -> ObjectRecord:
    if not isinstance(shape, dict):
        raise ValueError(f"a shape must be an object with label and points, got {str(shape)[:100]}")
    label, kind = shape.get("label"), shape.get("shape_type")
    if not isinstance(label, str) or not label.strip():
        raise ValueError(f"label must be the name of a class, got {label!r}")
    if str(kind) in FLAT_SHAPES:
        raise ValueError(f"shape_type must have an area, as rectangle, polygon, circle and mask do, got {kind!r}")
    points = shape.get("points")
    pairs = points if isinstance(points, list) else []
    numbers = [[to_number(number) for number in pair] if isinstance(pair, list) else [] for pair in pairs]
    if len(numbers) < 2 or any(len(pair) != 2 or any(map(math.isnan, pair)) for pair in numbers):
        raise ValueError(f"points must be two pairs of finite numbers or more, got {str(points)[:100]}")
    xs, ys = zip(*numbers, strict=True)
    if kind == "circle":
        (x, y), radius = numbers[0], math.dist(numbers[0], numbers[1])
        return ObjectRecord(place, (x - radius, y - radius, x + radius, y + radius), label.strip())
    return ObjectRecord(place, (min(xs), min(ys), max(xs), max(ys)), label.strip())
