"""Turn pictures into the pixels that the classifier trains on and is measured on."""

import random
from typing import Any, get_args

import albumentations as A
import cv2
import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from mobilevision.classification.types import CROP_SHARE, EvalCrop

RAND_AUGMENT_BINS = 31
"""The scale that RandAugment's magnitude is read on, as in its paper."""

ERASED = 128
"""The grey that erased pixels take: the middle of the scale, 0 to the network."""


class TrainTransform:
    """Cut a random rectangle, resize it to a square, mirror every other one, and change the pixels if asked to.

    Args:
        input_size: Side of the result, in pixels.
        min_crop_area: The smallest share of the picture that is cut out.
        rand_augment: Magnitude of RandAugment's two operations, from 0, which is none at all, to 30; 9 is usual.
        brightness: The largest relative change of the brightness, at most 1; 0 leaves it.
        contrast: Likewise.
        saturation: Likewise.
        random_erase: The share of the pictures that a rectangle is made grey in.

    Raises:
        ValueError: An argument outside what is said above.
    """

    def __init__(
        self,
        input_size: int,
        *,
        min_crop_area: float = 0.08,
        rand_augment: int = 0,
        brightness: float = 0.0,
        contrast: float = 0.0,
        saturation: float = 0.0,
        random_erase: float = 0.0,
    ) -> None:
        if not 0 <= rand_augment < RAND_AUGMENT_BINS:
            raise ValueError(f"rand_augment must be from 0 to {RAND_AUGMENT_BINS - 1}, got {rand_augment}")
        _check_share("min_crop_area", min_crop_area)
        _check_share("random_erase", random_erase)
        colors = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
        for name, change in colors.items():
            _check_share(name, change)
        self.cut = A.Compose(
            [
                _Cut((input_size, input_size), scale=(min_crop_area, 1.0)),
                A.HorizontalFlip(p=0.5),
            ]
        )
        bilinear = v2.InterpolationMode.BILINEAR
        self.rand_augment = (
            v2.RandAugment(magnitude=rand_augment, num_magnitude_bins=RAND_AUGMENT_BINS, interpolation=bilinear)
            if rand_augment
            else None
        )
        ranges = {name: (1.0 - change, 1.0 + change) for name, change in colors.items()}
        self.change = A.Compose(
            [
                *([A.ColorJitter(**ranges, hue=(0.0, 0.0), p=1.0)] if any(colors.values()) else []),
                *([A.Erasing(fill=ERASED, p=random_erase)] if random_erase else []),
            ]
        )

    def __call__(self, image: UInt8[np.ndarray, "H W 3"], seed: int) -> UInt8[Tensor, "3 S S"]:
        """Transform ``image`` with the randomness of ``seed``, and no other."""
        # One pair of generators for the whole chain: set_random_seed would let every step draw the same numbers.
        generators = np.random.default_rng(seed), random.Random(seed)  # noqa: S311
        self.cut.set_random_state(*generators)
        image = self.cut(image=image)["image"]
        if self.rand_augment is not None:
            image = _rand_augment(self.rand_augment, image, seed)
        if self.change.transforms:
            self.change.set_random_state(*generators)
            image = self.change(image=image)["image"]
        return to_tensor(image)


class _Cut(A.RandomResizedCrop):
    def apply(self, img: UInt8[np.ndarray, "H W 3"], crop_coords: tuple[int, int, int, int], **_: Any) -> Any:
        left, top, right, bottom = crop_coords
        cut, size = img[top:bottom, left:right], self.size[::-1]
        # As long as it shrinks by less than 2 a bilinear filter still reads every pixel, in a third of the time.
        if all(length < 2 * side for length, side in zip(cut.shape, size[::-1], strict=False)):
            return cv2.resize(cut, size, interpolation=cv2.INTER_LINEAR)
        return resize(cut, size)


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


def _rand_augment(policy: v2.Transform, image: UInt8[np.ndarray, "H W 3"], seed: int) -> UInt8[np.ndarray, "H W 3"]:
    # torchvision draws from torch's own generator, which belongs to the training step in a run without workers.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return np.array(policy(Image.fromarray(image)))


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be from 0 to 1, got {value}")
