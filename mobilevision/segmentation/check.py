"""Check of a dataset's masks before training: what is wrong, and how much there is of each class."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int64

from mobilevision.findings import Finding
from mobilevision.segmentation.class_table import ClassTable
from mobilevision.segmentation.dataset import ImageAndMask, SplitFiles, read_pair
from mobilevision.segmentation.masks import read_mask
from mobilevision.segmentation.types import IGNORE_INDEX

NUM_THREADS = 8
CHUNK = 64
"""Masks that are read before it is seen whether more are needed."""

Track = Callable[[Iterable[Any]], Iterable[Any]]
"""Iterates over the same, and shows how far it is."""


class ClassShare(NamedTuple):
    """The share of a class in a dataset.

    Attributes:
        name: Of the class.
        share: Of the pixels that count.
        num_images: Images with at least one pixel of it.
    """

    name: str
    share: float
    num_images: int


class MaskReport(NamedTuple):
    """The masks of a split.

    Attributes:
        num_pairs: Images with a mask, readable or not.
        findings: What is wrong, file by file, then what is wrong with the split.
        ignored_share: Pixels that do not count, of all pixels of the masks that can be read.
        classes: In the order of their labels.
        sizes: Height and width of images to their number, the most frequent first.
    """

    num_pairs: int
    findings: tuple[Finding, ...]
    ignored_share: float
    classes: tuple[ClassShare, ...]
    sizes: dict[tuple[int, int], int]

    def to_json(self) -> dict[str, Any]:
        """Return plain values, without the findings."""
        return {
            "num_pairs": self.num_pairs,
            "ignored_share": self.ignored_share,
            "classes": [share._asdict() for share in self.classes],
            "sizes": [{"height": height, "width": width, "num": num} for (height, width), num in self.sizes.items()],
        }


def check_presence(
    place: Path | str, masks: Sequence[Path], class_names: Sequence[str], table: ClassTable | None = None
) -> tuple[str, ...]:
    """Return the names of the classes that no pixel of the masks is of; reading ends where all are found.

    Args:
        place: What lists the masks, for messages.
        masks: The files.
        class_names: Of the classes, background included.
        table: What the masks' numbers or colors stand for, if they are not the classes.

    Raises:
        ValueError: There is one class or none beside ``IGNORE_INDEX`` in all masks; or one does not decode, or holds a
            value that is no class.
    """
    found: set[int] = set()
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        for start in range(0, len(masks), CHUNK):
            read = pool.map(partial(_read_values, num_classes=len(class_names), table=table), masks[start:][:CHUNK])
            found.update(*read)
            if found.issuperset(range(len(class_names))):
                return ()
    if IGNORE_INDEX in found and len(found) <= 2 <= len(class_names):
        raise ValueError(f"{place}: {describe_one_class(class_names, found)}")
    return tuple(name for label, name in enumerate(class_names) if label not in found)


def describe_one_class(class_names: Sequence[str], found: Set[int]) -> str:
    """Return why masks of one class and pixels that do not count are refused."""
    beside = "".join(f" beside {name}" for label, name in enumerate(class_names) if label in found)
    return (
        f"no pixel of the masks is of a class{beside}, all others are {IGNORE_INDEX}, which "
        f"does not count: if {IGNORE_INDEX} stands for a class, as in black-and-white masks, list it in a table with "
        f"the lines name,id and {class_names[0]},0 and {class_names[-1]},{IGNORE_INDEX} as class_table"
    )


def check_masks(
    files: SplitFiles, class_names: Sequence[str], table: ClassTable | None = None, *, track: Track = iter
) -> MaskReport:
    """Read every image and mask of a split and report all that is wrong with them.

    Args:
        files: Those that are there and those that are missing, as ``list_pairs`` of a layout returns them.
        class_names: Of the classes, background included.
        table: What the masks' numbers or colors stand for, if they are not the classes.
        track: A progress bar around the pairs.
    """
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        contents = list(track(pool.map(partial(_read_content, num_classes=len(class_names), table=table), files.pairs)))
    read = [content for content in contents if isinstance(content, _Content)]
    counts = np.stack([content.counts for content in read]) if read else np.zeros((1, IGNORE_INDEX + 1), np.int64)
    totals = counts.sum(axis=0)
    num_ignored, num_counted = int(totals[IGNORE_INDEX]), int(totals[:IGNORE_INDEX].sum())
    classes = tuple(
        ClassShare(name, int(totals[label]) / max(1, num_counted), int((counts[:, label] > 0).sum()))
        for label, name in enumerate(class_names)
    )
    findings = (
        *_find_all("image without mask", files.without_mask, "there is no such mask"),
        *_find_all("mask without image", files.without_image, "its image is missing"),
        *(content for content in contents if isinstance(content, Finding)),
        *_find_all("nothing counts", (each.mask for each in read if each.is_empty), f"every pixel is {IGNORE_INDEX}"),
        *_check_classes(files.source, classes, num_ignored),
    )
    ignored_share = num_ignored / max(1, num_ignored + num_counted)
    sizes = Counter(content.size for content in read)
    return MaskReport(len(files.pairs), findings, ignored_share, classes, dict(sizes.most_common()))


class _Content(NamedTuple):
    """The content of a readable mask."""

    mask: Path
    size: tuple[int, int]
    counts: Int64[np.ndarray, " 256"]

    @property
    def is_empty(self) -> bool:
        return int(self.counts[IGNORE_INDEX]) == self.size[0] * self.size[1]


def _read_values(path: Path, num_classes: int, table: ClassTable | None) -> list[int]:
    values: list[int] = np.flatnonzero(np.bincount(read_mask(path, num_classes, table=table).ravel())).tolist()
    return values


def _read_content(pair: ImageAndMask, num_classes: int, table: ClassTable | None) -> _Content | Finding:
    try:
        _, mask = read_pair(pair, num_classes, table)
    except (OSError, ValueError) as error:
        return Finding("unusable", pair.mask, "", _without_path(error, pair.mask))
    return _Content(pair.mask, (mask.shape[0], mask.shape[1]), np.bincount(mask.ravel(), minlength=IGNORE_INDEX + 1))


def _find_all(kind: str, paths: Iterable[Path], message: str) -> list[Finding]:
    return [Finding(kind, path, "", message) for path in paths]


def _without_path(error: Exception, path: Path) -> str:
    """Return a message without the name of the file at its front, which stands beside it."""
    return str(error).removeprefix(str(path)).lstrip(": ")


def _check_classes(source: Path, classes: Sequence[ClassShare], num_ignored: int) -> Iterator[Finding]:
    """Find what is wrong with a split as a whole."""
    absent = [share.name for share in classes if not share.num_images]
    if num_ignored and len(absent) >= len(classes) - 1 > 0:
        found = {label for label, share in enumerate(classes) if share.num_images}
        message = describe_one_class([share.name for share in classes], found)
        yield Finding("one class only", source, "", message)
    elif absent:
        yield Finding("absent classes", source, "", f"no pixel is of {', '.join(absent)}")
