"""Images as people have them: files, addresses, bytes, and the images of Pillow, NumPy and PyTorch, as RGB pixels."""

import time
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped
from PIL import Image
from torch import Tensor

from mobilevision.backbone.normalization import TOLERANCE
from mobilevision.images import MAX_16_BITS, Pixels, RangeError, decode_image, read_image, scale_to_bytes, to_rgb

AnyArray = Shaped[np.ndarray, "..."] | Shaped[Tensor, "..."]
ImageInput = str | Path | bytes | Image.Image | AnyArray
"""A file, its content, an address, an image of Pillow's, or pixels: gray, RGB or RGBA in uint8 or floats in [0, 1]."""

SCHEMES = ("http://", "https://")
TIMEOUT = 10.0
"""Seconds within which an image has to come."""
MAX_BYTES = 2**26
CHUNK = 2**16

CHANNELS = (1, 3, 4)
"""Gray, RGB and RGBA."""


def split_batch(image: Any) -> list[Any] | None:
    """Return the images of a list or of an array of four dimensions, or None for one image."""
    if isinstance(image, list | tuple):
        return list(image)
    return list(image) if isinstance(image, np.ndarray | Tensor) and image.ndim == 4 else None


def read_pixels(image: Any) -> Pixels:
    """Return an :data:`ImageInput` as 8-bit RGB, upright.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It does not decode, cannot be fetched, or is no image.
    """
    if isinstance(image, str) and image.startswith(SCHEMES):
        return decode_image(fetch(image), image)
    if isinstance(image, str | Path):
        return read_image(image)
    if isinstance(image, bytes | bytearray | memoryview):
        return decode_image(bytes(image), f"image of {len(image)} bytes")
    try:
        if isinstance(image, Image.Image):
            return to_rgb(image)
        if isinstance(image, np.ndarray | Tensor):
            return _array_to_rgb(image)
    except RangeError as error:
        raise ValueError(f"image: {error}") from error
    reason = ": it was not read, as OpenCV returns None for a file that it cannot read" if image is None else ""
    raise ValueError(
        f"image must be a path, an address, bytes, an image of Pillow's, an array or a tensor, got "
        f"{image if image is None else type(image).__name__}{reason}"
    )


def fetch(url: str) -> bytes:
    """Return what is at an address of http or https.

    Raises:
        ValueError: It cannot be fetched in ``TIMEOUT`` seconds, or has more than ``MAX_BYTES``.
    """
    request = urllib.request.Request(url, headers={"User-Agent": "mobilevision"})  # noqa: S310 - the scheme is checked
    end, data = time.monotonic() + TIMEOUT, bytearray()
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:  # noqa: S310
            while chunk := response.read1(CHUNK):
                data += chunk
                if len(data) > MAX_BYTES:
                    raise ValueError(f"it has more than {MAX_BYTES} bytes")
                if time.monotonic() > end:
                    raise ValueError(f"it has not come within {TIMEOUT:g} seconds")
    except (OSError, HTTPException, ValueError) as error:
        raise ValueError(f"{url} cannot be fetched: {error}") from error
    return bytes(data)


def _array_to_rgb(image: AnyArray) -> Pixels:
    channels_first = isinstance(image, Tensor)
    if isinstance(image, Tensor):
        # NumPy has no bfloat16.
        image = (image.detach().float() if image.is_floating_point() else image.detach()).cpu().numpy()
    pixels = _to_channels_last(image, channels_first=channels_first)
    if pixels is None or not pixels.size:
        raise ValueError(
            f"image must be [H, W], [H, W, 1, 3 or 4] or [1, 3 or 4, H, W] and not empty, got {image.dtype} of "
            f"{list(image.shape)}"
        )
    if pixels.dtype == np.uint16:
        pixels = scale_to_bytes(pixels, 0, MAX_16_BITS)
    elif np.issubdtype(pixels.dtype, np.floating):
        inside = (pixels >= -TOLERANCE) & (pixels <= 1 + TOLERANCE)
        pixels = scale_to_bytes(pixels.clip(0, 1) if inside.all() else pixels, 0, 1)
    elif pixels.dtype != np.uint8:
        raise ValueError(f"image must be of uint8, uint16 or floats in 0 to 1, got {pixels.dtype}")
    colors = pixels[..., :3] if pixels.shape[2] > 1 else pixels.repeat(3, axis=2)
    return np.ascontiguousarray(colors)


def _to_channels_last(pixels: Shaped[np.ndarray, "..."], *, channels_first: bool) -> Shaped[np.ndarray, "H W C"] | None:
    """Return an image with its channels last, or None for what is no image.

    Args:
        pixels: Of an image.
        channels_first: Where they are if first and last dimension could be the channels.
    """
    if pixels.ndim == 2:
        return pixels[..., None]
    if pixels.ndim != 3:
        return None
    first, last = pixels.shape[0] in CHANNELS, pixels.shape[2] in CHANNELS
    if first and (channels_first or not last):
        return pixels.transpose(1, 2, 0)
    return pixels if last else None
