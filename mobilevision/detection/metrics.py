"""COCO's twelve figures: equal to pycocotools, and the same on any number of processes."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.detection import MeanAveragePrecision
from torchmetrics.utilities import dim_zero_cat
from torchmetrics.utilities.distributed import gather_all_tensors

from mobilevision.detection.types import Detections, Truth
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
"""The names of the figures, in the order in which pycocotools prints them."""

# torchmetrics' own thresholds are rounded to float32, so that an IoU of 0.6 would not reach the threshold 0.6.
IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10).tolist()
RECALL_THRESHOLDS = np.linspace(0.0, 1.0, 101).tolist()


class Result(NamedTuple):
    """What is claimed of one image, in pixels of the file, as a COCO result file has it."""

    boxes_xywh: Float64[np.ndarray, "N 4"]
    scores: Float64[np.ndarray, " N"]
    labels: Int64[np.ndarray, " N"]


class CocoFigures(NamedTuple):
    """What was measured over a set.

    Attributes:
        figures: The twelve by name, -1 where there is nothing to measure, as pycocotools has it.
        map_per_class: COCO's mean AP of each label; NaN for a class without objects.
        map_50_per_class: Likewise at an IoU of 0.5.
        num_images: The images that were measured.
    """

    figures: Mapping[str, float]
    map_per_class: tuple[float, ...]
    map_50_per_class: tuple[float, ...]
    num_images: int


def coco_mean_ap(results: Sequence[Result], truths: Sequence[Truth], num_classes: int) -> CocoFigures:
    """Measure detections by COCO's protocol.

    Args:
        results: Of each image, in ascending order of the images' ids, which decides between equal scores.
        truths: Of the same images.
        num_classes: The labels that ``map_per_class`` tells of.

    >>> truth = Truth(np.array([[0.0, 0, 9, 9]]), np.array([0]), np.array([False]), np.array([81.0]))
    >>> result = Result(truth.boxes_xywh, np.array([0.9]), truth.labels)
    >>> measured = coco_mean_ap([result], [truth], num_classes=1)
    >>> measured.figures["map"], measured.figures["map_large"]
    (1.0, -1.0)
    """
    metric = MeanAveragePrecision(
        box_format="xywh",
        iou_thresholds=IOU_THRESHOLDS,
        rec_thresholds=RECALL_THRESHOLDS,
        extended_summary=True,
        backend="faster_coco_eval",
        sync_on_compute=False,
    )
    metric.warn_on_many_detections = False
    metric.update([_as_prediction(result) for result in results], [_as_target(truth) for truth in truths])
    summary = metric.compute()
    precision = _precision_by_label(summary, num_classes)
    return CocoFigures(
        figures={name: float(summary[name]) for name in FIGURES},
        map_per_class=_mean_by_label(precision),
        map_50_per_class=_mean_by_label(precision[:1]),
        num_images=len(truths),
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

    def compute(self) -> CocoFigures:
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
        return coco_mean_ap(results, truths, self.num_classes)


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


def _as_prediction(result: Result) -> dict[str, Tensor]:
    columns = {"boxes": result.boxes_xywh, "scores": result.scores, "labels": result.labels}
    return {name: torch.from_numpy(column) for name, column in columns.items()}


def _as_target(truth: Truth) -> dict[str, Tensor]:
    # torchmetrics takes the box's area for an area of 0; the smallest number above it counts as 0 does.
    areas = np.maximum(truth.areas, np.finfo(np.float64).tiny)
    columns = {"boxes": truth.boxes_xywh, "labels": truth.labels, "iscrowd": truth.crowd, "area": areas}
    return {name: torch.from_numpy(column) for name, column in columns.items()}


def _precision_by_label(summary: Mapping[str, Tensor], num_classes: int) -> Float64[Tensor, "T R C"]:
    precision = torch.full((len(IOU_THRESHOLDS), len(RECALL_THRESHOLDS), num_classes), -1.0, dtype=torch.float64)
    if "precision" in summary:
        # All areas, up to 100 detections.
        precision[:, :, summary["classes"].long().reshape(-1)] = summary["precision"][:, :, :, 0, -1]
    return precision


def _mean_by_label(precision: Float64[Tensor, "T R C"]) -> tuple[float, ...]:
    means = torch.where(precision > -1, precision, torch.nan).nanmean(dim=(0, 1))
    return tuple(means.tolist())
