"""The evaluation transform of a detector."""

from typing import NamedTuple

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float32, Int64, UInt8
from torch import Tensor

from mobilevision.head import Preprocess
from mobilevision.images import Pixels, to_tensor


class StretchTransform:
    """Resize to a square, whatever the aspect, bilinearly.

    Args:
        input_size: Side of the result, in pixels.
    """

    def __init__(self, input_size: int) -> None:
        self.input_size = input_size

    def __call__(self, image: Pixels) -> UInt8[Tensor, "3 S S"]:
        """Return the network's pixels of an RGB image of any size."""
        side = self.input_size
        return to_tensor(cv2.resize(image, (side, side), interpolation=cv2.INTER_LINEAR))


class LabeledImage(NamedTuple):
    """An image, and its boxes in pixels of the image."""

    image: Pixels
    boxes: Float32[np.ndarray, "N 4"]
    labels: Int64[np.ndarray, " N"]


class TransformedImage(NamedTuple):
    """The network's pixels, and the boxes in these."""

    image: UInt8[Tensor, "3 S S"]
    boxes: Float[Tensor, "N 4"]
    labels: Int64[Tensor, " N"]


def preprocess_labeled(sample: LabeledImage, preprocess: Preprocess) -> TransformedImage:
    """Transform an image for evaluation and scale its boxes with it.

    Args:
        sample: The image.
        preprocess: Resizes it to a square, whatever the aspect.
    """
    height, width = sample.image.shape[:2]
    image = preprocess(sample.image)
    scale = image.shape[-1] / np.array([width, height, width, height], dtype=np.float32)
    return TransformedImage(image, torch.from_numpy(sample.boxes * scale), torch.from_numpy(sample.labels))
