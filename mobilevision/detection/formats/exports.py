"""Where programs write the annotations and images of a dataset with boxes."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

Format = Literal["coco", "voc", "yolo", "csv", "labelme"]
"""COCO's JSON, Pascal VOC's XML, YOLO's text, a table ``path,xmin,ymin,xmax,ymax,label``, or LabelMe's JSON files."""

Split = Literal["train", "val", "test"]

SPLIT_NAMES: Mapping[Split, tuple[str, ...]] = {"train": ("train",), "val": ("val", "valid"), "test": ("test",)}


class Layout(NamedTuple):
    """Where programs write the annotations and images of a split, with ``{}`` for its name."""

    title: str
    annotations: str
    images: str


LAYOUTS: Mapping[Format, tuple[Layout, ...]] = {
    "coco": (
        Layout("COCO 2017", "annotations/instances_{}2017.json", "{}2017"),
        Layout("COCO 2014", "annotations/instances_{}2014.json", "{}2014"),
        Layout("Roboflow COCO", "{}/_annotations.coco.json", "{}"),
        Layout("CVAT COCO", "annotations/instances_{}.json", "images/{}"),
        Layout("CVAT COCO", "annotations/instances_{}.json", "images"),
        Layout("COCO", "annotations/instances_{}.json", "{}"),
        Layout("COCO", "annotations/{}.json", "images/{}"),
        Layout("COCO", "annotations/{}.json", "{}"),
        Layout("COCO", "annotations/{}.json", "images"),
    ),
    "voc": (
        Layout("Pascal VOC", "ImageSets/Main/{}.txt", "JPEGImages"),
        Layout("Roboflow VOC", "{}", "{}"),
        Layout("VOC", "{}/annotations", "{}/images"),
    ),
    "yolo": (
        Layout("YOLO", "labels/{}", "images/{}"),
        Layout("Roboflow YOLO", "{}/labels", "{}/images"),
        Layout("YOLO lists", "{}.txt", ""),
        Layout("YOLO", "{}", "{}"),
    ),
    "csv": (Layout("CSV", "{}.csv", ""), Layout("Roboflow CSV", "{}/_annotations.csv", "{}")),
    "labelme": (
        Layout("LabelMe", "{}", "{}"),
        Layout("LabelMe", "annotations/{}", "images/{}"),
        Layout("LabelMe", "labels/{}", "images/{}"),
    ),
}
"""Where annotations and images of a split are unless the user gives other places, the usual place first."""

SINGLE: Mapping[Format, tuple[Layout, ...]] = {
    "coco": (
        Layout("CVAT COCO", "annotations/instances_default.json", "images/default"),
        Layout("CVAT COCO", "annotations/instances_default.json", "images"),
        Layout("Label Studio COCO", "result.json", ""),
        Layout("Roboflow COCO", "_annotations.coco.json", ""),
        Layout("COCO", "annotations.json", ""),
    ),
    "voc": (
        Layout("Pascal VOC", "ImageSets/Main/trainval.txt", "JPEGImages"),
        Layout("CVAT VOC", "ImageSets/Main/default.txt", "JPEGImages"),
        Layout("VOC", "Annotations", "JPEGImages"),
        Layout("VOC", "Annotations", "images"),
        Layout("VOC", "annotations", "images"),
        Layout("LabelImg VOC", "", ""),
    ),
    "yolo": (Layout("Label Studio YOLO", "labels", "images"), Layout("LabelImg YOLO", "", "")),
    "csv": (Layout("Roboflow CSV", "_annotations.csv", ""), Layout("CSV", "annotations.csv", "")),
    "labelme": (
        Layout("LabelMe", "", ""),
        Layout("LabelMe", "annotations", "images"),
        Layout("LabelMe", "labels", "images"),
    ),
}
"""Where datasets without splits have their annotations and images, which are all to train on."""
