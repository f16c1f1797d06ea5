"""Read an image of any format as RGB."""

import io
import os
import struct
import warnings
import zlib
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Shaped, UInt8
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

Pixels = UInt8[np.ndarray, "H W 3"]
"""An RGB image."""

IMAGE_SUFFIXES = frozenset((
    ".apng", ".avif", ".avifs", ".blp", ".bmp", ".bw", ".cur", ".dcx", ".dds", ".dib", ".fit", ".fits", ".flc",
    ".fli", ".ftu", ".gif", ".icb", ".icns", ".ico", ".im", ".j2c", ".j2k", ".jfif", ".jp2", ".jpc", ".jpe", ".jpeg",
    ".jpf", ".jpg", ".jpx", ".mpo", ".msp", ".pbm", ".pcd", ".pcx", ".pfm", ".pgm", ".png", ".pnm", ".ppm", ".psd",
    ".pxr", ".qoi", ".ras", ".rgb", ".rgba", ".sgi", ".tga", ".tif", ".tiff", ".vda", ".vst", ".webp", ".xbm", ".xpm",
))  # fmt: skip
"""The suffixes of the images that Pillow decodes."""

TEXT_SUFFIXES = frozenset(
    {".cache", ".csv", ".data", ".json", ".labels", ".md", ".names", ".txt", ".xml", ".yaml", ".yml"}
)
"""The suffixes of annotations and notes, which nobody misses among the images."""

SYSTEM_NAMES = frozenset({"@eadir", "__macosx", "desktop.ini", "thumbs.db"})
"""Files and folders that systems leave behind, in lower case; other hidden names begin with a dot."""

DECODING_ERRORS = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    cv2.error,
    zlib.error,
    Image.DecompressionBombError,
)
"""The errors of Pillow for files that are not images, or only in part."""

NO_RANGE = (
    "its range is not stated, so nobody knows what is white: save it with 8 or 16 bits, or as floats in 0 to 1, or "
    "state it in a TIFF's MaxSampleValue"
)

MIN_VALUES, MAX_VALUES = (340, 280), (341, 281)
"""The TIFF tags of the stated range: (S)MinSampleValue and (S)MaxSampleValue."""
BITS, SAMPLE_FORMAT, UNSIGNED = 258, 339, 1

MAX_16_BITS = 65_535

JPEG_END = b"\xff\xd9"
ORIENTATION = 0x0112
"""The EXIF tag whose values from 5 on mean that height and width are swapped."""


class RangeError(ValueError):
    """An image's values are outside their range, or their range is not known."""


def read_image(path: str | Path) -> Pixels:
    """Read an image as 8-bit RGB, upright; see :func:`decode_image`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file does not decode as an image, or only in part; the message names it.
    """
    return decode_image(Path(path).read_bytes(), path)


def decode_image(data: bytes, name: str | Path) -> Pixels:
    """Decode the content of an image file as 8-bit RGB, upright.

    Grayscale, palette and CMYK images are converted, deeper ones are scaled by the range of their type or the one that
    the file states, an alpha channel is dropped, and the camera's EXIF rotation is applied.

    Args:
        data: The content.
        name: Of the file, for messages.

    Raises:
        ValueError: It does not decode as an image, or only in part, or the range of its values is not known.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            # OpenCV decodes a JPEG twice as fast, but makes up the missing part of a truncated one.
            if image.format == "JPEG" and image.mode in ("L", "RGB") and data.rstrip(b"\0").endswith(JPEG_END):
                decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
                if decoded is not None:
                    return decoded
            tags = getattr(image, "tag_v2", {})
            if image.mode == "RGB" and np.max(tags.get(BITS, 8)) == 16 and any(tag in tags for tag in MAX_VALUES):
                # Pillow would drop the lower 8 bits, whatever range the file states.
                deep = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
                if deep is not None:
                    return scale_to_bytes(deep[..., 2::-1], *find_range(image))
            return to_rgb(image)
    except RangeError as error:
        raise RangeError(f"{name}: {error}") from error
    except DECODING_ERRORS as error:
        raise ValueError(f"{name} does not decode as an image: {describe_error(error)}") from error


def read_size(path: str | Path) -> tuple[int, int]:
    """Read the height and width of what :func:`read_image` returns from the file's header.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is not an image.
    """
    try:
        with Image.open(path) as image:
            if image.format == "TIFF":
                # Whether Pillow's size is the stored or the upright one depends on its version.
                height, width, _ = read_image(path).shape
                return height, width
            # Where a PNG has no EXIF in front, Pillow decodes all of it to look behind.
            has_exif = image.format != "PNG" or "exif" in image.info
            swapped = has_exif and image.getexif().get(ORIENTATION) in range(5, 9)
            return (image.width, image.height) if swapped else (image.height, image.width)
    except (FileNotFoundError, RangeError):
        raise
    except DECODING_ERRORS as error:
        raise ValueError(f"{path} does not decode as an image: {describe_error(error)}") from error


def find_images(*folders: str | Path) -> list[Path]:
    """Return the images in folders and below by their suffixes, each folder's sorted, and warn of what is left out."""
    found, left_out = [], Counter[str]()
    for folder in folders:
        images, others = _list_images(folder)
        found += sorted(images)
        left_out += others
    if left_out:
        counts = ", ".join(f"{count} {kind}" for kind, count in sorted(left_out.items()))
        place = os.path.commonpath(folders)
        warnings.warn(f"{left_out.total()} files in {place} are left out, they are no images: {counts}", stacklevel=2)
    return found


