"""Read the file of a mask, in whichever way it says its classes."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from mobilevision.segmentation import sbd
from mobilevision.segmentation.class_table import ClassTable, Codes, pack_colors
from mobilevision.segmentation.types import IGNORE_INDEX

Mask = UInt8[np.ndarray, "H W"]

PLAIN_MODES = ("P", "L")
"""Pillow's names of pictures whose pixels are numbers: with a palette, and in 8-bit grey."""
DEEP_MODES = ("I;16", "I")
"""Those of 16 bits."""


def read_mask(path: Path, num_classes: int, *, table: ClassTable | None = None, ignored: bool = True) -> Mask:
    """Read the classes of a PNG, or of a MATLAB file of SBD.

    Args:
        path: The file.
        num_classes: Classes of the mask, background included.
        table: What the file's numbers or colours stand for; without it its values, or palette indices, are classes.
        ignored: Whether pixels may be ``IGNORE_INDEX``, as they may in the truth.

    Raises:
        ValueError: It does not decode, is a colour picture where numbers are expected, or has a value that is no class;
            the message names it.
    """
    if path.suffix == sbd.SUFFIX:
        mask = sbd.read_sbd_mask(path)
    elif table is None:
        mask = _read_numbers(path, PLAIN_MODES).astype(np.uint8, copy=False)
    else:
        mask = _look_up(path, table)
    strangers = mask[(mask >= num_classes) & (mask != IGNORE_INDEX if ignored else True)]
    if strangers.size:
        allowed = f"classes 0 to {num_classes - 1}" + (f" and {IGNORE_INDEX}" if ignored else "")
        raise ValueError(f"{path} must hold {allowed}, got {strangers[0]} ({strangers.size} pixels)")
    return mask


def _look_up(path: Path, table: ClassTable) -> Mask:
    codes = _read_colors(path) if table.colored else _read_numbers(path, PLAIN_MODES + DEEP_MODES).astype(np.uint32)
    try:
        return table.to_labels(codes)
    except ValueError as error:
        raise ValueError(f"{path} must hold what the table of classes lists, got {error}") from error


def _read_numbers(path: Path, modes: tuple[str, ...]) -> np.ndarray:
    mode, pixels = _decode(path)
    if mode not in modes:
        raise ValueError(
            f"{path} must be a PNG with a palette or in 8-bit grey whose values are classes, got mode {mode}: replace "
            "each colour by its class and save with PIL's Image.fromarray(classes.astype('uint8')), or train with a "
            "table name,r,g,b of the colours as data.class_table"
        )
    return pixels


def _read_colors(path: Path) -> Codes:
    return pack_colors(_decode(path, "RGB")[1])


def _decode(path: Path, mode: str | None = None) -> tuple[str, np.ndarray]:
    """Give Pillow's name of a picture's kind and its pixels, converted to ``mode`` if it is given."""
    try:
        with Image.open(path) as image:
            return image.mode, np.array(image if mode is None else image.convert(mode))
    except FileNotFoundError:
        raise
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} does not decode as a mask") from error
