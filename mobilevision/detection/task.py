"""Train and evaluate the detector."""

from typing import Any, ClassVar, cast

from torch import Tensor

from mobilevision.backbone.padding import Padding
from mobilevision.detection.boxes import decode_boxes
from mobilevision.detection.details import describe
from mobilevision.detection.loss import MultiboxLoss, multibox_loss
from mobilevision.detection.metrics import CocoMeanAP
from mobilevision.detection.postprocess import clip_detections, rescale_detections, select_detections
from mobilevision.detection.ssdlite import PresetName, SSDLite, ssdlite_mobilenet_v2
from mobilevision.detection.types import Batch, Detections, RawPredictions, ScoreFunction
from mobilevision.training.datamodule import ImageDataModule
from mobilevision.training.mean_loss import MeanLoss
from mobilevision.training.report import Report
from mobilevision.training.start import set_options
from mobilevision.training.task import NetworkTask


class DetectionTask(NetworkTask):
    """Train SSDLite to find objects, measured by COCO's mean average precision.

    Args:
        num_classes: Classes of objects, without background; COCO has 80.
        preset: ``paper320`` or ``tf300``. This and what follows it as far as ``head_norm_eps`` are, where they are
            None, as the weights have them that the run starts from, or as :func:`ssdlite_mobilenet_v2` has them by
            default.
        input_size: Side of the images in pixels; without weights the preset's. The data must have the same.
        width_mult: Channel multiplier.
        padding: ``symmetric`` or ``tf_same``.
        round_to: The backbone's channels are rounded to multiples of this.
        depth_mult: Multiplier of the blocks of every stage, see :class:`MobileNetV2`.
        fixed_ends: Whether stem and ``last`` keep their size, see :class:`MobileNetV2`.
        score_function: ``sigmoid`` or ``softmax``, in the loss and for the scores.
        norm_eps: Batch normalisation's epsilon in the backbone.
        head_norm_eps: Likewise in the extra layers and the predictors.
        norm_momentum: Batch normalisation's momentum in the backbone, in PyTorch's sense. The recipe's 3e-4 needs some
            ten thousand steps until the running statistics are right; a short run wants 0.03 or more.
        head_norm_momentum: Likewise in the extra layers and the predictors.
        score_threshold: Boxes that do not score more are no detections.
        iou_threshold: The largest overlap of two detections of a class.
        max_per_class: Detections of one class in an image, at most.
        max_per_image: Detections of an image, at most; COCO counts 100.
        optimization: As in :class:`NetworkTask`.
    """

    monitor: ClassVar[str] = "val/map"

    network: SSDLite

    def __init__(
        self,
        num_classes: int = 80,
        *,
        preset: PresetName | None = None,
        input_size: int | None = None,
        width_mult: float | None = None,
        padding: Padding | None = None,
        round_to: int | None = None,
        depth_mult: float | None = None,
        fixed_ends: bool | None = None,
        score_function: ScoreFunction | None = None,
        norm_eps: float | None = None,
        head_norm_eps: float | None = None,
        norm_momentum: float = 3e-4,
        head_norm_momentum: float = 3e-4,
        score_threshold: float = 1e-8,
        iou_threshold: float = 0.6,
        max_per_class: int = 100,
        max_per_image: int = 100,
        **optimization: Any,
    ) -> None:
        self.save_hyperparameters()
        super().__init__(**optimization)
        self.score_threshold = score_threshold
        self.iou_threshold = iou_threshold
        self.max_per_class = max_per_class
        self.max_per_image = max_per_image
        self.mean_ap = CocoMeanAP(num_classes)
        self.mean_loss = MeanLoss()

    def build_network(self) -> SSDLite:
        """Build the detector."""
        return ssdlite_mobilenet_v2(**set_options(ssdlite_mobilenet_v2, self.hparams))

    def setup(self, stage: str) -> None:
        """Take the class names from the data, and see that its images have the network's size.

        Raises:
            ValueError: They have not, or the data has another number of classes.
        """
        super().setup(stage)
        datamodule = self.trainer.datamodule  # type: ignore[attr-defined]
        size = datamodule.input_size if isinstance(datamodule, ImageDataModule) else None
        if size not in (None, self.network.input_size):
            raise ValueError(
                f"data.input_size must be that of the detector, {self.network.input_size}, got {size}: set one of "
                "data.input_size and model.input_size"
            )

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Give the loss of a batch.

        Raises:
            ValueError: The loss is not finite; the message names the batch's images.
        """
        losses = self._losses(self.network(batch.images), batch)
        # Nobody waits for it: matching and mining have asked the device before.
        if not losses.total.isfinite():
            raise ValueError(
                f"train/loss must be finite, got {losses.total.item()} in batch {batch_index} of epoch "
                f"{self.current_epoch}, images {', '.join(self._image_names(batch))}"
            )
        num_positives = losses.num_positives.sum().clamp(min=1)
        parts = {
            "train/localization": losses.localization.sum() / num_positives,
            "train/classification": losses.classification.sum() / num_positives,
        }
        self.log("train/loss", losses.total, prog_bar=True, batch_size=len(batch.images))
        self.log_dict(parts, batch_size=len(batch.images))
        return losses.total

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Take the rows of a batch in: loss and metric from the same pass."""
        predictions = self.network(batch.images)
        losses = self._losses(predictions, batch)
        self.mean_loss.update(losses.localization + losses.classification, losses.num_positives, batch.positions)
        self.mean_ap.update(batch.positions, self._detect(predictions, batch), batch.truths)

    test_step = validation_step

    def on_validation_epoch_end(self) -> None:
        """Measure and log the whole set."""
        self._conclude("val")

    def on_test_epoch_end(self) -> None:
        """Measure and log the whole set."""
        self._conclude("test")

    def _losses(self, predictions: RawPredictions, batch: Batch) -> MultiboxLoss:
        return multibox_loss(
            predictions,
            batch.boxes,
            batch.labels,
            self.network.anchors,
            score_function=self.network.score_function,
        )

    def _image_names(self, batch: Batch) -> list[str]:
        # The set that the positions count in; like the batches it is the data module's own.
        images = cast(Any, self.trainer.train_dataloader).dataset.images
        return [str(images[position].path) for position in batch.positions.tolist()]

    def _detect(self, predictions: RawPredictions, batch: Batch) -> tuple[Detections, ...]:
        selected = select_detections(
            decode_boxes(predictions.offsets, self.network.anchors),
            self.network.scores(predictions.logits),
            score_threshold=self.score_threshold,
            iou_threshold=self.iou_threshold,
            max_per_class=self.max_per_class,
            max_per_image=self.max_per_image,
        )
        size = self.network.input_size
        return rescale_detections(clip_detections(selected, size), batch.sizes, size)

    def _conclude(self, split: str) -> None:
        measured = self.mean_ap.compute()
        coco = measured.coco
        figures = {"loss": float(self.mean_loss.compute()), **coco.figures}
        for name, figure in figures.items():
            # Every process has the same figures; their maximum is exact, which their mean is not.
            shown = name in ("loss", "map", "map_50")
            self.log(f"{split}/{name}", figure, prog_bar=shown, sync_dist=True, reduce_fx="max")
        names = self.network.class_names or tuple(map(str, range(self.network.num_classes)))
        columns = zip(names, coco.map_per_class, coco.map_50_per_class, strict=True)
        self.report = Report(
            figures=figures,
            per_class={name: {"map": mean_ap, "map_50": ap_50} for name, mean_ap, ap_50 in columns},
            num_images=coco.num_images,
            details=describe(measured, names),
        )
        self.mean_ap.reset()
        self.mean_loss.reset()
