"""Train and evaluate the segmenter."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from mobilevision.backbone.padding import Padding
from mobilevision.segmentation.balance import balance_classes
from mobilevision.segmentation.deeplabv3 import DeepLabV3, Head, deeplabv3_mobilenet_v2
from mobilevision.segmentation.geometry import restore_logits
from mobilevision.segmentation.loss import judge_pixels, segmentation_loss
from mobilevision.segmentation.metrics import MeanBoundaryF, MeanIoU
from mobilevision.segmentation.multi_scale import average_probabilities, running_at
from mobilevision.segmentation.protocol import describe_protocol
from mobilevision.segmentation.types import Batch, EvalBatch, EvalProtocol
from mobilevision.training.mean_loss import MeanLoss
from mobilevision.training.report import Report
from mobilevision.training.task import NetworkTask


class SegmentationTask(NetworkTask):
    """Train Mobile DeepLabv3 to say what every pixel shows, measured by the mean IoU.

    Which pixels are measured is up to the data's ``eval_protocol``; the report's details name it.

    Args:
        num_classes: Classes of the masks, background included; VOC has 21.
        head: ``light`` (the paper's choice) or ``atrous``.
        output_stride: 8, 16 or 32, in training.
        width_mult: Channel multiplier of the backbone.
        padding: ``symmetric``, or ``tf_same`` to go on from TensorFlow's weights.
        input_size: Side of the pictures in pixels, recorded with the weights.
        dropout: Share of the head's values dropped in training.
        norm_eps: Batch normalisation's epsilon in the backbone.
        norm_momentum: Batch normalisation's momentum in the backbone, in PyTorch's sense. The paper's 0.003 needs some
            thousand steps until the running statistics are right; a short run wants 0.1.
        head_norm_eps: As ``norm_eps``, in the head.
        head_norm_momentum: As ``norm_momentum``, in the head.
        class_balance: How much more a pixel of a rare class weighs in training: the power of the inverse of the class's
            share of the training masks' pixels, which are counted before the first step. 0: all pixels weigh the same;
            0.5: in between; 1: all classes do. The validation loss is never weighted.
        eval_output_stride: 8, 16 or 32, in evaluation, on the same weights; ``output_stride`` by default.
        eval_scales: Factors on a picture's side at which evaluation looks at it, averaging the probabilities; 1 by
            default. The paper's are 0.5, 0.75, 1, 1.25, 1.5 and 1.75, mirrored, at output stride 8.
        eval_flip: Whether evaluation looks at each scale mirrored as well.
        optimization: As in :class:`NetworkTask`.

    Raises:
        ValueError: ``class_balance`` is negative, ``eval_scales`` is empty or not above 0, or ``eval_output_stride`` is
            not 8, 16 or 32.
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
        class_balance: float = 0.0,
        eval_output_stride: int | None = None,
        eval_scales: list[float] | None = None,
        eval_flip: bool = False,
        **optimization: Any,
    ) -> None:
        self.save_hyperparameters()
        super().__init__(**optimization)
        if class_balance < 0:
            raise ValueError(f"class_balance must be at least 0, got {class_balance}")
        self.class_balance = class_balance
        self.class_weights: Tensor | None = None
        self.eval_output_stride = output_stride if eval_output_stride is None else eval_output_stride
        if self.eval_output_stride not in (8, 16, 32):
            raise ValueError(f"eval_output_stride must be 8, 16 or 32, got {eval_output_stride}")
        self.eval_scales: Sequence[float] = (1.0,) if eval_scales is None else tuple(eval_scales)
        if not self.eval_scales or min(self.eval_scales) <= 0:
            raise ValueError(f"eval_scales must be one or more factors above 0, got {eval_scales}")
        self.eval_flip = eval_flip
        self.eval_pixels: tuple[EvalProtocol, int] = ("original", input_size)
        self.mean_iou = MeanIoU(num_classes)
        self.mean_boundary_f = MeanBoundaryF(num_classes)
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

    def on_fit_start(self) -> None:
        """Count the classes of the training masks and weigh them."""
        if self.class_balance:
            counts = self.trainer.datamodule.count_classes()  # type: ignore[attr-defined]
            self.class_weights = balance_classes(counts, self.class_balance).to(self.device)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Give the loss of a batch."""
        loss = segmentation_loss(self.network.predict_coarse(batch.images), batch.masks, self.class_weights).total
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch.images))
        return loss

    def validation_step(self, batch: EvalBatch, batch_index: int) -> None:
        """Take the rows of a batch in: loss and metrics from the same passes, at the size of each mask."""
        input_size = batch.images.shape[-1]
        self.eval_pixels = (batch.protocol, input_size)
        with running_at(self.network, self.eval_output_stride):
            maps = self._predict(batch.images)
        for coarse, mask, position in zip(maps, batch.masks, batch.positions[:, None], strict=True):
            logits = restore_logits(coarse, input_size, (mask.shape[0], mask.shape[1]))
            judged = judge_pixels(logits, mask)
            self.mean_loss.update(judged.loss[None], judged.num_pixels[None], position)
            self.mean_iou.update([judged.predicted], [mask], position)
            self.mean_boundary_f.update([judged.predicted], [mask], position)

    test_step = validation_step

    def on_validation_epoch_end(self) -> None:
        """Measure and log the whole set."""
        self._conclude("val")

    def on_test_epoch_end(self) -> None:
        """Measure and log the whole set."""
        self._conclude("test")

    def _predict(self, images: UInt8[Tensor, "B 3 S S"]) -> Float[Tensor, "B C h w"]:
        """Give logits at the output stride, or those of the mean over several passes at the size of the images."""
        if self.eval_scales == (1.0,) and not self.eval_flip:
            return self.network.predict_coarse(images)
        means = [
            average_probabilities(self.network, image[None], self.eval_scales, flip=self.eval_flip) for image in images
        ]
        # Their softmax gives the probabilities back.
        return torch.cat(means).clamp_(min=torch.finfo(torch.float32).tiny).log_()

    def _conclude(self, split: str) -> None:
        result, boundary_f = self.mean_iou.compute(), self.mean_boundary_f.compute()
        figures = {
            "loss": float(self.mean_loss.compute()),
            "miou": float(result.iou.miou),
            "miou_voc": float(result.iou.miou_voc),
            "pixel_accuracy": float(result.iou.pixel_accuracy),
            "boundary_f": float(boundary_f.mean),
        }
        for name, figure in figures.items():
            # Every process has the same figures; their maximum is exact, which their mean is not.
            self.log(f"{split}/{name}", figure, prog_bar=name == "miou", sync_dist=True, reduce_fx="max")
        names = self.network.class_names or tuple(map(str, range(self.network.num_classes)))
        per_class = zip(names, result.iou.per_class.tolist(), boundary_f.per_class.tolist(), strict=True)
        protocol, size = self.eval_pixels
        self.report = Report(
            figures,
            {name: {"iou": iou, "boundary_f": score} for name, iou, score in per_class},
            result.num_images,
            {
                "protocol": describe_protocol(
                    protocol,
                    input_size=size,
                    output_stride=self.eval_output_stride,
                    scales=self.eval_scales,
                    flip=self.eval_flip,
                )
            },
        )
        for metric in (self.mean_iou, self.mean_boundary_f, self.mean_loss):
            metric.reset()
