"""Boxes: conversion, clipping, intersection over union, and encoding relative to anchors."""

import torch
from jaxtyping import Float
from torch import Tensor

CENTER_SCALE = 10.0
SIZE_SCALE = 5.0
"""Factors on the offsets of centers and sides, so that both have a spread of about one."""

MAX_OFFSET = 100.0
"""Offsets are decoded as if at most this large: ten anchors away, or e**20 times an anchor's side.

The target of an anchor that overlaps its box is a tenth of that, so no trained network comes near it; sides stay below
1e12 pixels, whose areas float32 still holds.
"""

MIN_ENCODED_SIDE = 1e-8
"""Sides are encoded as if at least this long, so that a box without area has finite offsets."""


def cxcywh_to_xyxy(boxes_cxcywh: Float[Tensor, "... 4"]) -> Float[Tensor, "... 4"]:
    """Convert centers and sides to corners."""
    centers, half_sides = boxes_cxcywh[..., :2], boxes_cxcywh[..., 2:] / 2
    return torch.cat([centers - half_sides, centers + half_sides], dim=-1)


def xyxy_to_cxcywh(boxes: Float[Tensor, "... 4"]) -> Float[Tensor, "... 4"]:
    """Convert corners to centers and sides."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return torch.cat([(low + high) / 2, high - low], dim=-1)


def clip_boxes(boxes: Float[Tensor, "... 4"], height: float, width: float) -> Float[Tensor, "... 4"]:
    """Clip boxes to an image of this size; a box wholly outside ends without area."""
    return boxes.clamp(min=0).minimum(boxes.new_tensor([width, height, width, height]))


def pairwise_iou(boxes: Float[Tensor, "... N 4"], others: Float[Tensor, "... M 4"]) -> Float[Tensor, "... N M"]:
    """Compute the intersection over union of every box with every other; 0 where neither has an area.

    Leading dimensions are broadcast.

    >>> pairwise_iou(torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[0.0, 0, 2, 1], [5, 5, 6, 6]]))
    tensor([[0.5000, 0.0000]])
    """
    # Each coordinate by itself and contiguous: vector units want neighbors, and this is matching's longest step.
    left, top, right, bottom = boxes.movedim(-1, 0).contiguous().unsqueeze(-1)
    other_left, other_top, other_right, other_bottom = others.movedim(-1, 0).contiguous().unsqueeze(-2)
    # In place wherever it can be: at this size every new tensor costs as much as its arithmetic.
    intersections = torch.minimum(right, other_right)
    buffer = torch.maximum(left, other_left)
    intersections.sub_(buffer).clamp_(min=0)
    heights = torch.minimum(bottom, other_bottom)
    torch.maximum(top, other_top, out=buffer)
    intersections.mul_(heights.sub_(buffer).clamp_(min=0))
    # At least a tiny area, so that nothing is divided by 0.
    areas = ((right - left) * (bottom - top)).clamp(min=torch.finfo(boxes.dtype).tiny)
    other_areas = (other_right - other_left) * (other_bottom - other_top)
    torch.add(areas, other_areas, out=buffer)
    return intersections.div_(buffer.sub_(intersections))


def encode_boxes(boxes: Float[Tensor, "... 4"], anchors: Float[Tensor, "... 4"]) -> Float[Tensor, "... 4"]:
    """Encode boxes relative to anchors: ``(10 dx / wa, 10 dy / ha, 5 ln(w / wa), 5 ln(h / ha))``.

    Args:
        boxes: In pixels, one for each anchor.
        anchors: cxcywh, in pixels.

    Returns:
        The offsets, which :func:`decode_boxes` turns back.

    >>> encode_boxes(torch.tensor([8.0, 0, 16, 8]), torch.tensor([8.0, 8, 8, 8]))
    tensor([ 5., -5.,  0.,  0.])
    """
    boxes_cxcywh = xyxy_to_cxcywh(boxes)
    anchor_sides = anchors[..., 2:]
    centers = (boxes_cxcywh[..., :2] - anchors[..., :2]) / anchor_sides * CENTER_SCALE
    sides = torch.log(boxes_cxcywh[..., 2:].clamp(min=MIN_ENCODED_SIDE) / anchor_sides) * SIZE_SCALE
    return torch.cat([centers, sides], dim=-1)


def decode_boxes(offsets: Float[Tensor, "... 4"], anchors: Float[Tensor, "... 4"]) -> Float[Tensor, "... 4"]:
    """Decode a network's offsets to boxes; finite for all finite offsets, see ``MAX_OFFSET``.

    Args:
        offsets: As :func:`encode_boxes` returns them, of any floating type.
        anchors: cxcywh, in pixels.

    Returns:
        Boxes in pixels and in the anchors' floating type, not clipped to the image.
    """
    offsets = offsets.to(anchors.dtype).clamp(-MAX_OFFSET, MAX_OFFSET)
    anchor_sides = anchors[..., 2:]
    centers = anchors[..., :2] + offsets[..., :2] * (anchor_sides / CENTER_SCALE)
    sides = torch.exp(offsets[..., 2:] / SIZE_SCALE) * anchor_sides
    return cxcywh_to_xyxy(torch.cat([centers, sides], dim=-1))
