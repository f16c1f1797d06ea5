"""Normalization of the pixels, which belongs to the weights and travels with them."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor, nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
SYMMETRIC_MEAN = (0.5, 0.5, 0.5)
"""With ``SYMMETRIC_STD``: pixels in [-1, 1], as the TensorFlow weights want them."""
SYMMETRIC_STD = (0.5, 0.5, 0.5)


TOLERANCE = 0.01
"""How far interpolation may lead floats beyond 0 and 1."""


class Normalization(nn.Module):
    """Normalization of RGB pixels as a network was trained on them: ``(pixel - mean) / std``.

    Args:
        mean: One value for red, green and blue, in [0, 1].
        std: One value for red, green and blue, above 0.

    Raises:
        ValueError: Not three values each, or a ``std`` that is not above 0.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float] = SYMMETRIC_MEAN, std: Sequence[float] = SYMMETRIC_STD) -> None:
        super().__init__()
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise ValueError(f"mean and std must be three values each, std above 0, got {mean} and {std}")
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32))

    def forward(self, images: UInt8[Tensor, "B 3 H W"] | Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 H W"]:
        """Normalize ``images``: uint8 in [0, 255], or floats in [0, 1].

        Raises:
            ValueError: They are other integers.
        """
        if images.dtype != torch.uint8 and not images.dtype.is_floating_point:
            raise ValueError(f"images must be uint8 in 0 to 255, or floats in 0 to 1, got {images.dtype}")
        unit = 255.0 if images.dtype == torch.uint8 else 1.0
        # One multiplication and one addition, with the division by 255 folded in: this runs on every pixel.
        scale = (1.0 / (unit * self.std)).view(3, 1, 1)
        shift = (-self.mean / self.std).view(3, 1, 1)
        pixels = images.to(scale.dtype) if images.dtype == torch.uint8 else images
        return pixels.contiguous(memory_format=torch.channels_last) * scale + shift


def check_range(images: Shaped[Tensor, "..."]) -> None:
    """Check that floats are pixels in [0, 1].

    Raises:
        ValueError: They are not.
    """
    recorded = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    if recorded or not images.is_floating_point() or images.is_meta or not images.numel():
        return
    low, high = (float(value) for value in images.detach().aminmax())
    if low < -TOLERANCE or high > 1 + TOLERANCE:
        raise ValueError(
            f"images of floats must be in 0 to 1, got {low:g} to {high:g}: divide by 255 or give uint8; the mean is "
            "subtracted by the network"
        )
