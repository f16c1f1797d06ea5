"""What is measured of detections beyond a table, as plain JSON values."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64

from mobilevision.detection import confusion, errors
from mobilevision.detection.metrics import DetectionFigures


def describe(measured: DetectionFigures, class_names: Sequence[str]) -> dict[str, Any]:
    """Write curves, confusions and errors out, with the thresholds that they were measured at.

    Args:
        measured: Of a set.
        class_names: Of each label.

    Returns:
        ``precision_recall``: by class the precision at 101 recalls from 0 to 1, at an IoU of 0.5 (``iou_50``) and on
        average over the ten IoUs (``iou_50_95``); None for a class without objects. ``confusion``: ``counts``, a row
        for each true class, a column for each class that it was taken for, background last in both. ``errors``: for
        each kind a count and its cost, see :func:`mobilevision.detection.errors.split_errors`.
    """
    precision = measured.coco.precision
    return {
        "precision_recall": {
            "iou_50": _curves(precision[0], class_names),
            "iou_50_95": _curves(precision.mean(axis=0), class_names),
        },
        "confusion": {
            "score_threshold": confusion.SCORE_THRESHOLD,
            "iou_threshold": confusion.IOU_THRESHOLD,
            "classes": [*class_names, "background"],
            "counts": measured.confusion.tolist(),
        },
        "errors": {
            "foreground_threshold": errors.FOREGROUND_THRESHOLD,
            "background_threshold": errors.BACKGROUND_THRESHOLD,
            "map_50": _or_none(measured.errors.map_50),
            "kinds": {
                name: {"count": kind.num_errors, "lost_map_50": _or_none(kind.cost)}
                for name, kind in measured.errors.kinds.items()
            },
        },
    }


def _curves(precision: Float64[np.ndarray, "R C"], class_names: Sequence[str]) -> dict[str, list[float | None] | None]:
    curves = zip(class_names, precision.T.tolist(), strict=True)
    return {name: None if math.isnan(curve[0]) else curve for name, curve in curves}


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
