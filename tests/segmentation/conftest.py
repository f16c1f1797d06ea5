"""A dataset in VOC's layout that is small enough to train on in a test."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

PALETTE = [0, 0, 0, 128, 0, 0, 0, 128, 0] + [224, 224, 192] * 253


def save_mask(mask: np.ndarray, path: Path) -> None:
    image = Image.fromarray(mask).convert("P")
    image.putdata(mask.flatten().tolist())
    image.putpalette(PALETTE)
    image.save(path)


def write_pair(home: Path, name: str, *, size: tuple[int, int], rng: np.random.Generator) -> None:
    """A bright square on dark noise: red above is class 1, green below is class 2, and its upper edge is 255."""
    height, width = size
    pixels, mask = rng.integers(0, 80, (height, width, 3), dtype=np.uint8), np.zeros(size, np.uint8)
    side = height // 2
    top, left = rng.integers(0, height - side), rng.integers(0, width - side)
    for label, start in ((1, top), (2, top + side // 2)):
        pixels[start : top + side, left : left + side, :2] = 0
        pixels[start : top + side, left : left + side, label - 1] = 220
        mask[start : top + side, left : left + side] = label
    mask[top, left : left + side] = 255
    Image.fromarray(pixels).save(home / "JPEGImages" / f"{name}.jpg", quality=95)
    save_mask(mask, home / "SegmentationClass" / f"{name}.png")


@pytest.fixture(scope="session")
def write_voc() -> Callable[..., Path]:
    """Write a dataset with a list of images per split, and return the folder that stands for VOC2012."""

    def write(home: Path, *, size: tuple[int, int] = (32, 40), **splits: int) -> Path:
        rng = np.random.default_rng(0)
        for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
            (home / folder).mkdir(parents=True, exist_ok=True)
        for split, count in splits.items():
            names = [f"{split}_{index}" for index in range(count)]
            for name in names:
                write_pair(home, name, size=size, rng=rng)
            (home / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
        return home

    return write


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
