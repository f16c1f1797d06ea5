"""The classifier's training augmentation."""

import random
from typing import Any

import albumentations as A
import cv2
import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from mobilevision.classification.preprocess import resize
from mobilevision.images import to_tensor

RAND_AUGMENT_BINS = 31
"""The scale of RandAugment's magnitude, as in its paper."""

ERASED = 128
"""The gray of erased pixels: the middle of the scale, 0 to the network."""


class ClassificationAugment:
    """Random crop at the size of the network's input, mirrored half of the time, with changed pixels if asked for.

    Args:
        input_size: Side of the result, in pixels.
        min_crop_area: The smallest share of the image that is cropped.
        rand_augment: Magnitude of RandAugment's two operations, from 0, which is none at all, to 30; 9 is usual.
        brightness: The largest relative change of the brightness, from 0 to 1.
        contrast: The largest relative change of the contrast, from 0 to 1.
        saturation: The largest relative change of the saturation, from 0 to 1.
        random_erase: The share of the images in which a rectangle is made gray.

    Raises:
        ValueError: An argument is out of its range.
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
        colors = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
        for name, value in ({"min_crop_area": min_crop_area, "random_erase": random_erase} | colors).items():
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must be from 0 to 1, got {value}")
        self.crop = A.Compose([_Crop((input_size, input_size), scale=(min_crop_area, 1.0)), A.HorizontalFlip(p=0.5)])
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
        """Augment ``image`` with the randomness of ``seed``, and no other."""
        # One pair of generators for the whole chain: set_random_seed would let every step draw the same numbers.
        generators = np.random.default_rng(seed), random.Random(seed)  # noqa: S311
        self.crop.set_random_state(*generators)
        image = self.crop(image=image)["image"]
        if self.rand_augment is not None:
            image = _rand_augment(self.rand_augment, image, seed)
        if self.change.transforms:
            self.change.set_random_state(*generators)
            image = self.change(image=image)["image"]
        return to_tensor(image)


class _Crop(A.RandomResizedCrop):
    def apply(self, img: UInt8[np.ndarray, "H W 3"], crop_coords: tuple[int, int, int, int], **_: Any) -> Any:
        left, top, right, bottom = crop_coords
        crop, size = img[top:bottom, left:right], self.size[::-1]
        # As long as it shrinks by less than 2 a bilinear filter still reads every pixel, in a third of the time.
        if all(length < 2 * side for length, side in zip(crop.shape, size[::-1], strict=False)):
            return cv2.resize(crop, size, interpolation=cv2.INTER_LINEAR)
        return resize(crop, size)


def _rand_augment(policy: v2.Transform, image: UInt8[np.ndarray, "H W 3"], seed: int) -> UInt8[np.ndarray, "H W 3"]:
    # torchvision draws from torch's own generator, which belongs to the training step in a run without workers.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return np.array(policy(Image.fromarray(image)))
