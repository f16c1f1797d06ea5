"""A small set in COCO's layout."""

import json

import cv2
import numpy as np
import pytest

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
