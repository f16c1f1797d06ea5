"""Boxes in a table: a line ``path,xmin,ymin,xmax,ymax,label`` for each object.

The corners are pixels from 0, the far ones exclusive. Semicolons or tabs may stand for the commas, and decimal commas
for the points then. A line with only a path is an image without objects. A first
line with the columns' names may give them another order and add others; without one the order is as above.
"""

import csv
from collections.abc import Mapping
from pathlib import Path

from mobilevision.detection.formats.records import CORNERS, ImageRecord, ObjectRecord, read_corners, read_lines
from mobilevision.findings import Finding, OnFinding

COLUMNS = ("path", *CORNERS, "label")
DELIMITERS = (",", ";", "\t")
OTHER_NAMES = {
    **dict.fromkeys(("filename", "file_name", "image", "image_path", "image_name"), "path"),
    **dict.fromkeys(("class", "class_name"), "label"),
    **{f"{axis}_{end}": f"{axis}{end}" for axis in "xy" for end in ("min", "max")},
}


def read_csv(path: Path, on_finding: OnFinding) -> list[ImageRecord]:
    """Read a table of boxes.

    Args:
        path: The file.
        on_finding: Called for a line that lacks a value or has a wrong one.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not a table, or lacks a column.
    """
    lines = read_lines(path)
    first_line = next((line for line in lines if line.strip()), "")
    delimiter = max(DELIMITERS, key=first_line.count)
    reader = csv.reader(lines, strict=True, delimiter=delimiter)
    try:
        rows = [(reader.line_num, row) for row in reader if any(field.strip() for field in row)]
    except csv.Error as error:
        raise ValueError(f"{path} is not CSV: line {reader.line_num}: {error}") from error
    places, first = _find_columns(path, rows[0][1] if rows else [])
    objects: dict[str, list[ObjectRecord]] = {}
    for number, row in rows[first:]:
        fields = dict(zip(COLUMNS, (row[place].strip() if place < len(row) else "" for place in places), strict=True))
        place = f"line {number}"
        if not fields["path"]:
            on_finding(Finding("unreadable annotation", path, place, "path must name an image, got none"))
            continue
        found = objects.setdefault(fields["path"], [])
        if not any(fields[name] for name in COLUMNS[1:]):
            continue
        if delimiter != ",":
            fields |= {name: fields[name].replace(",", ".") for name in CORNERS}
        try:
            found.append(_read_object(place, fields))
        except ValueError as error:
            on_finding(Finding("unreadable annotation", path, place, str(error)))
    return [ImageRecord(path, name, tuple(things)) for name, things in objects.items()]


def _find_columns(path: Path, row: list[str]) -> tuple[list[int], int]:
    """Return the place of each of ``COLUMNS``, and the number of lines before the first object."""
    names = [OTHER_NAMES.get(field.strip().lower(), field.strip().lower()) for field in row]
    if not set(names) & set(CORNERS):
        return list(range(len(COLUMNS))), 0
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        raise ValueError(f"{path}: line 1 must name the columns {', '.join(COLUMNS)}, {missing[0]} is missing")
    return [names.index(name) for name in COLUMNS], 1


def _read_object(place: str, fields: Mapping[str, str]) -> ObjectRecord:
    left, top, right, bottom = read_corners(fields)
    if not fields["label"]:
        raise ValueError("label must be the name of a class, got none")
    return ObjectRecord(place, (left, top, right, bottom), fields["label"])
