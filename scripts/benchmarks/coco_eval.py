"""COCO's protocol over a large dataset: this library against pycocotools, from arrays in memory to figures."""

import io
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mobilevision.detection.evaluator import coco_mean_ap
from mobilevision.detection.types import Result, Truth

NUM_CLASSES = 80
OBJECTS = 7
"""Objects in an image, on average, as COCO has them."""


def make_dataset(num_images: int, per_image: int, seed: int = 0) -> tuple[list[Result], list[Truth]]:
    """Draw objects, one of fifty a crowd, and ``per_image`` detections of each image, half of them near its objects."""
    generator = np.random.default_rng(seed)
    results, truths = [], []
    for _ in range(num_images):
        count = int(generator.poisson(OBJECTS))
        boxes = np.round(generator.uniform((0, 0, 5, 5), (500, 400, 200, 200), (count, 4)), 2)
        labels = generator.integers(0, NUM_CLASSES, count)
        areas = boxes[:, 2] * boxes[:, 3] * generator.uniform(0.4, 1, count)
        truths.append(Truth(boxes, labels, generator.random(count) < 0.02, areas))
        found = generator.uniform((0, 0, 5, 5), (500, 400, 200, 200), (per_image, 4))
        named = generator.integers(0, NUM_CLASSES, per_image)
        if count:
            near = generator.integers(0, count, per_image // 2)
            found[: len(near)] = boxes[near] + generator.normal(0, 6, (len(near), 4))
            found[:, 2:] = np.maximum(found[:, 2:], 1)
            named[: len(near)] = labels[near]
        results.append(Result(found, generator.random(per_image), named))
    return results, truths


def ours(num_images: int, per_image: int) -> Callable[[], list[float]]:
    """Prepare this library's evaluation of detections as arrays, to the twelve figures."""
    results, truths = make_dataset(num_images, per_image)
    return lambda: list(coco_mean_ap(results, truths, NUM_CLASSES).figures.values())


def peer(num_images: int, per_image: int) -> Callable[[], list[float]]:
    """Prepare pycocotools' evaluation of detections as its files hold them."""
    truth, found = as_coco(*make_dataset(num_images, per_image))

    def step() -> list[float]:
        with redirect_stdout(io.StringIO()):
            target = COCO()
            target.dataset = truth
            target.createIndex()
            evaluation = COCOeval(target, target.loadRes(found), "bbox")
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        return [float(figure) for figure in evaluation.stats]

    return step


def compare(ours: list[float], peer: list[float]) -> str:
    """Return the largest difference of the figures, in words."""
    return f"figures differ by {max(abs(own - theirs) for own, theirs in zip(ours, peer, strict=True)):.1e} at most"


def as_coco(results: list[Result], truths: list[Truth]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the dataset as pycocotools reads it from its JSON files."""
    objects, found = [], []
    for image_id, (result, truth) in enumerate(zip(results, truths, strict=True), start=1):
        for box, label, crowd, area in zip(*(column.tolist() for column in truth), strict=True):
            objects.append(
                {"image_id": image_id, "category_id": label, "bbox": box, "iscrowd": int(crowd), "area": area}
                | {"id": len(objects) + 1}
            )
        for box, score, label in zip(*(column.tolist() for column in result), strict=True):
            found.append({"image_id": image_id, "category_id": label, "bbox": box, "score": score})
    images = [{"id": image_id} for image_id in range(1, len(truths) + 1)]
    return {
        "images": images,
        "categories": [{"id": label} for label in range(NUM_CLASSES)],
        "annotations": objects,
    }, found
