"""COCO's figures of a whole dataset: equal to pycocotools, and the same on any number of processes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from faster_coco_eval import COCO, COCOeval_faster
from jaxtyping import Float64
from torch import Tensor

from mobilevision.detection.analysis import analyze_detections
from mobilevision.detection.criterion import DetectionCriterion
from mobilevision.detection.types import DetectionBatch, Detections, DetectorOutput, Result, Truth
from mobilevision.head import Selection
from mobilevision.training.evaluation import Evaluator, Report, distinct_rows, gather_rows, mean_loss

FIGURES = (
    "map",
    "map_50",
    "map_75",
    "map_small",
    "map_medium",
    "map_large",
    "mar_1",
    "mar_10",
    "mar_100",
    "mar_small",
    "mar_medium",
    "mar_large",
)
"""torchmetrics' names of the figures, in the order in which pycocotools prints them."""


class CocoFigures(NamedTuple):
    """COCO's figures of a dataset.

    Attributes:
        figures: The twelve by name, -1 where there is nothing to measure, as pycocotools has it.
        precision: At each of the ten IoUs and the 101 recalls for each label, for objects of any size and up to 100
            detections; NaN for a class without objects.
        num_images: Images that were evaluated.
    """

    figures: Mapping[str, float]
    precision: Float64[np.ndarray, "T R C"]
    num_images: int

    @property
    def map_per_class(self) -> tuple[float, ...]:
        """COCO's mean AP of each label; NaN for a class without objects."""
        return tuple(self.precision.mean(axis=(0, 1)).tolist())

    @property
    def map_50_per_class(self) -> tuple[float, ...]:
        """AP at an IoU of 0.5 of each label; NaN for a class without objects."""
        return tuple(self.precision[0].mean(axis=0).tolist())


