"""Top-1, top-5, confusions and calibration, the same on any number of processes."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from mobilevision.training.rows import distinct_rows

STATES = ("positions", "labels", "ranks", "predicted", "confidences")

NUM_BINS = 15
"""Of the calibration error, as in the paper it comes from."""


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


def calibration_error(
    confidences: Float[Tensor, " N"], hits: Bool[Tensor, " N"], num_bins: int = NUM_BINS
) -> Float[Tensor, ""]:
    """Measure how far a network's confidence is from how often it is right: the expected calibration error.

    The confidences, each the largest score of an image, are sorted into ``num_bins`` equal parts of [0, 1], an upper
    bound belonging to its part. In every part the mean confidence is compared with the share of hits; the absolute
    differences are averaged, weighted by the images in them. NaN counts as confidence 0; without images it is NaN.

    Reference: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, equation 3.

    >>> calibration_error(torch.tensor([0.9, 0.9, 0.6, 0.6]), torch.tensor([True, True, True, False]))
    tensor(0.1000)
    """
    confidences = confidences.nan_to_num(0.0).double()
    bins = ((confidences * num_bins).ceil().long() - 1).clamp(0, num_bins - 1)
    sums = confidences.new_zeros(num_bins).index_add_(0, bins, confidences - hits.double())
    return (sums.abs().sum() / len(confidences)).float()


def confused_pairs(
    labels: Int64[Tensor, " N"], predicted: Int64[Tensor, " N"], num_classes: int, limit: int
) -> list[tuple[int, int, int]]:
    """List what is most often taken for what: label, prediction and number of images, the most frequent first.

    >>> confused_pairs(torch.tensor([0, 0, 0, 1, 2]), torch.tensor([1, 1, 0, 2, 2]), num_classes=3, limit=5)
    [(0, 1, 2), (1, 2, 1)]
    """
    wrong = labels != predicted
    pairs, counts = torch.unique(labels[wrong] * num_classes + predicted[wrong], return_counts=True)
    order = torch.argsort(counts, descending=True, stable=True)[:limit]
    return [
        (pair // num_classes, pair % num_classes, count)
        for pair, count in zip(pairs[order].tolist(), counts[order].tolist(), strict=True)
    ]


class TopKResult(NamedTuple):
    """What was measured over a whole set."""

    top1: Float[Tensor, ""]
    top5: Float[Tensor, ""]
    """Among fewer than five classes, all of them."""
    per_class_top1: Float[Tensor, " C"]
    """NaN for a class without images."""
    ece: Float[Tensor, ""]
    """See :func:`calibration_error`."""
    labels: Int64[Tensor, " N"]
    """Of every image once, in the order of the set."""
    predicted: Int64[Tensor, " N"]
    """The class of the largest logit of every image."""

    @property
    def num_images(self) -> int:
        """The images that were measured."""
        return len(self.labels)


class TopK(Metric):
    """Top-1, top-5 and calibration over a set, from one row per image.

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
    predicted: list[Tensor]
    confidences: list[Tensor]

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        for state in STATES:
            self.add_state(state, default=[], dist_reduce_fx="cat")

    def update(self, logits: Float[Tensor, "B C"], labels: Int64[Tensor, " B"], positions: Int64[Tensor, " B"]) -> None:
        """Take a batch in: what the network says, what is right, and the images' places in the set."""
        self.positions.append(positions)
        self.labels.append(labels)
        self.ranks.append(rank_labels(logits, labels))
        self.predicted.append(logits.argmax(dim=1))
        # In half precision 0.995 and 1 are neighbours.
        self.confidences.append(logits.detach().float().softmax(dim=1).amax(dim=1))

    def compute(self) -> TopKResult:
        """Measure over all images, each once."""
        columns = [dim_zero_cat(getattr(self, state)) for state in STATES]
        _, labels, ranks, predicted, confidences = distinct_rows(*columns)
        hits = ranks < 1
        class_hits, class_images = (
            torch.bincount(which, minlength=self.num_classes) for which in (labels[hits], labels)
        )
        return TopKResult(
            top1=hits.float().mean(),
            top5=(ranks < min(5, self.num_classes)).float().mean(),
            per_class_top1=class_hits / class_images,
            # Sums on a GPU depend on the order its threads come in.
            ece=calibration_error(confidences.cpu(), hits.cpu()),
            labels=labels,
            predicted=predicted,
        )
