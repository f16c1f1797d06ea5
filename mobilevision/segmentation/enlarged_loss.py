"""The cross-entropy of enlarged logits on a CPU, without ever holding them enlarged.

Enlarged logits are hundreds of times as large as the map they come from, and each of the half dozen passes over them in
loss and gradient goes through memory. Here a few rows at a time are enlarged, compared and, with their gradient, shrunk
again, all within the processor's cache.
"""

from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.autograd.function import once_differentiable

from mobilevision.segmentation.types import IGNORE_INDEX

BAND_ELEMENTS = 400_000
"""Enlarged logits of a few rows that fit into a core's cache."""


class EnlargedCrossEntropy(torch.autograd.Function):
    """Sum each image's cross-entropy over the pixels that count, at the size of the masks.

    A pixel weighs what its class does; classes without weights all weigh 1.
    """

    @staticmethod
    def forward(
        ctx: Any,
        logits: Float[Tensor, "B C h w"],
        masks: UInt8[Tensor, "B H W"],
        class_weights: Float[Tensor, " C"] | None = None,
    ) -> Float[Tensor, " B"]:
        """Give the sums, and keep their gradient, which falls out on the way."""
        (num, classes, rows, columns), (height, width) = logits.shape, masks.shape[1:]
        down, across = (interpolation(*sides).to(logits) for sides in ((rows, height), (columns, width)))
        sums, gradient = logits.new_zeros(num), torch.zeros_like(logits, memory_format=torch.contiguous_format)
        step = max(1, BAND_ELEMENTS // (classes * width))
        for index in range(num):
            # [C, h, W]: the rows of the map at the width of the mask.
            wide = logits[index].contiguous() @ across.T
            for top in range(0, height, step):
                band = down[top : top + step]
                enlarged = torch.matmul(band, wide).view(classes, -1)
                loss = _compare(enlarged, masks[index, top : top + step].reshape(-1), class_weights)
                sums[index] += loss
                gradient[index] += band.T @ (enlarged.view(classes, -1, width) @ across)
        ctx.save_for_backward(gradient)
        return sums

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Float[Tensor, " B"]) -> tuple[Float[Tensor, "B C h w"], None, None]:
        """Weigh the gradient of each image."""
        (gradient,) = ctx.saved_tensors
        return gradient * grad[:, None, None, None], None, None


def interpolation(short: int, long: int) -> Float[Tensor, "L S"]:
    """Give the matrix that enlarges a line linearly, corners on corners.

    >>> interpolation(2, 3)
    tensor([[1.0000, 0.0000],
            [0.5000, 0.5000],
            [0.0000, 1.0000]])
    """
    places = torch.arange(long) * ((short - 1) / max(1, long - 1))
    return (1 - (places[:, None] - torch.arange(short)).abs()).clamp_(min=0)


def _compare(
    logits: Float[Tensor, "C P"], labels: UInt8[Tensor, " P"], class_weights: Float[Tensor, " C"] | None
) -> Float[Tensor, ""]:
    """Give the summed loss, and leave its gradient in ``logits``."""
    counted = labels != IGNORE_INDEX
    places = labels.long().mul_(counted)[None]
    weights = counted if class_weights is None else class_weights[places[0]].mul_(counted)
    logits -= logits.amax(dim=0)
    true = logits.gather(0, places)[0]
    total = logits.exp_().sum(dim=0)
    loss = (total.log() - true).mul_(weights).sum()
    logits *= weights / total
    logits.scatter_add_(0, places, -weights.to(logits)[None])
    return loss
