"""Top-1 and top-5, the same on any number of processes."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from mobilevision.training.rows import distinct_rows


def rank_labels(logits: Float[Tensor, "B C"], labels: Int64[Tensor, " B"]) -> Int64[Tensor, " B"]:
    """Count the classes that stand before the right one: 0 is a top-1 hit, below 5 a top-5 hit.

    Of equal logits the lower class stands first. NaN stands before everything, so that a network that has diverged
    scores nothing.

    >>> rank_labels(torch.tensor([[1.0, 3.0, 2.0], [1.0, 1.0, 1.0]]), torch.tensor([2, 1]))
    tensor([1, 1])
    """
    own = logits.gather(1, labels[:, None])
    classes = torch.arange(logits.shape[1], device=logits.device)
    behind = (own > logits) | ((own == logits) & (classes >= labels[:, None]))
    return (~behind).sum(dim=1)


class TopKResult(NamedTuple):
    """What was measured over a whole set."""

    top1: Float[Tensor, ""]
    top5: Float[Tensor, ""]
    """Among fewer than five classes, all of them."""
    per_class_top1: Float[Tensor, " C"]
    """NaN for a class without images."""
    num_images: int


class TopK(Metric):
    """Top-1 and top-5 over a set, from one row per image.

    Args:
        num_classes: Columns of the logits.

    >>> metric = TopK(num_classes=3)
    >>> metric.update(torch.tensor([[1.0, 3.0, 2.0]]), labels=torch.tensor([1]), positions=torch.tensor([0]))
    >>> metric.compute().top1
    tensor(1.)
    """

    full_state_update = False

    positions: list[Tensor]
    labels: list[Tensor]
    ranks: list[Tensor]

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        for state in ("positions", "labels", "ranks"):
            self.add_state(state, default=[], dist_reduce_fx="cat")

    def update(self, logits: Float[Tensor, "B C"], labels: Int64[Tensor, " B"], positions: Int64[Tensor, " B"]) -> None:
        """Take a batch in: what the network says, what is right, and the images' places in the set."""
        self.positions.append(positions)
        self.labels.append(labels)
        self.ranks.append(rank_labels(logits, labels))

    def compute(self) -> TopKResult:
        """Measure over all images, each once."""
        columns = [dim_zero_cat(column) for column in (self.positions, self.labels, self.ranks)]
        _, labels, ranks = distinct_rows(*columns)
        hits = ranks < 1
        class_hits, class_images = (
            torch.bincount(which, minlength=self.num_classes) for which in (labels[hits], labels)
        )
        return TopKResult(
            top1=hits.float().mean(),
            top5=(ranks < min(5, self.num_classes)).float().mean(),
            per_class_top1=class_hits / class_images,
            num_images=len(labels),
        )
