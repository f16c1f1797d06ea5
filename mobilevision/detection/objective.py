"""The multibox loss to train the detector; COCO's mean average precision to measure it."""

from collections.abc import Sequence

from mobilevision.detection.boxes import decode_boxes
from mobilevision.detection.details import describe
from mobilevision.detection.loss import MultiboxLoss, multibox_loss
from mobilevision.detection.metrics import CocoMeanAP
from mobilevision.detection.postprocess import clip_detections, rescale_detections, select_detections
from mobilevision.detection.ssdlite import SSDLite
from mobilevision.detection.types import Batch, Detections, RawPredictions
from mobilevision.training.mean_loss import MeanLoss
from mobilevision.training.objective import Loss, Objective
from mobilevision.training.report import Report


class DetectionObjective(Objective):
    """Find the objects in a picture.

    Args:
        num_classes: Classes of objects, without background.
        score_threshold: Boxes that do not score more are no detections.
        iou_threshold: The largest overlap of two detections of a class.
        max_per_class: Detections of one class in an image, at most.
        max_per_image: Detections of an image, at most; COCO counts 100.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        score_threshold: float = 1e-8,
        iou_threshold: float = 0.6,
        max_per_class: int = 100,
        max_per_image: int = 100,
    ) -> None:
        super().__init__()
        self.score_threshold = score_threshold
        self.iou_threshold = iou_threshold
        self.max_per_class = max_per_class
        self.max_per_image = max_per_image
        self.mean_ap = CocoMeanAP(num_classes)
        self.mean_loss = MeanLoss()

    def loss(self, network: SSDLite, predictions: RawPredictions, batch: Batch) -> Loss:
        """Compare every anchor's prediction with the box it is matched with."""
        losses = _compare(network, predictions, batch)
        num_positives = losses.num_positives.sum().clamp(min=1)
        parts = {
            "localization": losses.localization.sum() / num_positives,
            "classification": losses.classification.sum() / num_positives,
        }
        return Loss(losses.total, parts)

    def measure(self, network: SSDLite, predictions: RawPredictions, batch: Batch) -> None:
        """Take in the rows of a batch."""
        losses = _compare(network, predictions, batch)
        self.mean_loss.update(losses.localization + losses.classification, losses.num_positives, batch.positions)
        self.mean_ap.update(batch.positions, self._detect(network, predictions, batch), batch.truths)

    def conclude(self, class_names: Sequence[str]) -> Report:
        """Measure the whole set, and forget it."""
        measured = self.mean_ap.compute()
        coco = measured.coco
        columns = zip(class_names, coco.map_per_class, coco.map_50_per_class, strict=True)
        report = Report(
            figures={"loss": float(self.mean_loss.compute()), **coco.figures},
            per_class={name: {"map": mean_ap, "map_50": ap_50} for name, mean_ap, ap_50 in columns},
            num_images=coco.num_images,
            details=describe(measured, tuple(class_names)),
        )
        self.mean_ap.reset()
        self.mean_loss.reset()
        return report

    def _detect(self, network: SSDLite, predictions: RawPredictions, batch: Batch) -> tuple[Detections, ...]:
        selected = select_detections(
            decode_boxes(predictions.offsets, network.anchors),
            network.scores(predictions.logits),
            score_threshold=self.score_threshold,
            iou_threshold=self.iou_threshold,
            max_per_class=self.max_per_class,
            max_per_image=self.max_per_image,
        )
        size = network.input_size
        return rescale_detections(clip_detections(selected, size), batch.sizes, size)


def _compare(network: SSDLite, predictions: RawPredictions, batch: Batch) -> MultiboxLoss:
    return multibox_loss(predictions, batch.boxes, batch.labels, network.anchors, score_function=network.score_function)
