"""Measure the predictions of any program with the official protocols of COCO and VOC 2012."""

import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from mobilevision.detection.analysis import analyze_detections
from mobilevision.detection.evaluator import coco_mean_ap
from mobilevision.detection.formats.annotations import CocoAnnotations, Row
from mobilevision.detection.formats.coco import number_column, read_annotations, read_json
from mobilevision.detection.formats.values import to_id
from mobilevision.detection.types import Result, Truth
from mobilevision.segmentation.boundary import boundary_f_scores
from mobilevision.segmentation.check import check_presence
from mobilevision.segmentation.evaluator import confusion_matrix, mean_boundary_f, mean_iou
from mobilevision.segmentation.layouts import VOC_CLASSES, VocLayout, find_files
from mobilevision.segmentation.masks import read_mask

NUM_THREADS = 8


def score_coco(annotations: Path, predictions: Path) -> dict[str, float]:
    """Compute COCO's twelve figures of detections, as pycocotools does.

    Args:
        annotations: A COCO annotation file; its images are not needed.
        predictions: JSON, a list of ``{"image_id", "category_id", "bbox": [x, y, width, height], "score"}``, possibly
            empty.

    Returns:
        Figures by torchmetrics' names: ``map``, ``map_50``, ..., ``mar_large``; -1 where there is nothing to measure.

    Raises:
        FileNotFoundError: One of the files is missing.
        ValueError: One of the files is not in COCO's format, or an image of the results is not annotated.
    """
    truth, truths, results = _read_coco(annotations, predictions)
    return dict(coco_mean_ap(results, truths, len(truth.categories)).figures)


def score_coco_in_detail(annotations: Path, predictions: Path) -> tuple[dict[str, float], dict[str, Any]]:
    """Compute the figures of :func:`score_coco`, and curves, confusions and kinds of errors.

    Args:
        annotations: A COCO annotation file.
        predictions: A COCO result file.

    Returns:
        The figures, and the details that :func:`mobilevision.detection.analysis.analyze_detections` returns.

    Raises:
        FileNotFoundError: One of the files is missing.
        ValueError: One of the files is not in COCO's format, or an image of the results is not annotated.
    """
    truth, truths, results = _read_coco(annotations, predictions)
    coco = coco_mean_ap(results, truths, len(truth.categories))
    return dict(coco.figures), analyze_detections(results, truths, coco.precision, truth.class_names)


def score_voc(root: Path, split: str, predictions: Path) -> dict[str, float]:
    """Compute VOC 2012's figures of predicted masks: one confusion matrix over the split, at the size of each mask.

    Args:
        root: The folder ``VOC2012``, or one that holds ``VOCdevkit/VOC2012``; its images are not needed.
        split: Name of a list in ``ImageSets/Segmentation``.
        predictions: Folder with a PNG mask of the same name for each id of the split.

    Returns:
        ``miou``, the mean over the classes of the ground truth; ``miou_voc``, the mean over all classes, which is NaN
        where one is absent; ``pixel_accuracy``; ``boundary_f``; and ``iou/<class>`` and ``boundary_f/<class>`` of each
        class, which are NaN for a class that is not in the ground truth.

    Raises:
        FileNotFoundError: The split, its masks or predictions are missing; the message counts and names them.
        ValueError: A mask is not a palette or gray PNG, differs in size from the ground truth, or has a value that is
            not a class; or no pixel of the ground truth is of a class beside one.
    """
    truths = VocLayout(root).find_masks(split)
    if not predictions.is_dir():
        raise FileNotFoundError(f"folder of predictions not found: {predictions}")
    predicted = find_files(predictions, list(truths))
    check_presence(f"{split} of {root}", list(truths.values()), VOC_CLASSES)
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        confusions, scores = zip(*pool.map(_compare_masks, truths.values(), predicted), strict=True)
    iou = mean_iou(torch.stack(confusions).sum(dim=0))
    boundary_f = mean_boundary_f(torch.from_numpy(np.stack(scores)).where(~iou.per_class.isnan(), torch.nan))
    return {
        "miou": float(iou.miou),
        "miou_voc": float(iou.miou_voc),
        "pixel_accuracy": float(iou.pixel_accuracy),
        "boundary_f": float(boundary_f.mean),
        **{f"iou/{name}": value for name, value in zip(VOC_CLASSES, iou.per_class.tolist(), strict=True)},
        **{f"boundary_f/{name}": value for name, value in zip(VOC_CLASSES, boundary_f.per_class.tolist(), strict=True)},
    }


def _read_coco(annotations: Path, predictions: Path) -> tuple[CocoAnnotations, list[Truth], list[Result]]:
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
    images = _find_places(path, rows, "image_id", truth.image_ids)
    if (images < 0).any():
        raise ValueError(f"{path}: {truth.path} has no image {rows[int(np.argmin(images))]['image_id']!r}")
    labels = _find_places(path, rows, "category_id", truth.category_ids)
    known = labels >= 0
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


def _find_places(path: Path, rows: Sequence[Row], key: str, ids: Sequence[int]) -> Int64[np.ndarray, " N"]:
    """Return the place of each row's id among ``ids``, -1 where it is not among them."""
    places: dict[int | None, int] = {number: place for place, number in enumerate(ids)}
    wanted = [to_id(row.get(key)) for row in rows]
    if None in wanted:
        raise ValueError(f"{path}: {key} must be a whole number, got {rows[wanted.index(None)].get(key)!r}")
    return np.array([places.get(number, -1) for number in wanted], dtype=np.int64)


def _compare_masks(truth: Path, predicted: Path) -> tuple[Int64[Tensor, "C C"], Float32[np.ndarray, " C"]]:
    num_classes = len(VOC_CLASSES)
    mask = torch.from_numpy(read_mask(truth, num_classes))
    guess = torch.from_numpy(read_mask(predicted, num_classes, ignored=False))
    if guess.shape != mask.shape:
        (height, width), (given_height, given_width) = mask.shape, guess.shape
        raise ValueError(f"{predicted} must be as large as {truth}, {width}x{height}, got {given_width}x{given_height}")
    return confusion_matrix(guess, mask, num_classes), boundary_f_scores(guess.numpy(), mask.numpy(), num_classes)
