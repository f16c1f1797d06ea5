"""The segmenter's evaluation: loss, mean intersection over union, boundary F-score and confusions."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int64, Integer, UInt8
from torch import Tensor

from mobilevision.backbone.convolution import Padding
from mobilevision.segmentation.boundary import boundary_f_scores
from mobilevision.segmentation.geometry import restore_logits
from mobilevision.segmentation.protocol import describe_protocol
from mobilevision.segmentation.types import IGNORE_INDEX, EvalBatch, EvalProtocol
from mobilevision.training.evaluation import Evaluator, Report, mean_loss, mean_per_class

BAND_ELEMENTS = 400_000
"""Logits of a few rows that fit into a core's cache."""


class PixelScores(NamedTuple):
    """The prediction of an image's logits, and its loss.

    Attributes:
        predicted: Every pixel's best class, the first of equals.
        loss: The cross-entropy, summed over the pixels that count.
        num_pixels: Those that are not ``IGNORE_INDEX``.
    """

    predicted: Int64[Tensor, "H W"]
    loss: Float[Tensor, ""]
    num_pixels: Int64[Tensor, ""]


def predict_and_score(logits: Float[Tensor, "C H W"], mask: UInt8[Tensor, "H W"]) -> PixelScores:
    """Compute an image's best classes and the loss of its logits, in one pass over them.

    On a CPU a few rows at a time stay in the processor's cache.
    """
    num_classes, height, width = logits.shape
    predicted, loss = torch.empty((height, width), dtype=torch.int64, device=logits.device), logits.new_zeros(())
    step = max(1, BAND_ELEMENTS // (num_classes * width)) if logits.device.type == "cpu" else height
    for top in range(0, height, step):
        rows = slice(top, top + step)
        band, counted = logits[:, rows], mask[rows] != IGNORE_INDEX
        best = band.max(dim=0)
        predicted[rows] = best.indices
        true = band.gather(0, (mask[rows].long() * counted)[None])[0]
        total = (band - best.values).exp_().sum(dim=0).log_()
        # Row by row: a sum over all at once depends on the number of threads.
        loss += total.add_(best.values).sub_(true).mul_(counted).sum(dim=1).sum()
    return PixelScores(predicted, loss, (mask != IGNORE_INDEX).sum())


def confusion_matrix(
    predicted: Integer[Tensor, "*pixels"], mask: UInt8[Tensor, "*pixels"], num_classes: int
) -> Int64[Tensor, "C C"]:
    """Count the pixels by true class (row) and predicted class (column); ``IGNORE_INDEX`` does not count.

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
    """The figures of a confusion matrix, in double precision.

    Attributes:
        miou: The mean over the classes of the truth.
        miou_voc: The mean over all classes, as VOC's development kit has it: NaN, as there, where one is absent from
            truth and prediction; 0 for one that is in the prediction alone.
        per_class: NaN for a class that is absent from the truth.
        pixel_accuracy: The share of right pixels.
    """

    miou: Float[Tensor, ""]
    miou_voc: Float[Tensor, ""]
    per_class: Float[Tensor, " C"]
    pixel_accuracy: Float[Tensor, ""]


def mean_iou(confusion: Int64[Tensor, "C C"]) -> Iou:
    """Compute TP / (TP + FP + FN) of every class, their mean, and the share of right pixels.

    A class that is not in the truth has no IoU: there is nothing to find. Pixels that are predicted as it are missed
    pixels of other classes. With no pixel at all every figure is NaN.

    Reference: Everingham et al., "The PASCAL Visual Object Classes Challenge", IJCV 2015, section 4.3.

    >>> mean_iou(torch.tensor([[2, 1, 0], [0, 1, 0], [0, 0, 0]])).per_class
    tensor([0.6667, 0.5000,    nan], dtype=torch.float64)
    """
    right = confusion.diagonal().double()
    union = confusion.sum(dim=0) + confusion.sum(dim=1) - right
    of_voc = right / union
    per_class = of_voc.where(confusion.sum(dim=1) > 0, torch.nan)
    return Iou(per_class.nanmean(), of_voc.mean(), per_class, right.sum() / confusion.sum())


class BoundaryF(NamedTuple):
    """The boundary F-score of a dataset, in double precision.

    Attributes:
        mean: Over the classes present anywhere in the dataset.
        per_class: The mean over the images that a class is present in; NaN for a class that is absent from all.
    """

    mean: Float[Tensor, ""]
    per_class: Float[Tensor, " C"]


def mean_boundary_f(scores: Float[Tensor, "N C"]) -> BoundaryF:
    """Compute the means of the images' scores of :func:`boundary_f_scores`, for each class where it is present.

    >>> nan = float("nan")
    >>> mean_boundary_f(torch.tensor([[1.0, nan], [0.5, nan]])).per_class
    tensor([0.7500,    nan], dtype=torch.float64)
    """
    present = ~scores.isnan()
    per_class = mean_per_class(present.nonzero()[:, 1], scores[present], scores.shape[1])
    return BoundaryF(per_class.nanmean(), per_class)


class SegmentationEvaluator(Evaluator):
    """Evaluator of a segmenter: every image is measured at the size of its mask.

    Args:
        num_classes: Classes of the masks, background included.
        class_names: Their names, or none.
        output_stride: Of the logits.
        padding: Of the network's convolutions.
        scales: At which the images are looked at, for the report.
        flip: Whether each scale is looked at mirrored as well, for the report.
    """

    def __init__(
        self,
        num_classes: int,
        class_names: Sequence[str] = (),
        *,
        output_stride: int,
        padding: Padding,
        scales: Sequence[float] = (1.0,),
        flip: bool = False,
    ) -> None:
        columns = {
            "confusion": ((num_classes * num_classes,), torch.int32),
            "boundary_f": ((num_classes,), torch.float32),
            "losses": ((), torch.float32),
            "num_pixels": ((), torch.int64),
        }
        super().__init__(num_classes, class_names, columns=columns)
        self.output_stride = output_stride
        self.padding: Padding = padding
        self.scales = tuple(scales)
        self.flip = flip
        self._measured: tuple[EvalProtocol, int] | None = None

    def update(self, outputs: Float[Tensor, "B C h w"], batch: EvalBatch) -> None:
        """Add the images of a batch by their logits, at the output stride or at the size of the images."""
        input_size = batch.images.shape[-1]
        self._measured = (batch.protocol, input_size)
        for coarse, mask, position in zip(outputs, batch.masks, batch.positions[:, None], strict=True):
            size = mask.shape[0], mask.shape[1]
            logits = restore_logits(coarse, input_size, size, output_stride=self.output_stride, padding=self.padding)
            predicted, loss, num_pixels = predict_and_score(logits, mask)
            boundary_f = boundary_f_scores(predicted.cpu().numpy(), mask.cpu().numpy(), self.num_classes)
            self.add_rows(
                position,
                confusion=confusion_matrix(predicted, mask, self.num_classes).view(1, -1).int(),
                boundary_f=torch.from_numpy(boundary_f)[None],
                losses=loss[None],
                num_pixels=num_pixels[None],
            )

    def compute(self) -> Report:
        """Return loss, mean IoU, pixel accuracy and boundary F-score, and IoU and boundary F-score of each class.

        The report's details name the protocol by which they were measured, and the classes that no pixel is of.
        """
        rows = self.rows()
        confusion = self._sum_confusions(rows)
        iou = mean_iou(confusion)
        boundary_f = mean_boundary_f(rows["boundary_f"].where(~iou.per_class.isnan(), torch.nan))
        figures = {
            "loss": mean_loss(rows["losses"], rows["num_pixels"]),
            "miou": float(iou.miou),
            "miou_voc": float(iou.miou_voc),
            "pixel_accuracy": float(iou.pixel_accuracy),
            "boundary_f": float(boundary_f.mean),
        }
        columns = zip(self.names, iou.per_class.tolist(), boundary_f.per_class.tolist(), strict=True)
        per_class = {name: {"iou": value, "boundary_f": score} for name, value, score in columns}
        absent = [name for name, count in zip(self.names, confusion.sum(dim=1).tolist(), strict=True) if not count]
        return Report(figures, per_class, len(rows["positions"]), {**self._describe(), "absent_classes": absent})

    def analyze(self) -> dict[str, Any]:
        """Return the confusion matrix in pixels: a row for each true class, a column for each predicted class."""
        return {"confusion": {"classes": list(self.names), "counts": self._sum_confusions(self.rows()).tolist()}}

    def _sum_confusions(self, rows: dict[str, Tensor]) -> Int64[Tensor, "C C"]:
        return rows["confusion"].sum(dim=0).view(self.num_classes, self.num_classes)

    def _describe(self) -> dict[str, Any]:
        if self._measured is None:
            return {}
        protocol, input_size = self._measured
        described = describe_protocol(
            protocol, input_size=input_size, output_stride=self.output_stride, scales=self.scales, flip=self.flip
        )
        return {"protocol": described}
