"""What is wrong with data, and what is wrong with the file of a picture."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from mobilevision.images import read_image

NOTES = frozenset(
    {
        *("grey", "CMYK", "16-bit", "no objects", "over the edge", "thinner than a pixel", "same picture twice"),
        *("absent classes", "mask without picture", "nothing counts"),
    }
)
"""The kinds of findings that are worth knowing and keep nobody from training."""

PNG_START = b"\x89PNG\r\n\x1a\n"
PNG_DEPTH = 24
"""The place of the byte that says how many bits a PNG's samples have; Pillow does not tell."""

GREY_MODES = frozenset({"1", "L", "LA"})
DEEP_MODES = frozenset({"F", "I", "I;16", "I;16B", "I;16L"})


class Finding(NamedTuple):
    """One thing that is wrong with a set, and where.

    Attributes:
        kind: A few words, the same for everything of this kind.
        file: The picture, or the file of annotations.
        place: Where in the file, ``line 3``; empty where it is all of it.
        message: What is wrong, with the values.
    """

    kind: str
    file: Path
    place: str
    message: str

    @property
    def is_problem(self) -> bool:
        """Whether it has to be mended; otherwise it is only good to know."""
        return self.kind not in NOTES

    def __str__(self) -> str:
        """Say it on one line."""
        return ": ".join(part for part in (str(self.file), self.place, self.message) if part)


Complain = Callable[[Finding], None]
"""What a reader calls where something is wrong. If it returns, the reader leaves that out and goes on."""


def refuse(finding: Finding) -> None:
    """Stop at the first thing that is wrong.

    Raises:
        ValueError: Always.
    """
    raise ValueError(str(finding))


class InspectedPicture(NamedTuple):
    """What the file of a picture is like.

    Attributes:
        path: The file.
        size: Height and width as :func:`read_image` gives them; None where it does not decode.
        digest: The same for pictures with the same pixels, whatever the file; empty where it does not decode.
        findings: What is wrong with it.
    """

    path: Path
    size: tuple[int, int] | None
    digest: str
    findings: tuple[Finding, ...]


def inspect_picture(path: Path) -> InspectedPicture:
    """Read a picture as a whole and say what is wrong with it."""
    try:
        mode, deep = _read_header(path)
    except FileNotFoundError:
        return _unreadable(path, "missing picture", "there is no such file")
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        reason = "not a known format" if isinstance(error, UnidentifiedImageError) else str(error)
        return _unreadable(path, "undecodable", f"does not decode as a picture: {reason}")
    try:
        pixels = read_image(path)
    except ValueError as error:
        # Its header is that of a picture.
        return _unreadable(path, "truncated", f"decodes only in part: {str(error).rpartition(': ')[2]}")
    kinds = {
        "grey": (mode in GREY_MODES, "is grey: its three channels will be the same"),
        "CMYK": (mode == "CMYK", "is CMYK: its colours are converted without a profile"),
        "16-bit": (deep or mode in DEEP_MODES, "has 16 bits a channel: the upper 8 are used"),
    }
    findings = tuple(Finding(kind, path, "", text) for kind, (is_so, text) in kinds.items() if is_so)
    digest = hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=16, salt=b"%dx%d" % pixels.shape[:2])
    return InspectedPicture(path, (pixels.shape[0], pixels.shape[1]), digest.hexdigest(), findings)


def inspect_pictures(paths: Iterable[Path], num_threads: int = 8) -> Iterator[InspectedPicture]:
    """Inspect pictures in parallel, in their order."""
    with ThreadPoolExecutor(num_threads) as pool:
        yield from pool.map(inspect_picture, paths)


def _read_header(path: Path) -> tuple[str, bool]:
    """Give Pillow's mode of a picture, and whether it is a PNG of 16 bits."""
    with path.open("rb") as file:
        start = file.read(PNG_DEPTH + 1)
    with Image.open(path) as image:
        return image.mode, start.startswith(PNG_START) and start[PNG_DEPTH] == 16


def _unreadable(path: Path, kind: str, message: str) -> InspectedPicture:
    return InspectedPicture(path, None, "", (Finding(kind, path, "", message),))
