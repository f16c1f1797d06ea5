"""SSD's loss over matched anchors, with hard-negative mining."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from mobilevision.detection.boxes import encode_boxes
from mobilevision.detection.matcher import BACKGROUND, match_anchors
from mobilevision.detection.types import DetectionBatch, DetectorOutput, ScoreFunction


class MultiboxLoss(NamedTuple):
    """The two parts of the loss, each summed over an image's anchors."""

    localization: Float[Tensor, " B"]
    classification: Float[Tensor, " B"]
    num_positives: Int64[Tensor, " B"]
    """Anchors that are matched with a box."""


class DetectionCriterion(nn.Module):
    """SSD's multibox loss: localization and classification, each divided by the positives of the whole batch.

    Args:
        anchors: cxcywh, in pixels of the network's input.
        score_function: ``sigmoid`` or ``softmax``.
    """

    anchors: Tensor

    def __init__(self, anchors: Float[Tensor, "A 4"], *, score_function: ScoreFunction = "sigmoid") -> None:
        super().__init__()
        self.register_buffer("anchors", anchors, persistent=False)
        self.score_function: ScoreFunction = score_function

    def forward(self, outputs: DetectorOutput, batch: DetectionBatch) -> dict[str, Float[Tensor, ""]]:
        """Return the two parts; their sum is what is trained on."""
        losses = self.per_image(outputs, batch)
        num_positives = losses.num_positives.sum().clamp(min=1)
        return {
            "localization": losses.localization.sum() / num_positives,
            "classification": losses.classification.sum() / num_positives,
        }

    def per_image(self, outputs: DetectorOutput, batch: DetectionBatch) -> MultiboxLoss:
        """Return the sums of each image."""
        return multibox_loss(outputs, batch.boxes, batch.labels, self.anchors, score_function=self.score_function)


def multibox_loss(
    outputs: DetectorOutput,
    boxes: Float[Tensor, "B N 4"],
    labels: Int64[Tensor, "B N"],
    anchors: Float[Tensor, "A 4"],
    *,
    score_function: ScoreFunction = "sigmoid",
    negative_ratio: int = 3,
    min_negatives: int = 3,
) -> MultiboxLoss:
    """Compute the loss of each anchor against the box it is matched with.

    Localization: Huber's function of the offsets' errors, on positives. Classification: cross-entropy of the C + 1
    logits, on positives and on each image's hardest negatives, whose class is the background.

    Args:
        outputs: Offsets and logits of every anchor; the loss is float32 whatever their type.
        boxes: Padded boxes of each image, in pixels.
        labels: Their classes from 0, or ``PADDING``.
        anchors: cxcywh, in pixels.
        score_function: ``sigmoid`` (binary cross-entropies, summed over the logits) or ``softmax``.
        negative_ratio: How many negatives count, for each positive of the image.
        min_negatives: How many count at least; they are all there is in an image without objects.

    Reference: Liu et al., "SSD: Single Shot MultiBox Detector", ECCV 2016, section 2.2; sigmoid, minimum and
    normalizer as in the TensorFlow Object Detection API.
    """
    matched = match_anchors(boxes, labels, anchors)
    positive = matched != BACKGROUND
    num_positives = positive.sum(dim=1)
    num_negatives = (negative_ratio * num_positives).clamp(min=min_negatives)
    counted = positive | _hardest_negatives(outputs.logits.detach(), positive, num_negatives, score_function)

    images, places = positive.nonzero(as_tuple=True)
    found = matched[images, places]
    expected = encode_boxes(boxes[images, found], anchors[places])
    errors = F.smooth_l1_loss(_rows(outputs.offsets, images, places), expected, reduction="none").sum(dim=1)
    localization = errors.new_zeros(len(boxes)).index_add(0, images, errors)

    classes = torch.zeros_like(matched)
    classes[images, places] = labels[images, found] + 1
    images, places = counted.nonzero(as_tuple=True)
    errors = _cross_entropy(_rows(outputs.logits, images, places), classes[images, places], score_function)
    classification = errors.new_zeros(len(boxes)).index_add(0, images, errors)
    return MultiboxLoss(localization, classification, num_positives)


def _rows(
    values: Float[Tensor, "B A D"], images: Int64[Tensor, " M"], places: Int64[Tensor, " M"]
) -> Float[Tensor, "M D"]:
    # index_select's gradient costs half of indexing's, which allows for rows that are taken twice.
    return values.flatten(0, 1).index_select(0, images * values.shape[1] + places).float()


def _hardest_negatives(
    logits: Float[Tensor, "B A C+1"],
    positive: Bool[Tensor, "B A"],
    num_negatives: Int64[Tensor, " B"],
    score_function: ScoreFunction,
) -> Bool[Tensor, "B A"]:
    """Return the ``num_negatives`` anchors of each image with the largest background loss, among those not positive."""
    hardness = _background_loss(logits.float(), score_function).masked_fill_(positive, -1.0)
    num_negatives = torch.minimum(num_negatives, (~positive).sum(dim=1))
    order = hardness.topk(int(num_negatives.max()), dim=1).indices
    ranks = torch.arange(order.shape[1], device=order.device)
    return torch.zeros_like(positive).scatter_(1, order, ranks < num_negatives.unsqueeze(1))


def _background_loss(logits: Float[Tensor, "B A C+1"], score_function: ScoreFunction) -> Float[Tensor, "B A"]:
    """Compute every anchor's loss if it is background, which is all that mining needs, without a gradient."""
    if score_function == "softmax":
        return -logits.log_softmax(dim=-1)[..., 0]
    return F.softplus(logits).sum(dim=-1) - logits[..., 0]


def _cross_entropy(
    logits: Float[Tensor, "M C+1"], classes: Int64[Tensor, " M"], score_function: ScoreFunction
) -> Float[Tensor, " M"]:
    if score_function == "softmax":
        return F.cross_entropy(logits, classes, reduction="none")
    one_hot = F.one_hot(classes, logits.shape[1]).to(logits.dtype)
    return F.binary_cross_entropy_with_logits(logits, one_hot, reduction="none").sum(dim=1)
