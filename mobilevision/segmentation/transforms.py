"""Turn pictures and masks into the pixels that the segmenter trains on and is measured on."""

import random

import albumentations as A
import cv2
import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from mobilevision.segmentation.geometry import fill_size, fit_size
from mobilevision.segmentation.types import IGNORE_INDEX, EvalProtocol, Fitted

SCALE_STEP = 0.25
PAD_PIXEL = 128
"""The mean pixel: next to 0 once normalised."""


class TrainTransform:
    """Scale by a random factor, pad, cut a random square, mirror every other one.

    A picture larger than the square is fitted into it first, so that things are trained on at the size at which they
    are evaluated.

    Args:
        input_size: Side of the result, in pixels.
        min_scale: The smallest factor.
        max_scale: The largest; those in between are a quarter apart.

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
        """Transform both alike with the randomness of ``seed``, and no other."""
        # One pair of generators for the whole chain: set_random_seed would let every step draw the same numbers.
        self.augment.set_random_state(np.random.default_rng(seed), random.Random(seed))  # noqa: S311
        augmented = self.augment(
            image=_shrink(image, self.input_size, cv2.INTER_AREA),
            mask=_shrink(mask, self.input_size, cv2.INTER_NEAREST_EXACT),
        )
        return to_tensor(augmented["image"]), torch.from_numpy(augmented["mask"])


class EvalTransform:
    """Fit a picture into a square, with the mean pixel below and to the right of it.

    Args:
        input_size: Side of the square, in pixels. Larger pictures shrink, smaller ones stay as they are.
    """

    def __init__(self, input_size: int) -> None:
        self.input_size = input_size

    def __call__(self, image: UInt8[np.ndarray, "H W 3"]) -> Fitted:
        """Fit one picture."""
        content = _shrink(image, self.input_size, cv2.INTER_AREA)
        height, width = content.shape[:2]
        square = np.full((self.input_size, self.input_size, 3), PAD_PIXEL, np.uint8)
        square[:height, :width] = content
        return Fitted(to_tensor(square), (height, width))


class PairTransform:
    """Make a picture and its mask ready to be measured.

    Args:
        input_size: Side of the network's square, in pixels.
        protocol: ``original``: the picture is fitted into the square, the mask stays as it is. ``pad``: likewise, but
            no picture may shrink. ``centre_crop``: both are scaled until their short side fills the square, and the
            middle is cut out.
    """

    def __init__(self, input_size: int, protocol: EvalProtocol = "original") -> None:
        self.input_size = input_size
        self.protocol: EvalProtocol = protocol
        self.fit = EvalTransform(input_size)

    def __call__(
        self, image: UInt8[np.ndarray, "H W 3"], mask: UInt8[np.ndarray, "H W"], seed: int
    ) -> tuple[UInt8[Tensor, "3 S S"], UInt8[Tensor, "h w"]]:
        """Transform both; nothing is drawn from ``seed``.

        Raises:
            ValueError: The picture does not fit into the square and may not shrink.
        """
        side = self.input_size
        if self.protocol == "centre_crop":
            picture = _crop_centre(_fill(image, side, cv2.INTER_AREA, cv2.INTER_LINEAR), side)
            target = _crop_centre(_fill(mask, side, cv2.INTER_NEAREST_EXACT, cv2.INTER_NEAREST_EXACT), side)
            return to_tensor(picture), torch.from_numpy(target)
        height, width = mask.shape
        if self.protocol == "pad" and max(height, width) > side:
            raise ValueError(
                f"eval_protocol pad needs pictures that fit into {side}x{side}, got {width}x{height}: set "
                f"data.input_size to {max(height, width)} or more, or data.eval_protocol to original"
            )
        return self.fit(image).image, torch.from_numpy(mask)


def to_tensor(image: UInt8[np.ndarray, "H W 3"]) -> UInt8[Tensor, "3 H W"]:
    """Put the channels first, as a view."""
    return torch.from_numpy(image).permute(2, 0, 1)


def _pad(side: int) -> A.PadIfNeeded:
    return A.PadIfNeeded(
        side, side, position="top_left", border_mode=cv2.BORDER_CONSTANT, fill=PAD_PIXEL, fill_mask=IGNORE_INDEX
    )


def _scale(factor: float) -> A.RandomScale:
    return A.RandomScale((factor - 1, factor - 1), mask_interpolation=cv2.INTER_NEAREST_EXACT, p=1)


def _shrink(pixels: UInt8[np.ndarray, "H W *C"], side: int, interpolation: int) -> UInt8[np.ndarray, "h w *C"]:
    size = pixels.shape[0], pixels.shape[1]
    height, width = fitted = fit_size(size, side)
    # Of OpenCV's filters for pictures only the mean over the area does not alias.
    return pixels if fitted == size else cv2.resize(pixels, (width, height), interpolation=interpolation)


def _fill(pixels: UInt8[np.ndarray, "H W *C"], side: int, smaller: int, larger: int) -> UInt8[np.ndarray, "h w *C"]:
    """Scale until the short side is ``side``, with one interpolation to shrink and one to enlarge."""
    height, width = fill_size((pixels.shape[0], pixels.shape[1]), side)
    return cv2.resize(pixels, (width, height), interpolation=larger if height > pixels.shape[0] else smaller)


def _crop_centre(pixels: UInt8[np.ndarray, "H W *C"], side: int) -> UInt8[np.ndarray, "S S *C"]:
    top, left = ((length - side) // 2 for length in pixels.shape[:2])
    return np.ascontiguousarray(pixels[top : top + side, left : left + side])
