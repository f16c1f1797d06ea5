"""Images with masks, small enough to train on in a test."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def write_voc(write_dataset: Callable[..., Path]) -> Callable[..., Path]:
    """Write images of 80 by 72 with masks in VOC's layout: folder, images of each split."""
    return partial(write_dataset, "segmentation")


@pytest.fixture(scope="session")
def save() -> Callable[..., Path]:
    """Save 8-bit values as an image, converted to one of Pillow's modes if one is given."""

    def save(path: Path, values: object, mode: str | None = None) -> Path:
        image = Image.fromarray(np.asarray(values, np.uint8))
        (image.convert(mode) if mode else image).save(path)
        return path

    return save


@pytest.fixture(scope="session")
def draw_pair() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """Draw a mask of large squares, and the image that has 40 times its value in every pixel."""

    def draw(height: int, width: int, *, side: int = 16) -> tuple[np.ndarray, np.ndarray]:
        mask = np.random.default_rng(0).integers(0, 5, (-(-height // side), -(-width // side)), dtype=np.uint8)
        mask = mask.repeat(side, axis=0).repeat(side, axis=1)[:height, :width]
        return np.repeat(mask[..., None] * np.uint8(40), 3, axis=2), mask

    return draw
