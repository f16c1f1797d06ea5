"""Look at a set's masks before training on them: what is wrong, and what there is of each class."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int64

from mobilevision.findings import Finding
from mobilevision.segmentation.class_table import ClassTable
from mobilevision.segmentation.pictures import Listing, Pair, read_pair
from mobilevision.segmentation.types import IGNORE_INDEX

NUM_THREADS = 8

Watch = Callable[[Iterable[Any]], Iterable[Any]]
TILE_SIDE = 320
SHEET_COLUMNS = 4
SHEET_COLOR = 255


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
    findings: tuple[Finding, ...]
    ignored_share: float
    classes: tuple[ClassShare, ...]
    sizes: dict[tuple[int, int], int]

    def to_json(self) -> dict[str, Any]:
        """Give plain values, the findings left out."""
        return {
            "num_pairs": self.num_pairs,
            "ignored_share": self.ignored_share,
            "classes": [share._asdict() for share in self.classes],
            "sizes": [{"height": height, "width": width, "num": num} for (height, width), num in self.sizes.items()],
        }


def check_masks(
    listing: Listing, class_names: Sequence[str], table: ClassTable | None = None, *, watch: Watch = iter
) -> MaskReport:
    """Read every picture and mask of a set and say what is wrong with them, without stopping at the first.

    Args:
        listing: What there is and what is missing, as ``list_pairs`` of a layout gives it.
        class_names: Of the classes, background included.
        table: What the masks' numbers or colours stand for, if they are not the classes.
        watch: What the pairs are gone through with: a progress bar.
    """
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        looks = list(watch(pool.map(partial(_look_at, num_classes=len(class_names), table=table), listing.pairs)))
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
        *(Finding("picture without mask", path, "", "there is no such mask") for path in listing.without_mask),
        *(Finding("mask without picture", path, "", "its picture is missing") for path in listing.without_image),
        *(look for look in looks if isinstance(look, Finding)),
        *(Finding("nothing counts", look.mask, "", f"every pixel is {IGNORE_INDEX}") for look in read if look.is_empty),
        *_judge(listing.source, classes, num_ignored),
    )
    return MaskReport(
        len(listing.pairs),
        findings,
        num_ignored / max(1, num_ignored + num_counted),
        classes,
        dict(sorted(sizes.items(), key=lambda item: -item[1])),
    )


class _Look(NamedTuple):
    """What a readable mask holds."""

    mask: Path
    size: tuple[int, int]
    counts: Int64[np.ndarray, " 256"]

    @property
    def is_empty(self) -> bool:
        return int(self.counts[IGNORE_INDEX]) == self.size[0] * self.size[1]


def _look_at(pair: Pair, num_classes: int, table: ClassTable | None) -> _Look | Finding:
    try:
        _, mask = read_pair(pair, num_classes, table)
    except (OSError, ValueError) as error:
        return Finding("unusable", pair.mask, "", _without_path(error, pair.mask))
    return _Look(pair.mask, (mask.shape[0], mask.shape[1]), np.bincount(mask.ravel(), minlength=IGNORE_INDEX + 1))


def _without_path(error: Exception, path: Path) -> str:
    """Give a message without the name of the file at its front, which is said beside it."""
    return str(error).removeprefix(str(path)).lstrip(": ")


def _judge(source: Path, classes: Sequence[ClassShare], num_ignored: int) -> Iterator[Finding]:
    """Say what is wrong with a set as a whole."""
    absent = [share.name for share in classes if not share.num_images]
    if num_ignored and len(absent) == len(classes) - 1:
        yield Finding(
            "one class only",
            source,
            "",
            f"the masks hold one class and {IGNORE_INDEX}, which does not count: if {IGNORE_INDEX} stands for a class, "
            "say so in a table name,id",
        )
    elif absent:
        yield Finding("absent classes", source, "", f"no pixel is of {', '.join(absent)}")
