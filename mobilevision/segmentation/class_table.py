"""Table of classes: which numbers or colors of a mask are which class."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8, UInt32

from mobilevision.segmentation.types import IGNORE_INDEX

ID_COLUMNS = ("id",)
COLOR_COLUMNS = ("r", "g", "b")
MAX_ID, MAX_CHANNEL = 65535, 255

Codes = UInt32[np.ndarray, "H W"]
"""The number of each pixel in a mask's file, or its color as one number."""


class ClassTable(NamedTuple):
    """The classes of masks, and their codes in the files.

    Attributes:
        names: In the order of their labels.
        codes: The numbers or colors that stand for a class, ascending.
        labels: The class of each code, or ``IGNORE_INDEX``.
        colored: Whether the codes are colors.
    """

    names: tuple[str, ...]
    codes: UInt32[np.ndarray, " N"]
    labels: UInt8[np.ndarray, " N"]
    colored: bool

    def to_labels(self, codes: Codes) -> UInt8[np.ndarray, "H W"]:
        """Return the class of every pixel. A number 255 that the table does not list is ``IGNORE_INDEX``.

        Raises:
            ValueError: A code is not in the table.
        """
        places = np.searchsorted(self.codes, codes).clip(max=len(self.codes) - 1)
        labels: UInt8[np.ndarray, "H W"] = self.labels[places]
        unknown = self.codes[places] != codes
        if not self.colored:
            labels[unknown & (codes == IGNORE_INDEX)] = IGNORE_INDEX
            unknown &= codes != IGNORE_INDEX
        if unknown.any():
            raise ValueError(f"{self.describe(int(codes[unknown][0]))} ({np.count_nonzero(unknown)} pixels)")
        return labels

    def describe(self, code: int) -> str:
        """Return a code as the table writes it."""
        if not self.colored:
            return f"id {code}"
        return f"color {code >> 16},{code >> 8 & 255},{code & 255}"


def pack_colors(pixels: UInt8[np.ndarray, "H W 3"]) -> Codes:
    """Return each color as one number.

    >>> pack_colors(np.array([[[0, 1, 2]]], np.uint8))
    array([[258]], dtype=uint32)
    """
    red, green, blue = (pixels[..., channel].astype(np.uint32) for channel in range(3))
    return red << 16 | green << 8 | blue


def read_class_table(path: str | Path) -> ClassTable:
    """Read a table with a header: ``name,id`` where masks hold numbers, ``name,r,g,b`` where they hold colors.

    A class's label is the place of its name's first row; a name may have several rows. Rows without a name are pixels
    that do not count.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not such a table; the message names the line.
    """
    path = Path(path)
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, skipinitialspace=True)
        header = tuple(reader.fieldnames or ())
        columns = next((c for c in (ID_COLUMNS, COLOR_COLUMNS) if set(header) == {"name", *c}), None)
        if columns is None:
            raise ValueError(f"{path} must begin with name,id or name,r,g,b, got {','.join(header)}")
        labels: dict[str, int] = {"": IGNORE_INDEX}
        codes: dict[int, int] = {}
        for row in reader:
            label = labels.setdefault((row["name"] or "").strip(), len(labels) - 1)
            code = _read_code(f"{path}: line {reader.line_num}", row, columns)
            if codes.setdefault(code, label) != label:
                raise ValueError(
                    f"{path}: line {reader.line_num}: {','.join(map(str, row.values()))} has a class already"
                )
    names = tuple(name for name in labels if name)
    if not names or len(names) > IGNORE_INDEX:
        raise ValueError(f"{path} must name 1 to {IGNORE_INDEX} classes, got {len(names)}")
    ordered = sorted(codes)
    return ClassTable(
        names,
        np.array(ordered, np.uint32),
        np.array([codes[code] for code in ordered], np.uint8),
        colored=columns == COLOR_COLUMNS,
    )


def _read_code(place: str, row: Mapping[str, str | None], columns: Sequence[str]) -> int:
    largest = MAX_ID if columns == ID_COLUMNS else MAX_CHANNEL
    code = 0
    for column in columns:
        text = (row[column] or "").strip()
        if not text.isascii() or not text.isdigit() or int(text) > largest:
            raise ValueError(f"{place}: {column} must be a whole number from 0 to {largest}, got {text!r}")
        code = code << 8 | int(text)
    return code
