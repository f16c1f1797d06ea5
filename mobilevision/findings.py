"""Findings: what is wrong with a dataset or with the file of an image."""

import hashlib
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from mobilevision.images import BITS, DECODING_ERRORS, MAX_16_BITS, RangeError, describe_error, read_image

NOTES = frozenset(
    {
        *("grayscale", "CMYK", "16-bit", "no objects", "over the edge", "thinner than a pixel", "same image twice"),
        *("absent classes", "mask without image", "nothing counts"),
        *("found by base name", "class without objects", "not understood", "not there"),
    }
)
"""The kinds of findings that are worth knowing and prevent nobody from training."""

PNG_START = b"\x89PNG\r\n\x1a\n"
PNG_DEPTH = 24
"""The place of the byte that holds the bit depth of a PNG's samples; Pillow does not return it."""

GRAYSCALE_MODES = frozenset({"1", "L", "LA"})


class Finding(NamedTuple):
    """One thing that is wrong with a dataset, and where.

    Attributes:
        kind: A few words, the same for everything of this kind.
        file: The image, or the file of annotations.
        place: Where in the file, ``line 3``; empty where it is all of it.
        message: What is wrong, with the values.
    """

    kind: str
    file: Path
    place: str
    message: str

    @property
    def is_problem(self) -> bool:
        """Whether it has to be fixed; otherwise it is a note."""
        return self.kind not in NOTES

    def __str__(self) -> str:
        """Return it on one line."""
        return ": ".join(part for part in (str(self.file), self.place, self.message) if part).replace("\n", " ")


OnFinding = Callable[[Finding], None]
"""Called by a reader where something is wrong. If it returns, the reader leaves that out and goes on."""


def raise_finding(finding: Finding) -> None:
    """Stop at the first problem, and warn of a note.

    Raises:
        ValueError: The finding is a problem.
    """
    if finding.is_problem:
        raise ValueError(str(finding))
    warnings.warn(str(finding), stacklevel=3)


class InspectedImage(NamedTuple):
    """The file of an image after all of it was read.

    Attributes:
        path: The file.
        size: Height and width of what :func:`read_image` returns; None where it does not decode.
        digest: The same for images with the same pixels, whatever the file; empty where it does not decode.
        findings: What is wrong with it.
    """

    path: Path
    size: tuple[int, int] | None
    digest: str
    findings: tuple[Finding, ...]


def inspect_image(path: Path) -> InspectedImage:
    """Read an image as a whole and find what is wrong with it."""
    try:
        mode, used = _read_header(path)
    except FileNotFoundError:
        return _unreadable(path, "missing image", "there is no such file")
    except DECODING_ERRORS as error:
        return _unreadable(path, "undecodable", f"does not decode as an image: {describe_error(error)}")
    try:
        pixels = read_image(path)
    except RangeError as error:
        return _unreadable(path, "unknown range", str(error).removeprefix(f"{path}: "))
    except ValueError as error:
        # Its header is that of an image.
        return _unreadable(path, "truncated", f"decodes only in part: {str(error).rpartition(': ')[2]}")
    kinds = {
        "grayscale": (mode in GRAYSCALE_MODES, "is grayscale: its three channels will be the same"),
        "CMYK": (mode == "CMYK", "is CMYK: its colors are converted without a profile"),
        "16-bit": (used is not None, f"has 16 bits a channel and uses {used or 0:,} of {MAX_16_BITS:,} values"),
    }
    findings = tuple(Finding(kind, path, "", text) for kind, (is_so, text) in kinds.items() if is_so)
    digest = hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=16, salt=b"%dx%d" % pixels.shape[:2])
    return InspectedImage(path, (pixels.shape[0], pixels.shape[1]), digest.hexdigest(), findings)


def inspect_images(paths: Iterable[Path], num_threads: int = 8) -> Iterator[InspectedImage]:
    """Inspect images in parallel, in their order."""
    with ThreadPoolExecutor(num_threads) as pool:
        yield from pool.map(inspect_image, paths)


def _read_header(path: Path) -> tuple[str, int | None]:
    """Return Pillow's mode of an image and, if it has 16 bits a channel, its largest value."""
    with path.open("rb") as file:
        start = file.read(PNG_DEPTH + 1)
    with Image.open(path) as image:
        if image.mode.startswith("I;16"):
            return image.mode, int(np.asarray(image).max())
        is_deep_png = start.startswith(PNG_START) and start[PNG_DEPTH] == 16
        if not is_deep_png and np.max(getattr(image, "tag_v2", {}).get(BITS, 8)) != 16:
            return image.mode, None
    pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    return image.mode, 0 if pixels is None else int(pixels.max())


def _unreadable(path: Path, kind: str, message: str) -> InspectedImage:
    return InspectedImage(path, None, "", (Finding(kind, path, "", message),))
