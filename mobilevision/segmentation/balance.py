"""Class weights for the loss, so that small and rare objects are learned beside the background."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from mobilevision.segmentation.class_table import ClassTable
from mobilevision.segmentation.masks import read_mask
from mobilevision.segmentation.types import IGNORE_INDEX

NUM_THREADS = 8
MIN_SHARE = 1e-4
"""A class of fewer pixels than this share counts as if it had as many: a handful of pixels must not lead."""


def count_classes(masks: Sequence[Path], num_classes: int, table: ClassTable | None = None) -> Int64[Tensor, " C"]:
    """Count every class's pixels in the files of masks.

    Raises:
        ValueError: A mask does not decode or holds a value that is no class; the message names it.
    """
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        counts = pool.map(partial(_count, num_classes=num_classes, table=table), masks)
        total = sum(counts, start=np.zeros(IGNORE_INDEX + 1, np.int64))
    return torch.from_numpy(total[:num_classes])


def balance_classes(counts: Int64[Tensor, " C"], power: float) -> Float[Tensor, " C"]:
    """Compute weights that fall with a class's share of the pixels, and are 1 in the mean over the pixels.

    Args:
        counts: Pixels of each class.
        power: Of the inverse of the share. 0: all pixels weigh the same. 1: all classes do.

    Returns:
        1 for a class without pixels.

    >>> balance_classes(torch.tensor([90, 10, 0]), 1.0)
    tensor([0.5556, 5.0000, 1.0000])
    """
    shares = counts / counts.sum().clamp(min=1)
    weights = shares.clamp(min=MIN_SHARE) ** -power
    mean = (weights * shares).sum()
    return torch.where(counts > 0, weights / mean, torch.ones_like(weights))


def _count(path: Path, num_classes: int, table: ClassTable | None) -> Int64[np.ndarray, " 256"]:
    return np.bincount(read_mask(path, num_classes, table=table).ravel(), minlength=IGNORE_INDEX + 1)
