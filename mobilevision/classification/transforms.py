"""Turn pictures into the pixels that the classifier trains on and is measured on."""

import random

import albumentations as A
import cv2
import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

CENTER_SHARE = 0.875
"""The centre crop's share of the resized short side: 224 of 256."""


class TrainTransform:
    """Cut a random rectangle, resize it to a square, mirror every other one.

    Args:
        input_size: Side of the result, in pixels.
        min_crop_area: The smallest share of the picture that is cut out.
    """

    def __init__(self, input_size: int, *, min_crop_area: float = 0.08) -> None:
        self.augment = A.Compose(
            [
                A.RandomResizedCrop((input_size, input_size), scale=(min_crop_area, 1.0), area_for_downscale="image"),
                A.HorizontalFlip(p=0.5),
            ]
        )

    def __call__(self, image: UInt8[np.ndarray, "H W 3"], seed: int) -> UInt8[Tensor, "3 S S"]:
        """Transform ``image`` with the randomness of ``seed``, and no other."""
        # One pair of generators for the whole chain: set_random_seed would let every step draw the same numbers.
        self.augment.set_random_state(np.random.default_rng(seed), random.Random(seed))  # noqa: S311
        return to_tensor(self.augment(image=image)["image"])


class EvalTransform:
    """Resize the short side to ``input_size / 0.875``, then cut the centre.

    Args:
        input_size: Side of the result, in pixels.
    """

    def __init__(self, input_size: int) -> None:
        self.input_size = input_size

    def __call__(self, image: UInt8[np.ndarray, "H W 3"], seed: int = 0) -> UInt8[Tensor, "3 S S"]:
        """Transform ``image``; nothing here is random, so ``seed`` is not used."""
        return to_tensor(center_crop(resize_short_side(image, round(self.input_size / CENTER_SHARE)), self.input_size))


def resize_short_side(image: UInt8[np.ndarray, "H W 3"], side: int) -> UInt8[np.ndarray, "h w 3"]:
    """Resize so that the short side is ``side``; the long one keeps the aspect, rounded down as torchvision does."""
    height, width = image.shape[:2]
    scale = side / min(height, width)
    size = (side, int(side * height / width)) if width <= height else (int(side * width / height), side)
    # OpenCV's bilinear filter reads four pixels however far apart they lie and so aliases when it shrinks; the mean
    # over the area does not.
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def center_crop(image: UInt8[np.ndarray, "H W 3"], side: int) -> UInt8[np.ndarray, "S S 3"]:
    """Cut a square of ``side`` out of the middle of an image that is at least as large."""
    top, left = ((length - side) // 2 for length in image.shape[:2])
    return image[top : top + side, left : left + side]


def to_tensor(image: UInt8[np.ndarray, "H W 3"]) -> UInt8[Tensor, "3 H W"]:
    """Put the channels first."""
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
