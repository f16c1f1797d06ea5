"""Mean intersection over union and boundary F-score, the same on any number of processes."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64, Integer, UInt8
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from mobilevision.segmentation.boundary import boundary_f_scores
from mobilevision.segmentation.types import IGNORE_INDEX
from mobilevision.training.rows import distinct_rows


def confusion_matrix(
    predicted: Integer[Tensor, "*pixels"], mask: UInt8[Tensor, "*pixels"], num_classes: int
) -> Int64[Tensor, "C C"]:
    """Count the pixels by what is true (row) and what is predicted (column); ``IGNORE_INDEX`` does not count.

    Args:
        predicted: Classes below ``num_classes``.
        mask: Classes below ``num_classes``, or ``IGNORE_INDEX``.
        num_classes: Classes of the mask, background included; at most 255.

    >>> confusion_matrix(torch.tensor([0, 1, 1, 1]), torch.tensor([0, 1, 0, 255], dtype=torch.uint8), num_classes=2)
    tensor([[1, 1],
            [0, 1]])
    """
    # Ignored pixels fall into cells past the matrix: dropping a row is cheaper than picking pixels. int32 is as wide as
    # a cell needs to be.
    cells = mask.int().mul_(num_classes).add_(predicted)
    counts = torch.bincount(cells.flatten(), minlength=(IGNORE_INDEX + 1) * num_classes)
    return counts[: num_classes * num_classes].view(num_classes, num_classes)


class Iou(NamedTuple):
    """What a confusion matrix says."""

    miou: Float[Tensor, ""]
    """The mean over the classes present, as torchmetrics' JaccardIndex has it."""
    miou_voc: Float[Tensor, ""]
    """The mean over all classes, as VOC's development kit has it: NaN, as there, where one of them is absent."""
    per_class: Float[Tensor, " C"]
    """NaN for a class that is absent."""
    pixel_accuracy: Float[Tensor, ""]


def mean_iou(confusion: Int64[Tensor, "C C"]) -> Iou:
    """Compute TP / (TP + FP + FN) of every class, their mean, and the share of right pixels.

    A class is present if it is in the truth or in the prediction: one that is predicted where it never is counts as 0,
    in both means. One that is in neither is left out of ``miou`` and makes ``miou_voc`` NaN: it is 0 / 0. With no pixel
    at all every figure is NaN.

    Reference: Everingham et al., "The PASCAL Visual Object Classes Challenge", IJCV 2015, section 4.3.

    >>> mean_iou(torch.tensor([[2, 1, 0], [0, 1, 0], [0, 0, 0]])).per_class
    tensor([0.6667, 0.5000,    nan])
    """
    right = confusion.diagonal()
    union = confusion.sum(dim=0) + confusion.sum(dim=1) - right
    per_class = right / union
    return Iou(per_class.nanmean(), per_class.mean(), per_class, right.sum() / confusion.sum())


class MeanIouResult(NamedTuple):
    """What was measured over a whole set."""

    iou: Iou
    num_images: int


class MeanIoU(Metric):
    """The intersection over union of a set's pixels taken together, from one confusion matrix per image.

    Args:
        num_classes: Classes of the masks, background included.

    >>> metric = MeanIoU(num_classes=2)
    >>> mask = torch.tensor([[0, 1, 255]], dtype=torch.uint8)
    >>> metric.update([torch.tensor([[0, 1, 1]])], [mask], positions=torch.tensor([0]))
    >>> metric.compute().iou.miou
    tensor(1.)
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = True

    positions: list[Tensor]
    confusions: list[Tensor]

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        for state in ("positions", "confusions"):
            self.add_state(state, default=[], dist_reduce_fx="cat")

    def update(
        self,
        predicted: Sequence[Integer[Tensor, "H W"]],
        masks: Sequence[UInt8[Tensor, "H W"]],
        positions: Int64[Tensor, " B"],
    ) -> None:
        """Take images in, each at its own size: what is predicted, what is true, and their places in the set."""
        confusions = [
            confusion_matrix(prediction, mask, self.num_classes).flatten().int()
            for prediction, mask in zip(predicted, masks, strict=True)
        ]
        self.positions.append(positions)
        self.confusions.append(torch.stack(confusions))

    def compute(self) -> MeanIouResult:
        """Measure over all images, each once."""
        positions, confusions = distinct_rows(dim_zero_cat(self.positions), dim_zero_cat(self.confusions))
        total = confusions.sum(dim=0).view(self.num_classes, self.num_classes)
        return MeanIouResult(mean_iou(total), len(positions))


class BoundaryF(NamedTuple):
    """How well the outlines lie."""

    mean: Float[Tensor, ""]
    """Over the classes present anywhere in the set."""
    per_class: Float[Tensor, " C"]
    """The mean over the images that a class is present in; NaN for a class that is absent from all."""


def mean_boundary_f(scores: Float[Tensor, "N C"]) -> BoundaryF:
    """Average the images' scores of :func:`boundary_f_scores`, for each class where it is present.

    >>> nan = float("nan")
    >>> mean_boundary_f(torch.tensor([[1.0, nan], [0.5, nan]]))
    BoundaryF(mean=tensor(0.7500), per_class=tensor([0.7500,    nan]))
    """
    per_class = scores.double().nanmean(dim=0).float()
    return BoundaryF(per_class.nanmean(), per_class)


class MeanBoundaryF(Metric):
    """The boundary F-score of a set, from one score per image and class.

    Args:
        num_classes: Classes of the masks, background included.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = True

    positions: list[Tensor]
    scores: list[Tensor]

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        for state in ("positions", "scores"):
            self.add_state(state, default=[], dist_reduce_fx="cat")

    def update(
        self,
        predicted: Sequence[Integer[Tensor, "H W"]],
        masks: Sequence[UInt8[Tensor, "H W"]],
        positions: Int64[Tensor, " B"],
    ) -> None:
        """Take images in, as :class:`MeanIoU` does."""
        scores = [
            torch.from_numpy(boundary_f_scores(prediction.cpu().numpy(), mask.cpu().numpy(), self.num_classes))
            for prediction, mask in zip(predicted, masks, strict=True)
        ]
        self.positions.append(positions)
        self.scores.append(torch.stack(scores).to(positions.device))

    def compute(self) -> BoundaryF:
        """Measure over all images, each once."""
        _, scores = distinct_rows(dim_zero_cat(self.positions), dim_zero_cat(self.scores))
        return mean_boundary_f(scores)
