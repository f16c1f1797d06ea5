"""Look at a set's masks before training on them: what is wrong, and what there is of each class."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from jaxtyping import Int64, UInt8

from mobilevision.segmentation.class_table import ClassTable
from mobilevision.segmentation.masks import Mask
from mobilevision.segmentation.pictures import Listing, Pair, Pixels, read_pair
from mobilevision.segmentation.types import IGNORE_INDEX

NUM_THREADS = 8
TILE_SIDE = 320
SHEET_COLUMNS = 4
SHEET_COLOR = 255

Draw = Callable[[Pixels, Mask, Sequence[str]], UInt8[np.ndarray, "h w 3"]]
"""Picture, mask and names in, a drawing out: :func:`mobilevision.visualize.draw_mask`."""


class MaskFinding(NamedTuple):
    """One thing that is wrong with a set, and where.

    Attributes:
        kind: A few words, the same for everything of this kind.
        file: The picture, the mask, or what lists the set.
        message: What is wrong, with the values.
    """

    kind: str
    file: Path
    message: str


class ClassShare(NamedTuple):
    """How much there is of a class.

    Attributes:
        name: Of the class.
        share: Of the pixels that count.
        num_images: Pictures with at least one pixel of it.
    """

    name: str
    share: float
    num_images: int


class MaskReport(NamedTuple):
    """What a set is like.

    Attributes:
        num_pairs: Pictures with a mask, readable or not.
        findings: What is wrong, file by file, then what is wrong with the set.
        ignored_share: Pixels that do not count, of all pixels of the masks that can be read.
        classes: In the order of their labels.
        sizes: Height and width of pictures to their number, the most frequent first.
    """

    num_pairs: int
    findings: tuple[MaskFinding, ...]
    ignored_share: float
    classes: tuple[ClassShare, ...]
    sizes: dict[tuple[int, int], int]

    def to_json(self) -> dict[str, Any]:
        """Give plain values."""
        return {
            "num_pairs": self.num_pairs,
            "findings": [finding._asdict() | {"file": str(finding.file)} for finding in self.findings],
            "ignored_share": self.ignored_share,
            "classes": [share._asdict() for share in self.classes],
            "sizes": [{"height": height, "width": width, "num": num} for (height, width), num in self.sizes.items()],
        }


def check_masks(listing: Listing, class_names: Sequence[str], table: ClassTable | None = None) -> MaskReport:
    """Read every picture and mask of a set and say what is wrong with them, without stopping at the first.

    Args:
        listing: What there is and what is missing, as ``list_pairs`` of a layout gives it.
        class_names: Of the classes, background included.
        table: What the masks' numbers or colours stand for, if they are not the classes.
    """
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        looks = list(pool.map(partial(_look_at, num_classes=len(class_names), table=table), listing.pairs))
    read = [look for look in looks if isinstance(look, _Look)]
    counts = np.stack([look.counts for look in read]) if read else np.zeros((1, IGNORE_INDEX + 1), np.int64)
    totals = counts.sum(axis=0)
    num_ignored, num_counted = int(totals[IGNORE_INDEX]), int(totals[:IGNORE_INDEX].sum())
    classes = tuple(
        ClassShare(name, int(totals[label]) / max(1, num_counted), int((counts[:, label] > 0).sum()))
        for label, name in enumerate(class_names)
    )
    sizes: dict[tuple[int, int], int] = {}
    for look in read:
        sizes[look.size] = sizes.get(look.size, 0) + 1
    findings = (
        *(MaskFinding("picture without mask", path, "there is no such mask") for path in listing.without_mask),
        *(MaskFinding("mask without picture", path, "its picture is missing") for path in listing.without_image),
        *(look for look in looks if isinstance(look, MaskFinding)),
        *(MaskFinding("nothing counts", look.mask, f"every pixel is {IGNORE_INDEX}") for look in read if look.is_empty),
        *_judge(listing.source, classes, num_ignored),
    )
    return MaskReport(
        len(listing.pairs),
        findings,
        num_ignored / max(1, num_ignored + num_counted),
        classes,
        dict(sorted(sizes.items(), key=lambda item: -item[1])),
    )


def draw_samples(
    pairs: Sequence[Pair],
    class_names: Sequence[str],
    table: ClassTable | None = None,
    *,
    draw: Draw,
    num_samples: int = 12,
) -> UInt8[np.ndarray, "H W 3"]:
    """Draw masks over their pictures, side by side on a sheet, evenly spread over the set.

    Args:
        pairs: What there is. Those that cannot be read are left out.
        class_names: Of the classes, background included.
        table: As in :func:`check_masks`.
        draw: Makes a drawing of a picture, a mask and the names of the classes.
        num_samples: How many.

    Raises:
        ValueError: None of them can be read.
    """
    places = np.linspace(0, len(pairs) - 1, min(num_samples, len(pairs))).round().astype(int).tolist()
    tiles = []
    for pair in (pairs[place] for place in places):
        try:
            image, mask = read_pair(pair, len(class_names), table)
        except (OSError, ValueError):
            continue
        tiles.append(_tile(draw(image, mask, class_names)))
    if not tiles:
        raise ValueError("there must be a picture with a mask that can be read, got none")
    blank = np.full_like(tiles[0], SHEET_COLOR)
    columns = min(SHEET_COLUMNS, len(tiles))
    tiles += [blank] * (-len(tiles) % columns)
    return np.vstack([np.hstack(tiles[start : start + columns]) for start in range(0, len(tiles), columns)])


class _Look(NamedTuple):
    """What a readable mask holds."""

    mask: Path
    size: tuple[int, int]
    counts: Int64[np.ndarray, " 256"]

    @property
    def is_empty(self) -> bool:
        return int(self.counts[IGNORE_INDEX]) == self.size[0] * self.size[1]


def _look_at(pair: Pair, num_classes: int, table: ClassTable | None) -> _Look | MaskFinding:
    try:
        _, mask = read_pair(pair, num_classes, table)
    except (OSError, ValueError) as error:
        return MaskFinding("unusable", pair.mask, str(error))
    return _Look(pair.mask, (mask.shape[0], mask.shape[1]), np.bincount(mask.ravel(), minlength=IGNORE_INDEX + 1))


def _judge(source: Path, classes: Sequence[ClassShare], num_ignored: int) -> Iterator[MaskFinding]:
    """Say what is wrong with a set as a whole."""
    absent = [share.name for share in classes if not share.num_images]
    if num_ignored and len(absent) == len(classes) - 1:
        yield MaskFinding(
            "one class only",
            source,
            f"the masks hold one class and {IGNORE_INDEX}, which does not count: if {IGNORE_INDEX} stands for a class, "
            "say so in a table name,id",
        )
    elif absent:
        yield MaskFinding("absent classes", source, f"no pixel is of {', '.join(absent)}")


def _tile(drawing: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "S S 3"]:
    scale = TILE_SIDE / max(drawing.shape[:2])
    width, height = (max(1, round(length * scale)) for length in drawing.shape[1::-1])
    tile = np.full((TILE_SIDE, TILE_SIDE, 3), SHEET_COLOR, np.uint8)
    tile[:height, :width] = cv2.resize(drawing, (width, height), interpolation=cv2.INTER_AREA)
    return tile
