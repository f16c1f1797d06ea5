"""Boxes in a table: a line ``path,xmin,ymin,xmax,ymax,label`` for each object.

The corners are pixels from 0, the far ones exclusive. A line with only a path is a picture without objects. A first
line with the columns' names may give them another order and add others; without one the order is as above.
"""

import csv
import math
from pathlib import Path

from mobilevision.detection.boxed import BoxedObject, BoxedPicture, read_lines
from mobilevision.findings import Complain, Finding

COLUMNS = ("path", "xmin", "ymin", "xmax", "ymax", "label")
OTHER_NAMES = {"filename": "path", "image": "path", "class": "label"}


def read_csv(path: Path, complain: Complain) -> list[BoxedPicture]:
    """Read a table of boxes.

    Args:
        path: The file.
        complain: Called for a line that does not say what it should.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not a table, or lacks a column.
    """
    reader = csv.reader(read_lines(path), strict=True)
    try:
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise ValueError(f"{path} is not CSV: line {reader.line_num}: {error}") from error
    places, first = _columns(path, rows[0][1] if rows else [])
    objects: dict[str, list[BoxedObject]] = {}
    for number, row in rows[first:]:
        if not any(field.strip() for field in row):
            continue
        fields = dict(zip(COLUMNS, (row[place].strip() if place < len(row) else "" for place in places), strict=True))
        place = f"line {number}"
        if not fields["path"]:
            complain(Finding("unreadable annotation", path, place, "path must name a picture, got none"))
            continue
        found = objects.setdefault(fields["path"], [])
        if not any(fields[name] for name in COLUMNS[1:]):
            continue
        try:
            found.append(_read_object(place, fields))
        except ValueError as error:
            complain(Finding("unreadable annotation", path, place, str(error)))
    return [BoxedPicture(path, name, tuple(things)) for name, things in objects.items()]


def _columns(path: Path, row: list[str]) -> tuple[list[int], int]:
    """Give the place of each of ``COLUMNS``, and the number of lines before the first object."""
    names = [OTHER_NAMES.get(field.strip().lower(), field.strip().lower()) for field in row]
    if not set(names) & set(COLUMNS[1:5]):
        return list(range(len(COLUMNS))), 0
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        raise ValueError(f"{path}: line 1 must name the columns {', '.join(COLUMNS)}, {missing[0]} is missing")
    return [names.index(name) for name in COLUMNS], 1


def _read_object(place: str, fields: dict[str, str]) -> BoxedObject:
    numbers = []
    for name in COLUMNS[1:5]:
        try:
            number = float(fields[name])
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise ValueError(f"{name} must be a finite number, got {fields[name]!r}")
        numbers.append(number)
    if not fields["label"]:
        raise ValueError("label must be the name of a class, got none")
    left, top, right, bottom = numbers
    return BoxedObject(place, (left, top, right, bottom), fields["label"])
