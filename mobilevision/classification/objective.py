"""Cross-entropy to train the classifier; top-1, top-5 and calibration to measure it."""

import time
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from mobilevision.classification.classifier import Classifier
from mobilevision.classification.metrics import TopK, confused_pairs
from mobilevision.classification.mixing import Mixing
from mobilevision.classification.types import Batch
from mobilevision.training.mean_loss import MeanLoss
from mobilevision.training.objective import Loss, Objective
from mobilevision.training.report import Report

NUM_PAIRS = 100
"""Confusions that a report lists, the most frequent first."""


class ClassificationObjective(Objective):
    """Say what a picture shows.

    Args:
        num_classes: Classes of the data.
        label_smoothing: Share of every label that is spread over all classes, in both losses.
        mixup_alpha: See :class:`Mixing`.
        cutmix_alpha: See :class:`Mixing`.
    """

    def __init__(
        self, num_classes: int, *, label_smoothing: float = 0.0, mixup_alpha: float = 0.0, cutmix_alpha: float = 0.0
    ) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        self.mixing = Mixing(num_classes, mixup_alpha=mixup_alpha, cutmix_alpha=cutmix_alpha)
        self.top_k = TopK(num_classes)
        self.mean_loss = MeanLoss()

    def prepare(self, batch: Batch) -> Batch:
        """Mix the pictures and their labels, if that is on."""
        images, labels = self.mixing(batch.images, batch.labels)
        return batch._replace(images=images, labels=labels)

    def loss(self, network: Classifier, predictions: Float[Tensor, "B C"], batch: Batch) -> Loss:
        """Compare logits with labels or, where they were mixed, with distributions."""
        return Loss(F.cross_entropy(predictions, batch.labels, label_smoothing=self.label_smoothing))

    def begin(self) -> None:
        """Take the time."""
        self._start = time.perf_counter()

    def measure(self, network: Classifier, predictions: Float[Tensor, "B C"], batch: Batch) -> None:
        """Take in the rows of a batch."""
        losses = F.cross_entropy(predictions, batch.labels, reduction="none", label_smoothing=self.label_smoothing)
        self.mean_loss.update(losses, torch.ones_like(losses), batch.positions)
        self.top_k.update(predictions, batch.labels, batch.positions)

    def conclude(self, class_names: Sequence[str]) -> Report:
        """Measure the whole set, and forget it."""
        result = self.top_k.compute()
        figures = {
            "loss": float(self.mean_loss.compute()),
            "top1": float(result.top1),
            "top5": float(result.top5),
            "ece": float(result.ece),
        }
        per_class = zip(class_names, result.per_class_top1.tolist(), strict=True)
        pairs = confused_pairs(result.labels, result.predicted, len(class_names), NUM_PAIRS)
        details = {
            "confusions": [
                {"label": class_names[label], "predicted": class_names[predicted], "images": count}
                for label, predicted, count in pairs
            ],
            "images_per_second": result.num_images / (time.perf_counter() - self._start),
        }
        self.top_k.reset()
        self.mean_loss.reset()
        return Report(figures, {name: {"top1": top1} for name, top1 in per_class}, result.num_images, details)
