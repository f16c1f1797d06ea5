"""Cross-entropy over pixels to train the segmenter; mean IoU and boundary F-score to measure it."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from mobilevision.segmentation.deeplabv3 import DeepLabV3
from mobilevision.segmentation.geometry import bring_to_corners, restore_logits
from mobilevision.segmentation.loss import judge_pixels, segmentation_loss
from mobilevision.segmentation.metrics import MeanBoundaryF, MeanIoU
from mobilevision.segmentation.protocol import describe_protocol
from mobilevision.segmentation.types import IGNORE_INDEX, Batch, EvalBatch, EvalProtocol
from mobilevision.training.mean_loss import MeanLoss
from mobilevision.training.objective import Loss, Objective
from mobilevision.training.report import Report


class SegmentationObjective(Objective):
    """Say what every pixel shows.

    Args:
        num_classes: Classes of the masks, background included.
        output_stride: At which the network is measured.
        scales: At which it is measured, for the report.
        flip: Whether it is measured mirrored as well, for the report.
    """

    def __init__(
        self, num_classes: int, *, output_stride: int, scales: Sequence[float] = (1.0,), flip: bool = False
    ) -> None:
        super().__init__()
        self.class_weights: Tensor | None = None
        """What a pixel of each class weighs in training; 1 by default."""
        self.output_stride = output_stride
        self.scales = tuple(scales)
        self.flip = flip
        self.eval_pixels: tuple[EvalProtocol, int] | None = None
        self.mean_iou = MeanIoU(num_classes)
        self.mean_boundary_f = MeanBoundaryF(num_classes)
        self.mean_loss = MeanLoss()

    def loss(self, network: DeepLabV3, predictions: Float[Tensor, "B C h w"], batch: Batch) -> Loss:
        """Compare logits at the output stride with masks, at the size of these."""
        logits, masks = bring_to_corners(
            predictions,
            batch.masks,
            output_stride=network.output_stride,
            padding=network.backbone.padding,
            fill=IGNORE_INDEX,
        )
        return Loss(segmentation_loss(logits, masks, self.class_weights).total)

    def measure(self, network: DeepLabV3, predictions: Float[Tensor, "B C h w"], batch: EvalBatch) -> None:
        """Take in the rows of a batch: loss and metrics at the size of each mask."""
        input_size = batch.images.shape[-1]
        self.eval_pixels = (batch.protocol, input_size)
        for coarse, mask, position in zip(predictions, batch.masks, batch.positions[:, None], strict=True):
            logits = restore_logits(
                coarse,
                input_size,
                (mask.shape[0], mask.shape[1]),
                output_stride=self.output_stride,
                padding=network.backbone.padding,
            )
            judged = judge_pixels(logits, mask)
            self.mean_loss.update(judged.loss[None], judged.num_pixels[None], position)
            self.mean_iou.update([judged.predicted], [mask], position)
            self.mean_boundary_f.update([judged.predicted], [mask], position)

    def conclude(self, class_names: Sequence[str]) -> Report:
        """Measure the whole set, and forget it."""
        result, boundary_f = self.mean_iou.compute(), self.mean_boundary_f.compute()
        figures = {
            "loss": float(self.mean_loss.compute()),
            "miou": float(result.iou.miou),
            "miou_voc": float(result.iou.miou_voc),
            "pixel_accuracy": float(result.iou.pixel_accuracy),
            "boundary_f": float(boundary_f.mean),
        }
        per_class = zip(class_names, result.iou.per_class.tolist(), boundary_f.per_class.tolist(), strict=True)
        assert self.eval_pixels is not None
        protocol, size = self.eval_pixels
        described = describe_protocol(
            protocol, input_size=size, output_stride=self.output_stride, scales=self.scales, flip=self.flip
        )
        for metric in (self.mean_iou, self.mean_boundary_f, self.mean_loss):
            metric.reset()
        return Report(
            figures,
            {name: {"iou": iou, "boundary_f": score} for name, iou, score in per_class},
            result.num_images,
            {"protocol": described},
        )