def _list_images(folder: str | Path) -> tuple[list[Path], Counter[str]]:
    images, left_out = [], Counter[str]()
    for place, folders, names in os.walk(folder):
        visible = [name for name in names if not is_hidden(name)]
        hidden = (Path(name) for name in names if is_hidden(name))
        # A .DS_Store in every folder is nobody's image.
        left_out["hidden"] += sum(name.suffix.lower() in IMAGE_SUFFIXES for name in hidden)
        folders[:] = [name for name in folders if not is_hidden(name)]
        for path in (Path(place, name) for name in visible):
            suffix = path.suffix.lower()
            if suffix in IMAGE_SUFFIXES and path.is_file():
                images.append(path)
            elif suffix not in TEXT_SUFFIXES:
                left_out[suffix or "without suffix"] += 1
    return images, left_out


def is_hidden(name: str) -> bool:
    """Return whether a file or folder is hidden, or left behind by a system.

    >>> [is_hidden(name) for name in ("._a.jpg", ".ipynb_checkpoints", "Thumbs.db", "a.jpg")]
    [True, True, True, False]
    """
    return name.startswith(".") or name.lower() in SYSTEM_NAMES


def find_broken(paths: Iterable[str | Path], num_threads: int = 8) -> dict[str, str]:
    """Read all of ``paths`` and return the reason for each that does not decode: path to reason."""

    def find_reason(path: str | Path) -> tuple[str, str | None]:
        try:
            read_image(path)
        except (OSError, ValueError) as error:
            return str(path), str(error)
        return str(path), None

    with ThreadPoolExecutor(num_threads) as pool:
        return {path: reason for path, reason in pool.map(find_reason, paths) if reason is not None}


def to_tensor(image: Pixels) -> UInt8[Tensor, "3 H W"]:
    """Return a view of an image with the channels first; its pixels stay in memory as they are, channels last."""
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)


def describe_error(error: Exception) -> str:
    """Return Pillow's reason on one line."""
    return "not a known format" if isinstance(error, UnidentifiedImageError) else str(error).split("\n")[0]


def to_rgb(image: Image.Image) -> Pixels:
    """Return an image of Pillow's as 8-bit RGB, upright; see :func:`decode_image`.

    Raises:
        RangeError: Its values are outside their range, or their range is not known.
    """
    upright = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):
        # Pillow would clip at 255 instead of scaling.
        return scale_to_bytes(np.asarray(upright), *find_range(image))[..., None].repeat(3, axis=2)
    if upright.mode == "P":
        # Pillow warns of palettes whose colors have alphas unless it may keep these first.
        upright = upright.convert("RGBA")
    return np.array(upright.convert("RGB"))


def find_range(image: Image.Image) -> tuple[float, float]:
    """Return the values of black and white in a deep image of Pillow's: what the file states, else those of its type.

    Raises:
        RangeError: Neither is known.
    """
    tags = getattr(image, "tag_v2", {})
    lowest, highest = (next((tags[tag] for tag in kind if tag in tags), None) for kind in (MIN_VALUES, MAX_VALUES))
    if highest is not None:
        return float(np.min(0 if lowest is None else lowest)), float(np.max(highest))
    if image.mode == "F":
        return 0, 1
    bits = int(np.max(tags.get(BITS, 16)))
    if bits > 16 or np.max(tags.get(SAMPLE_FORMAT, UNSIGNED)) != UNSIGNED or not _has_16_bits(image):
        raise RangeError(f"it holds whole numbers of mode {image.mode}: {NO_RANGE}")
    return 0, 2**bits - 1


def scale_to_bytes(values: Shaped[np.ndarray, "*S"], minimum: float, maximum: float) -> UInt8[np.ndarray, "*S"]:
    """Return values in ``minimum`` to ``maximum`` as 0 to 255, rounded.

    Raises:
        RangeError: A value is outside, or is no number.
    """
    low, high = (float(values.min()), float(values.max())) if values.size else (minimum, maximum)
    if not minimum <= low <= high <= maximum or minimum == maximum:
        raise RangeError(f"its values must be in {minimum:g} to {maximum:g}, got {low:g} to {high:g}: scale them")
    return ((values.astype(np.float64) - minimum) * (255 / (maximum - minimum)) + 0.5).astype(np.uint8)


def _has_16_bits(image: Image.Image) -> bool:
    """Return whether an image of whole numbers has 16 bits; those of PNG and PPM had mode I in earlier Pillows."""
    return image.mode.startswith("I;16") or image.format in ("PNG", "PPM", "TIFF")
