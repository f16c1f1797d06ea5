"""Evaluation protocols: which pixels are measured, how they are prepared, and in words that go beside a figure."""

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from mobilevision.head import Preprocess
from mobilevision.images import to_tensor
from mobilevision.segmentation.geometry import fill_size
from mobilevision.segmentation.types import EvalProtocol

DESCRIPTIONS: Mapping[EvalProtocol, str] = {
    "original": "every pixel of the file, at its size; an image larger than the network's square is scaled into it",
    "pad": "every pixel of the file, at its size; the image is padded to the network's square, never scaled",
    "centre_crop": "the middle of the image, scaled until its short side fills the network's square",
}


class ProtocolTransform:
    """Evaluation transform of an image with its mask.

    Args:
        preprocess: The evaluation transform of the image.
        input_size: Side of the square, in pixels.
        protocol: ``original``: the image is fitted into the square, the mask stays as it is. ``pad``: the same, but no
            image may be scaled down. ``centre_crop``: both are scaled until their short side fills the square, and the
            middle is cropped.
    """

    def __init__(self, preprocess: Preprocess, input_size: int, protocol: EvalProtocol = "original") -> None:
        self.preprocess = preprocess
        self.input_size = input_size
        self.protocol: EvalProtocol = protocol

    def __call__(
        self, image: UInt8[np.ndarray, "H W 3"], mask: UInt8[np.ndarray, "H W"]
    ) -> tuple[UInt8[Tensor, "3 S S"], UInt8[Tensor, "h w"]]:
        """Transform both.

        Raises:
            ValueError: The image does not fit into the square and may not be scaled down.
        """
        side = self.input_size
        if self.protocol == "centre_crop":
            pixels = _crop_center(_fill(image, side, cv2.INTER_AREA, cv2.INTER_LINEAR), side)
            target = _crop_center(_fill(mask, side, cv2.INTER_NEAREST_EXACT, cv2.INTER_NEAREST_EXACT), side)
            return to_tensor(pixels), torch.from_numpy(target)
        height, width = mask.shape
        if self.protocol == "pad" and max(height, width) > side:
            raise ValueError(
                f"eval_protocol pad needs images that fit into {side}x{side}, got {width}x{height}: set "
                f"data.input_size to {max(height, width)} or more, or data.eval_protocol to original"
            )
        return self.preprocess(image), torch.from_numpy(mask)


def describe_protocol(
    protocol: EvalProtocol, *, input_size: int, output_stride: int, scales: Sequence[float], flip: bool
) -> dict[str, Any]:
    """Return how something was measured, as plain JSON values.

    >>> describe_protocol("pad", input_size=513, output_stride=8, scales=(0.5, 1.0), flip=True)["name"]
    'pad to 513, output stride 8, scales 0.5 1, flipped'
    """
    words = {
        "original": "original resolution",
        "pad": f"pad to {input_size}",
        "centre_crop": f"centre crop {input_size}",
    }
    passes = "single scale" if len(scales) == 1 else "scales " + " ".join(f"{scale:g}" for scale in scales)
    return {
        "name": f"{words[protocol]}, output stride {output_stride}, {passes}" + (", flipped" if flip else ""),
        "pixels": protocol,
        "description": DESCRIPTIONS[protocol],
        "input_size": input_size,
        "output_stride": output_stride,
        "scales": list(scales),
        "flip": flip,
    }


def _fill(pixels: UInt8[np.ndarray, "H W *C"], side: int, smaller: int, larger: int) -> UInt8[np.ndarray, "h w *C"]:
    """Scale until the short side is ``side``, with one interpolation to shrink and one to enlarge."""
    height, width = fill_size((pixels.shape[0], pixels.shape[1]), side)
    return cv2.resize(pixels, (width, height), interpolation=larger if height > pixels.shape[0] else smaller)


def _crop_center(pixels: UInt8[np.ndarray, "H W *C"], side: int) -> UInt8[np.ndarray, "S S *C"]:
    top, left = ((length - side) // 2 for length in pixels.shape[:2])
    return np.ascontiguousarray(pixels[top : top + side, left : left + side])
