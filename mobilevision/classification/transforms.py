"""Turn pictures into the pixels that the classifier trains on and is measured on."""

import random
from typing import get_args

import albumentations as A
import cv2
import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from mobilevision.classification.types import CROP_SHARE, EvalCrop


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
    """Cut the middle out of a picture at the size of the network's input.

    Args:
        input_size: Side of the result, in pixels.
        crop: ``short_side`` resizes the short side to ``input_size / share`` and cuts a square out of the centre;
            ``central`` cuts ``share`` of each side and resizes that to a square.
        share: The crop's share, above 0 and at most 1.

    Raises:
        ValueError: An argument outside what is said above.
    """

    def __init__(self, input_size: int, *, crop: EvalCrop = "short_side", share: float = CROP_SHARE) -> None:
        if crop not in get_args(EvalCrop):
            raise ValueError(f"crop must be one of {', '.join(get_args(EvalCrop))}, got {crop!r}")
        if not 0 < share <= 1:
            raise ValueError(f"share must be above 0 and at most 1, got {share}")
        self.input_size = input_size
        self.crop: EvalCrop = crop
        self.share = share

    def __call__(self, image: UInt8[np.ndarray, "H W 3"], seed: int = 0) -> UInt8[Tensor, "3 S S"]:
        """Transform ``image``; nothing here is random, so ``seed`` is not used."""
        if self.crop == "central":
            return to_tensor(resize(central_part(image, self.share), (self.input_size, self.input_size)))
        return to_tensor(center_crop(resize_short_side(image, round(self.input_size / self.share)), self.input_size))


def resize_short_side(image: UInt8[np.ndarray, "H W 3"], side: int) -> UInt8[np.ndarray, "h w 3"]:
    """Resize so that the short side is ``side``; the long one keeps the aspect, rounded down as torchvision does."""
    height, width = image.shape[:2]
    return resize(image, (side, int(side * height / width)) if width <= height else (int(side * width / height), side))


def resize(image: UInt8[np.ndarray, "H W 3"], size: tuple[int, int]) -> UInt8[np.ndarray, "h w 3"]:
    """Resize to (width, height) without aliasing."""
    # OpenCV's bilinear filter reads four pixels however far apart they lie; the mean over the area reads them all.
    shrinks = size[0] * size[1] < image.shape[0] * image.shape[1]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def center_crop(image: UInt8[np.ndarray, "H W 3"], side: int) -> UInt8[np.ndarray, "S S 3"]:
    """Cut a square of ``side`` out of the middle of an image that is at least as large."""
    top, left = ((length - side) // 2 for length in image.shape[:2])
    return image[top : top + side, left : left + side]


def central_part(image: UInt8[np.ndarray, "H W 3"], share: float) -> UInt8[np.ndarray, "h w 3"]:
    """Cut the central ``share`` of each side, one pixel at least."""
    margins = [int(length * (1 - share) / 2) for length in image.shape[:2]]
    return image[margins[0] : image.shape[0] - margins[0], margins[1] : image.shape[1] - margins[1]]


def to_tensor(image: UInt8[np.ndarray, "H W 3"]) -> UInt8[Tensor, "3 H W"]:
    """Put the channels first."""
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
