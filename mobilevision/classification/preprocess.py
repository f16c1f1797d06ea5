"""The classifier's evaluation transform: the middle of an image at the size of the network's input."""

from dataclasses import dataclass
from typing import get_args

import cv2
import numpy as np
from jaxtyping import UInt8
from torch import Tensor

from mobilevision.classification.types import CROP_SHARE, EvalCrop
from mobilevision.images import to_tensor


@dataclass(frozen=True)
class CropTransform:
    """Crop of the middle of an image at the size of the network's input.

    Args:
        input_size: Side of the result, in pixels.
        crop: ``short_side`` resizes the short side to ``input_size / share`` and crops a square in the center;
            ``central`` crops ``share`` of each side and resizes that to a square.
        share: The crop's share, above 0 and at most 1.

    Raises:
        ValueError: ``crop`` is unknown, or ``share`` is not above 0 and at most 1.
    """

    input_size: int
    crop: EvalCrop = "short_side"
    share: float = CROP_SHARE

    def __post_init__(self) -> None:
        if self.crop not in get_args(EvalCrop):
            raise ValueError(f"crop must be one of {', '.join(get_args(EvalCrop))}, got {self.crop!r}")
        if not 0 < self.share <= 1:
            raise ValueError(f"share must be above 0 and at most 1, got {self.share}")

    def __call__(self, image: UInt8[np.ndarray, "H W 3"]) -> UInt8[Tensor, "3 S S"]:
        """Return the crop of an image of any size."""
        if self.crop == "central":
            return to_tensor(resize(central_part(image, self.share), (self.input_size, self.input_size)))
        return to_tensor(center_crop(resize_short_side(image, round(self.input_size / self.share)), self.input_size))


def resize(image: UInt8[np.ndarray, "H W 3"], size: tuple[int, int]) -> UInt8[np.ndarray, "h w 3"]:
    """Resize an image to (width, height) without aliasing."""
    # OpenCV's bilinear filter reads four pixels however far apart they lie; the mean over the area reads them all.
    shrinks = size[0] * size[1] < image.shape[0] * image.shape[1]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def resize_short_side(image: UInt8[np.ndarray, "H W 3"], side: int) -> UInt8[np.ndarray, "h w 3"]:
    """Resize an image so that its short side is ``side``; the long one is rounded down, as torchvision does."""
    height, width = image.shape[:2]
    return resize(image, (side, int(side * height / width)) if width <= height else (int(side * width / height), side))


def center_crop(image: UInt8[np.ndarray, "H W 3"], side: int) -> UInt8[np.ndarray, "S S 3"]:
    """Return the square of ``side`` in the center of an image that is at least as large."""
    top, left = ((length - side) // 2 for length in image.shape[:2])
    return image[top : top + side, left : left + side]


def central_part(image: UInt8[np.ndarray, "H W 3"], share: float) -> UInt8[np.ndarray, "h w 3"]:
    """Return the central ``share`` of each side, one pixel at least."""
    margins = [int(length * (1 - share) / 2) for length in image.shape[:2]]
    return image[margins[0] : image.shape[0] - margins[0], margins[1] : image.shape[1] - margins[1]]