def coco_mean_ap(results: Sequence[Result], truths: Sequence[Truth], num_classes: int) -> CocoFigures:
    """Compute COCO's figures of detections.

    Args:
        results: Of each image, in ascending order of the images' ids, which decides between equal scores.
        truths: Of the same images.
        num_classes: Labels; detections and objects of others do not count.

    >>> truth = Truth(np.array([[0.0, 0, 9, 9]]), np.array([0]), np.array([False]), np.array([81.0]))
    >>> result = Result(truth.boxes_xywh, np.array([0.9]), truth.labels)
    >>> measured = coco_mean_ap([result], [truth], num_classes=1)
    >>> measured.figures["map"], measured.figures["map_large"]
    (1.0, -1.0)
    """
    objects = [
        {"image_id": image, "category_id": label, "bbox": box, "area": area, "iscrowd": int(crowd)}
        for image, truth in enumerate(truths)
        for box, label, crowd, area in zip(*(column.tolist() for column in truth), strict=True)
    ]
    found = [
        {"image_id": image, "category_id": label, "bbox": box, "area": box[2] * box[3], "iscrowd": 0, "score": score}
        for image, result in enumerate(results)
        for box, score, label in zip(*(column.tolist() for column in result), strict=True)
    ]
    target, claim = (_index(rows, len(truths), num_classes) for rows in (objects, found))
    evaluation: Any = COCOeval_faster(target, claim, iouType="bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    # All areas, up to 100 detections.
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    return CocoFigures(
        figures=dict(zip(FIGURES, evaluation.stats.tolist(), strict=True)),
        precision=np.where(precision < 0, np.nan, precision),
        num_images=len(truths),
    )


class DetectionEvaluator(Evaluator):
    """Evaluator of a detector by COCO's protocol.

    All boxes of an image are rows of one width, a row with the image's position in front, so that one gather brings
    everything together however few objects a process has seen.

    Args:
        num_classes: Labels, background not among them.
        class_names: Their names, or none.
        criterion: Computes the loss of each image.
        postprocess: From a head's outputs, the files' sizes and a selection to detections in pixels of the files.
        selection: Which boxes are detections; COCO counts 100 in an image.
    """

    boxes: list[Tensor]

    def __init__(
        self,
        num_classes: int,
        class_names: Sequence[str] = (),
        *,
        criterion: DetectionCriterion,
        postprocess: Callable[..., Sequence[Detections]],
        selection: Selection,
    ) -> None:
        columns = {"losses": ((), torch.float32), "num_positives": ((), torch.int64)}
        super().__init__(num_classes, class_names, columns=columns)
        self.add_state("boxes", default=[], dist_reduce_fx="cat")
        self.selection = selection
        # Plain functions: as modules they would be in every checkpoint twice.
        self._per_image_losses = criterion.per_image
        self._postprocess = postprocess

    def update(self, outputs: DetectorOutput, batch: DetectionBatch) -> None:
        """Add the images of a batch by the offsets and logits of their anchors."""
        losses = self._per_image_losses(outputs, batch)
        self.add_rows(
            batch.positions, losses=losses.localization + losses.classification, num_positives=losses.num_positives
        )
        detections = self._postprocess(outputs, batch.sizes, self.selection)
        for position, found, truth in zip(batch.positions.cpu(), _found_rows(detections), batch.truths, strict=True):
            columns = (truth.boxes_xywh, truth.labels, truth.areas, truth.crowd)
            true = _rows(TRUTH, *map(torch.from_numpy, columns))
            self.boxes += [_rows(IMAGE, position.reshape(1, 1)), found, true]

    def compute(self) -> Report:
        """Return the loss and COCO's twelve figures, and the AP of each class."""
        results, truths = self.collect()
        coco = coco_mean_ap(results, truths, self.num_classes)
        rows = self.rows()
        aps = zip(self.names, coco.map_per_class, coco.map_50_per_class, strict=True)
        return Report(
            figures={"loss": mean_loss(rows["losses"], rows["num_positives"]), **coco.figures},
            per_class={name: {"map": mean_ap, "map_50": ap_50} for name, mean_ap, ap_50 in aps},
            num_images=coco.num_images,
        )

    def analyze(self) -> dict[str, Any]:
        """Return precision-recall curves, the confusion matrix and the kinds of errors, as plain JSON values."""
        results, truths = self.collect()
        precision = coco_mean_ap(results, truths, self.num_classes).precision
        return analyze_detections(results, truths, precision, self.names)

    def collect(self) -> tuple[list[Result], list[Truth]]:
        """Return detections and annotations of all images, each once, in the order of their positions."""
        boxes = gather_rows(torch.cat([torch.zeros(0, NUM_COLUMNS, dtype=torch.float64), *self.boxes]), self.device)
        starts = (boxes[:, 0] == IMAGE).nonzero()[:, 0]
        _, order = distinct_rows(boxes[starts, 1].long(), torch.arange(len(starts)))
        # There is nothing before the first image.
        images = np.split(boxes.numpy(), starts.numpy())[1:]
        results, truths = [], []
        for index in order.tolist():
            image = images[index]
            found, true = image[image[:, 0] == FOUND], image[image[:, 0] == TRUTH]
            results.append(Result(found[:, 1:5], found[:, 6], found[:, 5].astype(np.int64)))
            truths.append(Truth(true[:, 1:5], true[:, 5].astype(np.int64), true[:, 7].astype(np.bool_), true[:, 6]))
        return results, truths


# A row: its kind, then for an image its position, for the others x, y, width, height, label, score or area, crowd.
IMAGE, FOUND, TRUTH = 0.0, 1.0, 2.0
NUM_COLUMNS = 8


def _rows(kind: float, *columns: Tensor) -> Float64[Tensor, "N 8"]:
    values = torch.cat([column.double().unsqueeze(-1).flatten(1) for column in columns], dim=1)
    rows = torch.zeros(len(values), NUM_COLUMNS, dtype=torch.float64)
    rows[:, 0] = kind
    rows[:, 1 : 1 + values.shape[1]] = values
    return rows


def _found_rows(detections: Sequence[Detections]) -> tuple[Float64[Tensor, "N 8"], ...]:
    # To the CPU at once: three copies for the batch, and not every accelerator has float64.
    boxes, scores, labels = (torch.cat(column).cpu() for column in zip(*detections, strict=True))
    corners = boxes.double()
    rows = _rows(FOUND, corners[:, :2], corners[:, 2:] - corners[:, :2], labels, scores)
    return torch.split(rows, [len(found.labels) for found in detections])


def _index(rows: list[dict[str, Any]], num_images: int, num_classes: int) -> Any:
    # 0 is "no object" to the evaluation.
    for identity, row in enumerate(rows, start=1):
        row["id"] = identity
    index: Any = COCO()
    index.dataset = {
        "images": [{"id": image} for image in range(num_images)],
        "categories": [{"id": label} for label in range(num_classes)],
        "annotations": rows,
    }
    index.createIndex()
    return index
