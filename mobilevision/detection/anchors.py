"""SSD's anchors: the boxes at every place of every map that the network's offsets are relative to.

Reference: Liu et al., "SSD: Single Shot MultiBox Detector", ECCV 2016, section 2.2, with the sizes and the order of the
TensorFlow Object Detection API.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

MIN_SCALE = 0.2
MAX_SCALE = 0.95
ASPECT_RATIOS = (1.0, 2.0, 0.5, 3.0, 0.3333)
"""Width to height; the last is the literal that the released weights were trained with."""

FIRST_MAP = ((0.1, 1.0), (0.2, 2.0), (0.2, 0.5))
"""Scale and aspect ratio of the anchors on the finest map, which has fewer of them."""


def anchor_shapes(num_maps: int) -> list[list[tuple[float, float]]]:
    """Return the (scale, aspect ratio) of each map's anchors, in their order.

    A scale is the side of the square of the same area, as a fraction of the image's side. Every map but the first also
    has a square of the geometric mean of its own scale and the next map's.

    >>> [len(shapes) for shapes in anchor_shapes(6)]
    [3, 6, 6, 6, 6, 6]
    """
    step = (MAX_SCALE - MIN_SCALE) / max(num_maps - 1, 1)
    scales = [MIN_SCALE + step * index for index in range(num_maps)] + [1.0]
    shapes = [
        [(scale, ratio) for ratio in ASPECT_RATIOS] + [(math.sqrt(scale * following), 1.0)]
        for scale, following in pairwise(scales)
    ]
    return [list(FIRST_MAP), *shapes[1:]]


def make_anchors(map_sizes: Sequence[tuple[int, int]], input_size: int) -> Float[Tensor, "A 4"]:
    """Build the anchors of every map, map by map, row by row, cell by cell.

    Args:
        map_sizes: Height and width of each map, finest first.
        input_size: Side of the network's input, in pixels.

    Returns:
        cxcywh in pixels of the input. They reach beyond its border where their cell is close to it.

    >>> make_anchors([(1, 1)], 100)[0]
    tensor([50., 50., 10., 10.])
    """
    anchors = []
    for (height, width), shapes in zip(map_sizes, anchor_shapes(len(map_sizes)), strict=True):
        rows = (torch.arange(height, dtype=torch.float64) + 0.5) / height
        columns = (torch.arange(width, dtype=torch.float64) + 0.5) / width
        center_y, center_x = torch.meshgrid(rows, columns, indexing="ij")
        centers = torch.stack([center_x, center_y], dim=-1).reshape(-1, 1, 2)
        sides = torch.tensor([(scale * ratio**0.5, scale / ratio**0.5) for scale, ratio in shapes], dtype=torch.float64)
        grid = torch.cat([centers.expand(-1, len(shapes), 2), sides.expand(len(centers), -1, 2)], dim=-1)
        anchors.append(grid.reshape(-1, 4))
    return (torch.cat(anchors) * input_size).float()
