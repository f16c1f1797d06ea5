"""COCO's twelve figures: equal to pycocotools, and the same on any number of processes."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from faster_coco_eval import COCO, COCOeval_faster
from jaxtyping import Float64, Int64
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat
from torchmetrics.utilities.distributed import gather_all_tensors

from mobilevision.detection.confusion import confusion_matrix
from mobilevision.detection.errors import ErrorSplit, split_errors
from mobilevision.detection.types import Detections, Result, Truth
from mobilevision.training.rows import distinct_rows

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
    """What was measured over a set.

    Attributes:
        figures: The twelve by name, -1 where there is nothing to measure, as pycocotools has it.
        precision: At each of the ten IoUs and the 101 recalls for each label, for objects of any size and up to 100
            detections; NaN for a class without objects.
        num_images: The images that were measured.
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


class DetectionFigures(NamedTuple):
    """All that is said of a set: COCO's figures, which classes are taken for which, and the kinds of errors."""

    coco: CocoFigures
    confusion: Int64[np.ndarray, "C+1 C+1"]
    errors: ErrorSplit


def coco_mean_ap(results: Sequence[Result], truths: Sequence[Truth], num_classes: int) -> CocoFigures:
    """Measure detections by COCO's protocol.

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


def measure_detections(results: Sequence[Result], truths: Sequence[Truth], num_classes: int) -> DetectionFigures:
    """Measure by COCO's protocol, and say what goes wrong; the arguments are those of :func:`coco_mean_ap`."""
    return DetectionFigures(
        coco_mean_ap(results, truths, num_classes),
        confusion_matrix(results, truths, num_classes),
        split_errors(results, truths, num_classes),
    )


class CocoMeanAP(Metric):
    """COCO's figures of a set that comes in batches, on any number of processes.

    Everything known of an image is kept as rows of one width, a head in front, so that one gather brings all together
    however few objects a process has seen.

    Args:
        num_classes: Labels, background not among them.
    """

    full_state_update = False

    rows: list[Tensor]

    def __init__(self, num_classes: int) -> None:
        super().__init__(dist_sync_fn=_gather_rows)
        self.num_classes = num_classes
        self.add_state("rows", default=[], dist_reduce_fx="cat")

    def update(self, positions: Int64[Tensor, " B"], detections: Sequence[Detections], truths: Sequence[Truth]) -> None:
        """Take a batch in.

        Args:
            positions: The images' places in the set, in ascending order of their ids.
            detections: What was found in each, xyxy in pixels of the file.
            truths: What is there.
        """
        for position, found, truth in zip(positions.cpu(), _found_rows(detections), truths, strict=True):
            columns = (truth.boxes_xywh, truth.labels, truth.areas, truth.crowd)
            true = _rows(TRUTH, *map(torch.from_numpy, columns))
            self.rows += [_rows(HEAD, position.reshape(1, 1)), found, true]

    def compute(self) -> DetectionFigures:
        """Measure all images, each once, in the order of their positions."""
        rows = dim_zero_cat(self.rows) if len(self.rows) else torch.zeros(0, NUM_COLUMNS)
        heads = (rows[:, 0] == HEAD).nonzero()[:, 0]
        _, order = distinct_rows(rows[heads, 1].long(), torch.arange(len(heads)))
        # There is nothing before the first head.
        images = np.split(rows.numpy(), heads.numpy())[1:]
        results, truths = [], []
        for index in order.tolist():
            image = images[index]
            found, true = image[image[:, 0] == FOUND], image[image[:, 0] == TRUTH]
            results.append(Result(found[:, 1:5], found[:, 6], found[:, 5].astype(np.int64)))
            truths.append(Truth(true[:, 1:5], true[:, 5].astype(np.int64), true[:, 7].astype(np.bool_), true[:, 6]))
        return measure_detections(results, truths, self.num_classes)


# A row: its kind, then for a head the position, for the others x, y, width, height, label, score or area, crowd.
HEAD, FOUND, TRUTH = 0.0, 1.0, 2.0
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


def _gather_rows(rows: Tensor, group: Any = None) -> list[Tensor]:
    # A process without images comes with torchmetrics' placeholder, which has another shape and type.
    rows = rows.reshape(-1, NUM_COLUMNS).double()
    on_gpu = torch.distributed.get_backend(group) == "nccl"
    return [part.cpu() for part in gather_all_tensors(rows.cuda() if on_gpu else rows.cpu(), group)]


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
