"""Images in class folders."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def write_image() -> Callable[..., Path]:
    """Write an image of one gray value, with its folders."""

    def write(path: Path, value: int = 0) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((20, 30, 3), value, np.uint8)).save(path)
        return path

    return write


@pytest.fixture(scope="session")
def gradient() -> Callable[[int, int], np.ndarray]:
    """Draw an image whose red is its row and whose green is its column."""

    def draw(height: int, width: int) -> np.ndarray:
        image = np.zeros((height, width, 3), np.uint8)
        image[..., 0] = np.linspace(0, 255, height)[:, None].round()
        image[..., 1] = np.linspace(0, 255, width)[None].round()
        return image

    return draw
