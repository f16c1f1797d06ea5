"""The classifier's evaluation: loss, top-1, top-5, calibration and confusions."""

import time
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional as F

from mobilevision.classification.types import ClassificationBatch
from mobilevision.training.evaluation import Evaluator, Report, mean_loss, mean_per_class

NUM_BINS = 15
"""Of the calibration error, as in the paper it comes from."""

NUM_PAIRS = 100
"""Confusions that an analysis lists, the most frequent first."""


def rank_labels(logits: Float[Tensor, "B C"], labels: Int64[Tensor, " B"]) -> Int64[Tensor, " B"]:
    """Return how many classes are ranked before the right one: 0 is a top-1 hit, below 5 a top-5 hit.

    Of equal logits the lower class is first. NaN is before everything, so that a network that has diverged hits
    nothing.

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
    """Compute how far a network's confidence is from how often it is right: the expected calibration error.

    The confidences, each the largest score of an image, are sorted into ``num_bins`` equal parts of [0, 1], an upper
    bound belonging to its part. In every part the mean confidence is compared with the share of hits; the absolute
    differences are averaged, weighted by the images in them. NaN counts as confidence 0; without images it is NaN.

    Reference: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, equation 3.

    >>> calibration_error(torch.tensor([0.9, 0.9, 0.6, 0.6]), torch.tensor([True, True, True, False]))
    tensor(0.1000, dtype=torch.float64)
    """
    confidences = confidences.nan_to_num(0.0).double()
    bins = ((confidences * num_bins).ceil().long() - 1).clamp(0, num_bins - 1)
    gaps = torch.bincount(bins, weights=confidences - hits.double(), minlength=num_bins)
    return gaps.abs().sum() / len(confidences)


def confused_pairs(
    labels: Int64[Tensor, " N"], predicted: Int64[Tensor, " N"], num_classes: int, limit: int
) -> list[tuple[int, int, int]]:
    """Return the most frequent confusions: label, prediction and number of images, the most frequent first.

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


class ClassificationEvaluator(Evaluator):
    """Evaluator of a classifier.

    Args:
        num_classes: Columns of the logits.
        class_names: Their names, or none.
        label_smoothing: Share of every label that is spread over all classes in the loss.

    >>> evaluator = ClassificationEvaluator(3)
    >>> images = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    >>> batch = ClassificationBatch(images, torch.tensor([1]), torch.tensor([0]))
    >>> evaluator.update(torch.tensor([[1.0, 3.0, 2.0]]), batch)
    >>> evaluator.compute().figures["top1"]
    1.0
    """

    def __init__(self, num_classes: int, class_names: Sequence[str] = (), *, label_smoothing: float = 0.0) -> None:
        whole, real = ((), torch.int64), ((), torch.float32)
        columns = {"labels": whole, "ranks": whole, "predicted": whole, "confidences": real, "losses": real}
        super().__init__(num_classes, class_names, columns=columns)
        self.label_smoothing = label_smoothing
        self._start = self._end = time.perf_counter()

    def update(self, outputs: Float[Tensor, "B C"], batch: ClassificationBatch) -> None:
        """Add the images of a batch by their logits."""
        # In half precision 0.995 and 1 are neighbors.
        logits = outputs.float()
        self.add_rows(
            batch.positions,
            labels=batch.labels,
            ranks=rank_labels(logits, batch.labels),
            predicted=logits.argmax(dim=1),
            confidences=logits.softmax(dim=1).amax(dim=1),
            losses=F.cross_entropy(logits, batch.labels, reduction="none", label_smoothing=self.label_smoothing),
        )

    def compute(self) -> Report:
        """Return loss, top-1, top-5 and calibration error, and the top-1 of each class.

        Among fewer than five classes top-5 is all of them.
        """
        self._end = time.perf_counter()
        rows = self.rows()
        labels, hits = rows["labels"], rows["ranks"] < 1
        figures = {
            "loss": mean_loss(rows["losses"], torch.ones_like(labels)),
            "top1": float(hits.double().mean()),
            "top5": float((rows["ranks"] < min(5, self.num_classes)).double().mean()),
            "ece": float(calibration_error(rows["confidences"], hits)),
        }
        top1 = mean_per_class(labels, hits, self.num_classes).tolist()
        per_class = {name: {"top1": value} for name, value in zip(self.names, top1, strict=True)}
        return Report(figures, per_class, len(labels))

    def analyze(self) -> dict[str, Any]:
        """Return the most frequent confusions, and how fast the images came from the last reset to the figures."""
        rows = self.rows()
        names, pairs = self.names, confused_pairs(rows["labels"], rows["predicted"], self.num_classes, NUM_PAIRS)
        seconds = self._end - self._start
        return {
            "confusions": [
                {"label": names[label], "predicted": names[predicted], "images": count}
                for label, predicted, count in pairs
            ],
            "images_per_second": len(rows["labels"]) / seconds if seconds else 0.0,
        }

    def reset(self) -> None:
        """Forget all images, and start the clock."""
        super().reset()
        self._start = self._end = time.perf_counter()
