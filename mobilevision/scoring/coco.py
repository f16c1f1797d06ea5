"""Measure a COCO result file."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64

from mobilevision.detection.analysis import describe
from mobilevision.detection.annotations import CocoAnnotations, number_column, read_annotations, read_json
from mobilevision.detection.evaluator import coco_mean_ap, measure_detections
from mobilevision.detection.types import Result, Truth


class CocoScore(NamedTuple):
    """Figures and details of a COCO result file.

    Attributes:
        figures: The twelve by torchmetrics' names: ``map``, ``map_50``, ..., ``mar_large``; -1 where there is nothing
            to measure.
        details: Curves, confusions and kinds of errors, see :func:`mobilevision.detection.analysis.describe`.
    """

    figures: dict[str, float]
    details: dict[str, Any]


def score_coco(annotations: Path, predictions: Path) -> dict[str, float]:
    """Compute COCO's figures of detections, as pycocotools does.

    Args:
        annotations: A COCO annotation file; its images are not needed.
        predictions: JSON, a list of ``{"image_id", "category_id", "bbox": [x, y, width, height], "score"}``, possibly
            empty.

    Returns:
        The ``figures`` of :class:`CocoScore`.

    Raises:
        FileNotFoundError: One of the files is missing.
        ValueError: One of the files is not in COCO's format, or the results name an image that is not annotated.
    """
    truth, truths, results = _read(annotations, predictions)
    return dict(coco_mean_ap(results, truths, len(truth.categories)).figures)


def score_coco_in_detail(annotations: Path, predictions: Path) -> CocoScore:
    """Compute the figures of :func:`score_coco`, and curves, confusions and kinds of errors.

    Args:
        annotations: A COCO annotation file; its images are not needed.
        predictions: A COCO result file.

    Raises:
        FileNotFoundError: One of the files is missing.
        ValueError: One of the files is not in COCO's format, or the results name an image that is not annotated.
    """
    truth, truths, results = _read(annotations, predictions)
    measured = measure_detections(results, truths, len(truth.categories))
    return CocoScore(dict(measured.coco.figures), describe(measured, truth.class_names))


def _read(annotations: Path, predictions: Path) -> tuple[CocoAnnotations, list[Truth], list[Result]]:
    truth = read_annotations(annotations)
    if 0 in truth.ids:
        warnings.warn(
            f"{annotations}: pycocotools counts what matches the annotation of id 0 as a false positive; here it "
            "counts as a true positive",
            stacklevel=3,
        )
    truths = [truth.truth(index) for index in range(len(truth.images))]
    return truth, truths, _read_results(predictions, truth)


def _read_results(path: Path, truth: CocoAnnotations) -> list[Result]:
    rows = read_json(path)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(
            f"{path} is not a COCO result file: expected a list of objects with image_id, category_id, bbox and score"
        )
    images, known = _find(number_column(path, rows, "image_id"), truth.image_ids)
    if not known.all():
        raise ValueError(f"{path}: {truth.path} has no image {rows[int(np.argmin(known))]['image_id']}")
    labels, known = _find(number_column(path, rows, "category_id"), truth.category_ids)
    if not known.all():
        # pycocotools ignores them silently; most often they are labels where ids should be.
        warnings.warn(
            f"{path}: {len(rows) - known.sum()} of {len(rows)} detections are of categories that {truth.path} does not "
            "have, and are ignored",
            stacklevel=4,
        )
    columns = (number_column(path, rows, "bbox", shape=(4,)), number_column(path, rows, "score"), labels)
    # Image by image, each in the order of the file, which breaks ties between scores.
    order = np.argsort(images, kind="stable")
    order = order[known[order]]
    ends = np.searchsorted(images[order], np.arange(len(truth.images)), side="right").tolist()
    parts = (np.split(column[order], ends)[:-1] for column in columns)
    return [Result(*part) for part in zip(*parts, strict=True)]


def _find(
    wanted: Float64[np.ndarray, " N"], ids: Sequence[int]
) -> tuple[Int64[np.ndarray, " N"], Bool[np.ndarray, " N"]]:
    """Return the place of each wanted id among the ascending ``ids``, and whether it is among them at all."""
    return np.searchsorted(ids, wanted), np.isin(wanted, ids)
