"""Files of masks: images of numbers or colors, and the MATLAB files of the Semantic Boundaries Dataset (SBD)."""

from pathlib import Path

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image

from mobilevision.images import DECODING_ERRORS
from mobilevision.segmentation.class_table import ClassTable, Codes, pack_colors
from mobilevision.segmentation.types import IGNORE_INDEX

try:
    from scipy.io import loadmat
except ModuleNotFoundError:
    loadmat = None

MaskArray = UInt8[np.ndarray, "H W"]

SBD_SUFFIX = ".mat"
NUMBER_MODES = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L")
"""Pillow's names of images whose pixels are numbers."""


def read_mask(path: Path, num_classes: int, *, table: ClassTable | None = None, ignored: bool = True) -> MaskArray:
    """Read the classes of an image, or of a MATLAB file of SBD.

    Args:
        path: The file.
        num_classes: Classes of the mask, background included.
        table: What the file's numbers or colors stand for; without it its values, or palette indices, are classes.
        ignored: Whether pixels may be ``IGNORE_INDEX``, as they may in the truth.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It does not decode, is a color image where numbers are expected, or has a value that is no class;
            the message names it.
    """
    if path.suffix == SBD_SUFFIX:
        mask = read_sbd_mask(path)
    elif table is None:
        mask = _read_numbers(path)
    else:
        mask = _look_up(path, table)
    unknown = mask[(mask >= num_classes) & (mask != IGNORE_INDEX if ignored else True)]
    if unknown.size:
        allowed = f"classes 0 to {num_classes - 1}" + (f" and {IGNORE_INDEX}" if ignored else "")
        raise ValueError(f"{path} must hold {allowed}, got {unknown[0]} ({unknown.size} pixels)")
    return mask.astype(np.uint8, copy=False)


def read_sbd_mask(path: Path) -> MaskArray:
    """Read the classes of a file of SBD's folder ``cls``, numbered as VOC's.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not a file of SBD's, or the optional dependency that reads it is not installed.

    Reference: Hariharan et al., "Semantic contours from inverse detectors", ICCV 2011.
    """
    if loadmat is None:
        raise ValueError(f"{path} is read with an optional dependency: pip install 'mobilevision[sbd]'")
    data = path.open("rb")
    try:
        with data:
            mask = loadmat(data, variable_names=["GTcls"], simplify_cells=True)["GTcls"]["Segmentation"]
    # Its readers raise almost anything at a broken file.
    except Exception as error:
        raise ValueError(f"{path} does not decode as a mask of SBD with GTcls.Segmentation") from error
    if not isinstance(mask, np.ndarray) or mask.ndim != 2 or mask.dtype != np.uint8:
        raise ValueError(f"{path} must hold an array of 8-bit classes in GTcls.Segmentation")
    return mask


def _look_up(path: Path, table: ClassTable) -> MaskArray:
    codes = _read_colors(path) if table.colored else _read_numbers(path).astype(np.uint32)
    try:
        return table.to_labels(codes)
    except ValueError as error:
        raise ValueError(f"{path} must hold what the table of classes lists, got {error}") from error


def _read_numbers(path: Path) -> Shaped[np.ndarray, "H W"]:
    mode, pixels = _decode(path)
    if mode in NUMBER_MODES:
        # Negative numbers become large ones, which are no classes.
        return pixels if pixels.dtype == np.uint8 else pixels.astype(np.uint32)
    numbers: Shaped[np.ndarray, "H W"] = pixels[..., 0] if pixels.ndim == 3 else pixels
    # Gray that was stored as colors; the last of two or four channels is the alpha.
    if pixels.ndim == 2 or (pixels[..., : 3 if len(mode) > 2 else 1] != numbers[..., None]).any():
        raise ValueError(
            f"{path} must be an image with a palette or in gray whose values are classes, got mode {mode}: replace "
            "each color by its class and save with PIL's Image.fromarray(classes.astype('uint8')), or train with a "
            "table name,r,g,b of the colors as data.class_table"
        )
    return numbers


def _read_colors(path: Path) -> Codes:
    mode, pixels = _decode(path, "RGB")
    if mode.startswith(("I", "F")):
        raise ValueError(f"{path} must hold colors, as the table of classes does, got numbers of mode {mode}")
    return pack_colors(pixels)


def _decode(path: Path, mode: str | None = None) -> tuple[str, np.ndarray]:
    """Return Pillow's mode of an image and its pixels, converted to ``mode`` if it is given."""
    try:
        with Image.open(path) as image:
            return image.mode, np.array(image if mode is None else image.convert(mode))
    except FileNotFoundError:
        raise
    except DECODING_ERRORS as error:
        raise ValueError(f"{path} does not decode as a mask") from error
