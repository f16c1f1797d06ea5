"""Read an image of any format as RGB."""

import io
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

Pixels = UInt8[np.ndarray, "H W 3"]
"""An RGB image."""

IMAGE_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})

DECODING_ERRORS = (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError)
"""The errors of Pillow for files that are not images, or only in part."""

JPEG_END = b"\xff\xd9"
ORIENTATION = 0x0112
"""The EXIF tag whose values from 5 on mean that height and width are swapped."""


def read_image(path: str | Path) -> Pixels:
    """Read an image as 8-bit RGB, upright.

    Grayscale, palette, CMYK and 16-bit images are converted, an alpha channel is dropped, and the camera's EXIF
    rotation is applied.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file does not decode as an image, or only in part; the message names it.
    """
    data = Path(path).read_bytes()
    try:
        with Image.open(io.BytesIO(data)) as image:
            # OpenCV decodes a JPEG twice as fast, but makes up the missing part of a truncated one.
            if image.format == "JPEG" and image.mode in ("L", "RGB") and data.rstrip(b"\0").endswith(JPEG_END):
                decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
                if decoded is not None:
                    return decoded
            return _to_rgb(image)
    except DECODING_ERRORS as error:
        raise ValueError(f"{path} does not decode as an image: {describe_error(error)}") from error


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
    except (UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} does not decode as an image: {describe_error(error)}") from error


def find_images(folder: str | Path) -> list[Path]:
    """Return the images in ``folder`` and below by their suffixes, sorted."""
    return sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())


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


def _to_rgb(image: Image.Image) -> Pixels:
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith(("I", "F")):
        # Pillow would clip 16 bits at 255 instead of scaling them.
        deep = np.asarray(upright)
        gray = (deep.astype(np.float64) / 257 + 0.5).clip(0, 255).astype(np.uint8)
        return np.repeat(gray[..., None], 3, axis=2)
    if upright.mode == "P":
        # Pillow warns of palettes whose colors have alphas unless it may keep these first.
        upright = upright.convert("RGBA")
    return np.array(upright.convert("RGB"))
