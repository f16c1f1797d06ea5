"""A small set in COCO's layout."""

import json

import cv2
import numpy as np
import pytest

from mobilevision.detection.types import Result, Truth

SIZES = {7: (60, 80), 3: (90, 50), 12: (64, 64)}
"""Height and width by image id; the file names them out of order, and the last one has no objects."""

CATEGORIES = [{"id": 44, "name": "kite"}, {"id": 5, "name": "boat"}]

ANNOTATIONS = [
    {"id": 1, "image_id": 7, "category_id": 44, "bbox": [10, 20, 30, 25], "area": 700, "iscrowd": 0},
    {"id": 2, "image_id": 3, "category_id": 5, "bbox": [0, 0, 50, 90], "area": 4000, "iscrowd": 0},
    {"id": 3, "image_id": 7, "category_id": 5, "bbox": [40, 5, 20, 10], "area": 200, "iscrowd": 1},
    {"id": 4, "image_id": 7, "category_id": 5, "bbox": [60, 30, 25, 20.5], "area": 400, "iscrowd": 0},
]


class CocoFolder:
    """The set on disk; ``data`` is what its annotation files say when :meth:`write` is called."""

    def __init__(self, root):
        self.root = root
        self.annotations = root / "annotations/instances_val2017.json"
        self.images = root / "val2017"
        self.data = {
            "images": [
                {"id": image_id, "file_name": f"{image_id:012}.png", "height": height, "width": width}
                for image_id, (height, width) in SIZES.items()
            ],
            "annotations": [dict(annotation) for annotation in ANNOTATIONS],
            "categories": [dict(category) for category in CATEGORIES],
        }

    def write(self):
        generator = np.random.default_rng(0)
        self.annotations.parent.mkdir(exist_ok=True)
        for split in ("train2017", "val2017"):
            (self.root / f"annotations/instances_{split}.json").write_text(json.dumps(self.data))
            (self.root / split).mkdir(exist_ok=True)
            for image in self.data["images"]:
                pixels = generator.integers(0, 256, (image["height"], image["width"], 3), dtype=np.uint8)
                cv2.imwrite(str(self.root / split / image["file_name"]), pixels)
        return self


@pytest.fixture
def coco(tmp_path):
    return CocoFolder(tmp_path).write()


def build_truth(boxes_xywh, labels, crowd=None):
    boxes = np.array(boxes_xywh, dtype=np.float64).reshape(-1, 4)
    crowd = np.zeros(len(boxes), dtype=np.bool_) if crowd is None else np.array(crowd, dtype=np.bool_)
    return Truth(boxes, np.array(labels, dtype=np.int64), crowd, boxes[:, 2] * boxes[:, 3])


def build_result(boxes_xywh, scores, labels):
    boxes = np.array(boxes_xywh, dtype=np.float64).reshape(-1, 4)
    return Result(boxes, np.array(scores, dtype=np.float64), np.array(labels, dtype=np.int64))


def build_set(num_images, num_classes=3, seed=0, *, num_scores=None):
    """Truths, some of them empty or crowds, and results near them, near others, and anywhere."""
    rng = np.random.default_rng(seed)
    results, truths = [], []
    for index in range(num_images):
        count = 0 if index % 4 == 1 else int(rng.integers(1, 6))
        boxes = rng.uniform((0, 0, 5, 5), (200, 200, 120, 120), (count, 4)).round()
        labels = rng.integers(0, num_classes, count)
        truths.append(build_truth(boxes, labels, rng.random(count) < 0.2))
        found = np.repeat(boxes, 3, axis=0) + rng.normal(0, 8, (3 * count, 4))
        found = np.concatenate([found, rng.uniform((0, 0, 5, 5), (200, 200, 120, 120), (3, 4))])
        found[:, 2:] = np.maximum(found[:, 2:], 1)
        names = np.concatenate([np.repeat(labels, 3), rng.integers(0, num_classes, 3)])
        names = np.where(rng.random(len(names)) < 0.7, names, rng.integers(0, num_classes, len(names)))
        scores = rng.random(len(found)) if num_scores is None else rng.integers(1, num_scores, len(found)) / num_scores
        results.append(Result(found, scores, names))
    return results, truths


@pytest.fixture
def make_truth():
    return build_truth


@pytest.fixture
def make_result():
    return build_result


@pytest.fixture
def random_set():
    return build_set
