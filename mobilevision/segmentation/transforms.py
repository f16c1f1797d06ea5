"""The segmenter's training augmentation."""

import random

import albumentations as A
import cv2
import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from mobilevision.images import to_tensor
from mobilevision.segmentation.preprocess import PAD_PIXEL, scale_down
from mobilevision.segmentation.types import IGNORE_INDEX

SCALE_STEP = 0.25


class SegmentationAugment:
    """Random scale, padding, random square crop, mirrored half of the time.

    An image larger than the square is fitted into it first, so that objects are trained on at the size at which they
    are evaluated.

    Args:
        input_size: Side of the result, in pixels.
        min_scale: The smallest factor.
        max_scale: The largest factor; those in between are a quarter apart.

    Raises:
        ValueError: ``min_scale`` is not above 0, or ``max_scale`` is smaller.

    Reference: the recipe of TensorFlow's DeepLab.
    """

    def __init__(self, input_size: int, *, min_scale: float = 0.5, max_scale: float = 2.0) -> None:
        if not 0 < min_scale <= max_scale:
            raise ValueError(f"min_scale must be above 0 and at most max_scale, got {min_scale} and {max_scale}")
        self.input_size = input_size
        scales = np.arange(min_scale, max_scale + 1e-6, SCALE_STEP).tolist()
        self.augment = A.Compose(
            [
                # What is too narrow would be scaled to nothing.
                _pad(int(1 / min_scale) + 1),
                A.OneOf([_scale(scale) for scale in scales], p=1),
                _pad(input_size),
                A.RandomCrop(input_size, input_size),
                A.HorizontalFlip(p=0.5),
            ]
        )

    def __call__(
        self, image: UInt8[np.ndarray, "H W 3"], mask: UInt8[np.ndarray, "H W"], seed: int
    ) -> tuple[UInt8[Tensor, "3 S S"], UInt8[Tensor, "S S"]]:
        """Augment both alike with the randomness of ``seed``, and no other."""
        # One pair of generators for the whole chain: set_random_seed would let every step draw the same numbers.
        self.augment.set_random_state(np.random.default_rng(seed), random.Random(seed))  # noqa: S311
        augmented = self.augment(
            image=scale_down(image, self.input_size, cv2.INTER_AREA),
            mask=scale_down(mask, self.input_size, cv2.INTER_NEAREST_EXACT),
        )
        return to_tensor(augmented["image"]), torch.from_numpy(augmented["mask"])


def _pad(side: int) -> A.PadIfNeeded:
    return A.PadIfNeeded(
        side, side, position="top_left", border_mode=cv2.BORDER_CONSTANT, fill=PAD_PIXEL, fill_mask=IGNORE_INDEX
    )


def _scale(factor: float) -> A.RandomScale:
    return A.RandomScale((factor - 1, factor - 1), mask_interpolation=cv2.INTER_NEAREST_EXACT, p=1)
