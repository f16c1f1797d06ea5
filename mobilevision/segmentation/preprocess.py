"""The segmenter's evaluation transform: an image fitted into a square."""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import UInt8
from torch import Tensor

from mobilevision.images import to_tensor
from mobilevision.segmentation.geometry import fit_size

PAD_PIXEL = 128
"""The mean pixel: next to 0 once normalized."""


@dataclass(frozen=True)
class FitTransform:
    """Fit of an image into a square, with the mean pixel below and to the right of it.

    Args:
        input_size: Side of the square, in pixels. Larger images are scaled down, smaller ones keep their size.
    """

    input_size: int

    def __call__(self, image: UInt8[np.ndarray, "H W 3"]) -> UInt8[Tensor, "3 S S"]:
        """Return the square of an image of any size."""
        # Of OpenCV's filters for images only the mean over the area does not alias.
        content = scale_down(image, self.input_size, cv2.INTER_AREA)
        square = np.full((self.input_size, self.input_size, 3), PAD_PIXEL, np.uint8)
        square[: content.shape[0], : content.shape[1]] = content
        return to_tensor(square)


def scale_down(pixels: UInt8[np.ndarray, "H W *C"], side: int, interpolation: int) -> UInt8[np.ndarray, "h w *C"]:
    """Return an image or mask scaled so that it fits into a square, itself if it does already."""
    size = pixels.shape[0], pixels.shape[1]
    height, width = fitted = fit_size(size, side)
    return pixels if fitted == size else cv2.resize(pixels, (width, height), interpolation=interpolation)
