"""SSD's assignment of anchors to boxes."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from mobilevision.detection.boxes import cxcywh_to_xyxy, pairwise_iou
from mobilevision.detection.types import PADDING

BACKGROUND = -1
"""The match of an anchor without a box."""


def match_anchors(
    boxes: Float[Tensor, "B N 4"],
    labels: Int64[Tensor, "B N"],
    anchors: Float[Tensor, "A 4"],
    *,
    iou_threshold: float = 0.5,
) -> Int64[Tensor, "B A"]:
    """Match each anchor with the box it overlaps most, by ``iou_threshold`` or more, and each box with its best anchor.

    The second rule goes before the first, so that no box is left out; of two boxes with the same best anchor the first
    keeps it. There is no band between positive and background.

    Args:
        boxes: Padded boxes of each image, in pixels.
        labels: Their classes; those that are ``PADDING`` match nothing.
        anchors: cxcywh, in pixels.
        iou_threshold: The least intersection over union of a match.

    Returns:
        For every anchor the index of its box among the N of its image, or ``BACKGROUND``.

    Reference: TensorFlow Object Detection API, ``argmax_matcher.py`` with ``force_match_for_each_row``.
    """
    batch, num_boxes = labels.shape
    num_anchors = len(anchors)
    if num_boxes == 0:
        return labels.new_full((batch, num_anchors), BACKGROUND)
    overlaps = pairwise_iou(boxes, cxcywh_to_xyxy(anchors))
    overlaps.masked_fill_((labels == PADDING).unsqueeze(-1), -1.0)
    # The argmax is slow along this dimension: it is taken for the few anchors that have a box.
    images, places = (overlaps.amax(dim=1) >= iou_threshold).nonzero(as_tuple=True)
    matched = labels.new_full((batch, num_anchors), BACKGROUND)
    matched[images, places] = overlaps[images, :, places].argmax(dim=1)
    box_overlap, best_anchor = overlaps.max(dim=2)
    # A box without area overlaps no anchor: it goes where padding goes, into a column that is cut off.
    target = best_anchor.masked_fill(box_overlap <= 0, num_anchors)
    indices = torch.arange(num_boxes, device=labels.device).expand_as(target)
    forced = labels.new_full((batch, num_anchors + 1), num_boxes).scatter_reduce_(1, target, indices, "amin")
    forced = forced[:, :num_anchors]
    return torch.where(forced < num_boxes, forced, matched)
