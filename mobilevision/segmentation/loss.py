"""The segmenter's loss: cross-entropy over the pixels that count."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int64, Shaped, UInt8
from torch import Tensor
from torch.nn import functional as F

from mobilevision.segmentation.enlarged_loss import BAND_ELEMENTS, EnlargedCrossEntropy
from mobilevision.segmentation.geometry import upsample_logits
from mobilevision.segmentation.types import IGNORE_INDEX


class SegmentationLoss(NamedTuple):
    """The cross-entropy, summed over each image's pixels."""

    sums: Float[Tensor, " B"]
    num_pixels: Shaped[Tensor, " B"]
    """Those that are not ``IGNORE_INDEX``, or what they weigh together."""

    @property
    def total(self) -> Float[Tensor, ""]:
        """The scalar to train on: the mean over all kept pixels of the batch, 0 where there are none."""
        return self.sums.sum() / self.num_pixels.sum().clamp(min=1)


class Judgement(NamedTuple):
    """What an image's logits say, and how wrong they are."""

    predicted: Int64[Tensor, "H W"]
    """Every pixel's best class, the first of equals."""
    loss: Float[Tensor, ""]
    """The cross-entropy, summed over the pixels that count."""
    num_pixels: Int64[Tensor, ""]
    """Those that are not ``IGNORE_INDEX``."""


def judge_pixels(logits: Float[Tensor, "C H W"], mask: UInt8[Tensor, "H W"]) -> Judgement:
    """Pick an image's classes and compare its logits with its mask, in one walk over them.

    The figures are those of :func:`segmentation_loss` and ``pick_classes``. On a CPU a few rows at a time stay in the
    processor's cache.
    """
    num_classes, height, width = logits.shape
    predicted, loss = torch.empty((height, width), dtype=torch.int64, device=logits.device), logits.new_zeros(())
    step = max(1, BAND_ELEMENTS // (num_classes * width)) if logits.device.type == "cpu" else height
    for top in range(0, height, step):
        rows = slice(top, top + step)
        band, counted = logits[:, rows], mask[rows] != IGNORE_INDEX
        best = band.max(dim=0)
        predicted[rows] = best.indices
        true = band.gather(0, (mask[rows].long() * counted)[None])[0]
        total = (band - best.values).exp_().sum(dim=0).log_()
        loss += total.add_(best.values).sub_(true).mul_(counted).sum()
    return Judgement(predicted, loss, (mask != IGNORE_INDEX).sum())


def segmentation_loss(
    logits: Float[Tensor, "B C h w"], masks: UInt8[Tensor, "B H W"], class_weights: Float[Tensor, " C"] | None = None
) -> SegmentationLoss:
    """Compare logits with masks at the size of the masks.

    Args:
        logits: At any size, such as the output stride's; they are interpolated in float32, corners on corners.
        masks: Classes, or ``IGNORE_INDEX``.
        class_weights: What a pixel of each class weighs; 1 by default.

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
