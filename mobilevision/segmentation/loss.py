"""The segmenter's loss: cross-entropy over the pixels that count."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor
from torch.nn import functional as F

from mobilevision.segmentation.enlarged_loss import EnlargedCrossEntropy
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
