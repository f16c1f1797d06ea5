"""Train and evaluate the segmenter."""

from typing import Any, ClassVar

from torch import Tensor

from mobilevision.backbone.padding import Padding
from mobilevision.segmentation.deeplabv3 import DeepLabV3, Head, deeplabv3_mobilenet_v2
from mobilevision.segmentation.geometry import pick_classes, restore_logits
from mobilevision.segmentation.loss import segmentation_loss
from mobilevision.segmentation.metrics import MeanIoU
from mobilevision.segmentation.types import Batch, EvalBatch
from mobilevision.training.mean_loss import MeanLoss
from mobilevision.training.report import Report
from mobilevision.training.task import NetworkTask


class SegmentationTask(NetworkTask):
    """Train Mobile DeepLabv3 to say what every pixel shows, measured by the mean IoU at the size of each file.

    Args:
        num_classes: Classes of the masks, background included; VOC has 21.
        head: ``light`` (the paper's choice) or ``atrous``.
        output_stride: 8, 16 or 32, in training and evaluation.
        width_mult: Channel multiplier of the backbone.
        padding: ``symmetric``, or ``tf_same`` to go on from TensorFlow's weights.
        input_size: Side of the pictures in pixels, recorded with the weights.
        dropout: Share of the head's values dropped in training.
        norm_eps: Batch normalisation's epsilon in the backbone.
        norm_momentum: Batch normalisation's momentum in the backbone, in PyTorch's sense. The paper's 0.003 needs some
            thousand steps until the running statistics are right; a short run wants 0.1.
        head_norm_eps: As ``norm_eps``, in the head.
        head_norm_momentum: As ``norm_momentum``, in the head.
        optimization: As in :class:`NetworkTask`.
    """

    monitor: ClassVar[str] = "val/miou"

    network: DeepLabV3

    def __init__(
        self,
        num_classes: int = 21,
        *,
        head: Head = "light",
        output_stride: int = 16,
        width_mult: float = 1.0,
        padding: Padding = "symmetric",
        input_size: int = 513,
        dropout: float = 0.1,
        norm_eps: float = 1e-3,
        norm_momentum: float = 0.003,
        head_norm_eps: float = 1e-5,
        head_norm_momentum: float = 3e-4,
        **optimization: Any,
    ) -> None:
        self.save_hyperparameters()
        super().__init__(**optimization)
        self.mean_iou = MeanIoU(num_classes)
        self.mean_loss = MeanLoss()

    def build_network(self) -> DeepLabV3:
        """Build the segmenter."""
        options = self.hparams
        return deeplabv3_mobilenet_v2(
            options["num_classes"],
            head=options["head"],
            output_stride=options["output_stride"],
            width_mult=options["width_mult"],
            padding=options["padding"],
            input_size=options["input_size"],
            dropout=options["dropout"],
            norm_eps=options["norm_eps"],
            norm_momentum=options["norm_momentum"],
            head_norm_eps=options["head_norm_eps"],
            head_norm_momentum=options["head_norm_momentum"],
        )

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Give the loss of a batch."""
        loss = segmentation_loss(self.network.predict_coarse(batch.images), batch.masks).total
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch.images))
        return loss

    def validation_step(self, batch: EvalBatch, batch_index: int) -> None:
        """Take the rows of a batch in: loss and metric from the same pass, at the size of each file."""
        for coarse, mask, position in zip(
            self.network.predict_coarse(batch.images), batch.masks, batch.positions[:, None], strict=True
        ):
            logits = restore_logits(coarse, batch.images.shape[-1], (mask.shape[0], mask.shape[1]))
            loss = segmentation_loss(logits[None], mask[None])
            self.mean_loss.update(loss.sums, loss.num_pixels, position)
            self.mean_iou.update([pick_classes(logits)], [mask], position)

    test_step = validation_step

    def on_validation_epoch_end(self) -> None:
        """Measure and log the whole set."""
        self._conclude("val")

    def on_test_epoch_end(self) -> None:
        """Measure and log the whole set."""
        self._conclude("test")

    def _conclude(self, split: str) -> None:
        result = self.mean_iou.compute()
        figures = {
            "loss": float(self.mean_loss.compute()),
            "miou": float(result.iou.miou),
            "pixel_accuracy": float(result.iou.pixel_accuracy),
        }
        for name, figure in figures.items():
            # Every process has the same figures; their maximum is exact, which their mean is not.
            self.log(f"{split}/{name}", figure, prog_bar=True, sync_dist=True, reduce_fx="max")
        names = self.network.class_names or tuple(map(str, range(self.network.num_classes)))
        per_class = zip(names, result.iou.per_class.tolist(), strict=True)
        self.report = Report(figures, {name: {"iou": iou} for name, iou in per_class}, result.num_images)
        self.mean_iou.reset()
        self.mean_loss.reset()
