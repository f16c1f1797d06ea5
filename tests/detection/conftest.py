"""A small dataset in four formats, and results and truths to measure."""

import json
import shutil

import cv2
import numpy as np
import pytest

from mobilevision.detection.types import Result, Truth

SIZES = {7: (60, 80), 3: (90, 50), 12: (64, 64)}
"""Height and width by image id; the file has them out of order, and the last one has no objects."""

CATEGORIES = [{"id": 44, "name": "kite"}, {"id": 5, "name": "boat"}]

ANNOTATIONS = [
    {"id": 1, "image_id": 7, "category_id": 44, "bbox": [10, 20, 30, 25], "area": 700, "iscrowd": 0},
    {"id": 2, "image_id": 3, "category_id": 5, "bbox": [0, 0, 50, 90], "area": 4000, "iscrowd": 0},
    {"id": 3, "image_id": 7, "category_id": 5, "bbox": [40, 5, 20, 10], "area": 200, "iscrowd": 1},
    {"id": 4, "image_id": 7, "category_id": 5, "bbox": [60, 30, 25, 20.5], "area": 400, "iscrowd": 0},
]

SPLITS = ("train", "val", "test")


class CocoFolder:
    """The dataset on disk, every split with the same images; ``data`` is written by :meth:`write`."""

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
        for split in SPLITS:
            (self.root / f"annotations/instances_{split}2017.json").write_text(json.dumps(self.data))
            for image in self.data["images"]:
                pixels = generator.integers(0, 256, (image["height"], image["width"], 3), dtype=np.uint8)
                path = self.root / f"{split}2017" / image["file_name"]
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), pixels)
        return self

    def rows(self):
        """Each image with its objects: the name of the class, the box, and whether it is a crowd."""
        names = {row["id"]: row["name"] for row in self.data["categories"]}
        for image in self.data["images"]:
            rows = [row for row in self.data["annotations"] if row["image_id"] == image["id"]]
            yield image, [(names[row["category_id"]], row["bbox"], row["iscrowd"]) for row in rows]


@pytest.fixture
def coco(tmp_path):
    return CocoFolder(tmp_path).write()


def write_voc(folder, root):
    """Write the dataset as Pascal VOC has it."""
    for part in ("ImageSets/Main", "Annotations"):
        (root / part).mkdir(parents=True)
    shutil.copytree(folder.images, root / "JPEGImages")
    for image, rows in folder.rows():
        objects = "".join(
            f"<object><name>{name}</name><difficult>{crowd}</difficult><bndbox>"
            f"<xmin>{x + 1}</xmin><ymin>{y + 1}</ymin><xmax>{x + width}</xmax><ymax>{y + height}</ymax>"
            "</bndbox></object>"
            for name, (x, y, width, height), crowd in rows
        )
        (root / "Annotations" / f"{image['id']:012}.xml").write_text(
            f"<annotation><filename>{image['file_name']}</filename><size><width>{image['width']}</width>"
            f"<height>{image['height']}</height><depth>3</depth></size>{objects}</annotation>"
        )
    for split in SPLITS:
        lines = "".join(f"{image['id']:012}\n" for image, _ in folder.rows())
        (root / "ImageSets/Main" / f"{split}.txt").write_text(lines)
    return root


def write_yolo(folder, root):
    """Write the dataset as YOLO has it; its crowd is an object like any other."""
    root.mkdir()
    (root / "data.yaml").write_text("train: ../images/train\nval: images/val\nnames: [boat, kite]\n")
    for split in SPLITS:
        shutil.copytree(folder.images, root / "images" / split)
        (root / "labels" / split).mkdir(parents=True)
        for image, rows in folder.rows():
            sides = image["width"], image["height"]
            text = "".join(
                f"{('boat', 'kite').index(name)} {(x + w / 2) / sides[0]} {(y + h / 2) / sides[1]} {w / sides[0]} "
                f"{h / sides[1]}\n"
                for name, (x, y, w, h), _ in rows
            )
            if rows:
                (root / "labels" / split / f"{image['id']:012}.txt").write_text(text)
    return root


def write_csv(folder, root):
    """Write the dataset as tables; its crowd is an object like any other."""
    shutil.copytree(folder.images, root / "files")
    lines = ["path,xmin,ymin,xmax,ymax,label"]
    for image, rows in folder.rows():
        path = f"files/{image['file_name']}"
        lines += [f"{path},{x},{y},{x + width},{y + height},{name}" for name, (x, y, width, height), _ in rows]
        lines += [] if rows else [f"{path},,,,,"]
    for split in SPLITS:
        (root / f"{split}.csv").write_text("\n".join(lines) + "\n")
    return root


WRITERS = {"voc": write_voc, "yolo": write_yolo, "csv": write_csv}


@pytest.fixture(params=WRITERS)
def other(request, coco, tmp_path):
    """The dataset in another format: its name and its folder."""
    return request.param, WRITERS[request.param](coco, tmp_path / request.param)


@pytest.fixture
def voc(coco, tmp_path):
    return write_voc(coco, tmp_path / "voc")


@pytest.fixture
def yolo(coco, tmp_path):
    return write_yolo(coco, tmp_path / "yolo")


@pytest.fixture
def table(coco, tmp_path):
    return write_csv(coco, tmp_path / "csv")


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
