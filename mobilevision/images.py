"""Read any picture as RGB."""

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

IMAGE_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})

JPEG_END = b"\xff\xd9"
ORIENTATION = 0x0112
"""The EXIF tag whose values from 5 on say that height and width are swapped."""


def read_image(path: str | Path) -> UInt8[np.ndarray, "H W 3"]:
    """Read a picture as 8-bit RGB, upright.

    Grey, palette, CMYK and 16-bit pictures are converted, an alpha channel is dropped, and the camera's EXIF rotation
    is applied.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file does not decode as a picture, or only in part; the message names it.
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
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} does not decode as a picture: {_reason(error)}") from error


def read_size(path: str | Path) -> tuple[int, int]:
    """Read the height and width that :func:`read_image` gives a picture, from the file's header.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no picture.
    """
    try:
        with Image.open(path) as image:
            if image.format == "TIFF":
                # Whether its size is given as it is stored or upright depends on Pillow's version.
                height, width, _ = read_image(path).shape
                return height, width
            # Where a PNG has no EXIF in front, Pillow decodes all of it to look behind.
            looked_for = image.format != "PNG" or "exif" in image.info
            swapped = looked_for and image.getexif().get(ORIENTATION) in range(5, 9)
            return (image.width, image.height) if swapped else (image.height, image.width)
    except (UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} does not decode as a picture: {_reason(error)}") from error


def find_images(folder: str | Path) -> list[Path]:
    """List the pictures in ``folder`` and below, sorted, by their suffix."""
    return sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())


def find_broken(paths: Iterable[str | Path], num_threads: int = 8) -> dict[str, str]:
    """Read all of ``paths`` and say for each that does not decode why: path to reason."""

    def reason(path: str | Path) -> tuple[str, str | None]:
        try:
            read_image(path)
        except (OSError, ValueError) as error:
            return str(path), str(error)
        return str(path), None

    with ThreadPoolExecutor(num_threads) as pool:
        return {path: why for path, why in pool.map(reason, paths) if why is not None}


def _to_rgb(image: Image.Image) -> UInt8[np.ndarray, "H W 3"]:
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith(("I", "F")):
        # Pillow would clip 16 bits at 255 instead of scaling them.
        deep = np.asarray(upright)
        grey = (deep.astype(np.float64) / 257 + 0.5).clip(0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if upright.mode == "P":
        # Pillow warns of palettes whose colours have alphas unless it may keep these first.
        upright = upright.convert("RGBA")
    return np.array(upright.convert("RGB"))


def _reason(error: Exception) -> str:
    return "not a known format" if isinstance(error, UnidentifiedImageError) else str(error).split("\n")[0]


def to_tensor(image: UInt8[np.ndarray, "H W 3"]) -> UInt8[Tensor, "3 H W"]:
    """Return an image with the channels first, as a view that shares its memory."""
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
