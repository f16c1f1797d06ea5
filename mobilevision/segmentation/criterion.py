"""The segmenter's loss: cross-entropy over the pixels that count, at the size of the masks."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from mobilevision.backbone.convolution import Padding
from mobilevision.segmentation.geometry import pad_to_aligned_corners, upsample_logits
from mobilevision.segmentation.types import IGNORE_INDEX, SegmentationBatch

BAND_ELEMENTS = 400_000
"""Enlarged logits of a few rows that fit into a core's cache."""


class SegmentationLoss(NamedTuple):
    """The cross-entropy, summed over each image's pixels."""

    sums: Float[Tensor, " B"]
    num_pixels: Shaped[Tensor, " B"]
    """Pixels that are not ``IGNORE_INDEX``, or the sum of their weights."""


class SegmentationCriterion(nn.Module):
    """Cross-entropy of logits at the output stride with masks, at the size of the masks.

    Args:
        output_stride: Of the logits.
        padding: Of the network's convolutions, which shifts the cells of even sides.
    """

    def __init__(self, *, output_stride: int, padding: Padding) -> None:
        super().__init__()
        self.output_stride = output_stride
        self.padding = padding
        self.class_weights: Tensor | None = None
        """The weight of a pixel of each class; 1 where None."""

    def forward(self, outputs: Float[Tensor, "B C h w"], batch: SegmentationBatch) -> dict[str, Float[Tensor, ""]]:
        """Return the mean over all pixels of the batch that count, 0 where there are none, as ``loss``."""
        logits, masks = pad_to_aligned_corners(
            outputs, batch.masks, output_stride=self.output_stride, padding=self.padding, fill=IGNORE_INDEX
        )
        losses = segmentation_loss(logits, masks, self.class_weights)
        return {"loss": losses.sums.sum() / losses.num_pixels.sum().clamp(min=1)}


def segmentation_loss(
    logits: Float[Tensor, "B C h w"], masks: UInt8[Tensor, "B H W"], class_weights: Float[Tensor, " C"] | None = None
) -> SegmentationLoss:
    """Compute the cross-entropy of each image, summed over its pixels, at the size of the masks.

    Args:
        logits: At any size, such as the output stride's; they are interpolated in float32, corners on corners.
        masks: Classes, or ``IGNORE_INDEX``.
        class_weights: The weight of a pixel of each class; 1 where None.

    Reference: Chen et al., "Rethinking Atrous Convolution for Semantic Image Segmentation", section 4.1: the logits are
    enlarged rather than the masks made smaller, which would lose fine annotations.
    """
    height, width = masks.shape[-2:]
    counted = masks != IGNORE_INDEX
    if class_weights is None:
        num_pixels = counted.sum(dim=(1, 2))
    else:
        num_pixels = class_weights[masks.long() * counted].mul_(counted).sum(dim=(1, 2))
    if logits.device.type == "cpu" and logits.requires_grad and logits.shape[-2:] != masks.shape[-2:]:
        with torch.autocast("cpu", enabled=False):
            return SegmentationLoss(EnlargedCrossEntropy.apply(logits.float(), masks, class_weights), num_pixels)
    enlarged = upsample_logits(logits.float(), (height, width))
    losses = F.cross_entropy(enlarged, masks.long(), weight=class_weights, ignore_index=IGNORE_INDEX, reduction="none")
    return SegmentationLoss(losses.sum(dim=(1, 2)), num_pixels)


class EnlargedCrossEntropy(torch.autograd.Function):
    """Each image's cross-entropy on a CPU, without ever holding the logits enlarged.

    Enlarged logits are hundreds of times as large as the map they come from, and each of the half dozen passes over
    them in loss and gradient goes through memory. Here a few rows at a time are enlarged, compared and, with their
    gradient, shrunk again, all within the processor's cache.
    """

    @staticmethod
    def forward(
        ctx: Any,
        logits: Float[Tensor, "B C h w"],
        masks: UInt8[Tensor, "B H W"],
        class_weights: Float[Tensor, " C"] | None = None,
    ) -> Float[Tensor, " B"]:
        """Return the sums over the pixels that count, and keep their gradient, which comes with them."""
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
        """Return the gradient, scaled for each image."""
        (gradient,) = ctx.saved_tensors
        return gradient * grad[:, None, None, None], None, None


def interpolation(short: int, long: int) -> Float[Tensor, "L S"]:
    """Return the matrix that enlarges a line linearly, corners on corners.

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
    """Return the summed loss, and leave its gradient in ``logits``."""
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
