"""One row per image, whatever the number of processes."""

import torch
from torch import Tensor


def distinct_rows(indices: Tensor, *columns: Tensor) -> tuple[Tensor, ...]:
    """Sort rows by their image's index and keep the first of those that repeat.

    Args:
        indices: ``[N]`` int64, the image of each row.
        columns: ``[N, ...]`` each.

    Returns:
        ``indices`` and ``columns`` with one row per image, sorted by index.

    >>> distinct_rows(torch.tensor([2, 0, 2]), torch.tensor([5.0, 1.0, 5.0]))
    (tensor([0, 2]), tensor([1., 5.]))
    """
    order = torch.argsort(indices, stable=True)
    ordered = indices[order]
    first = torch.ones_like(ordered, dtype=torch.bool)
    first[1:] = ordered[1:] != ordered[:-1]
    kept = order[first]
    return indices[kept], *(column[kept] for column in columns)
