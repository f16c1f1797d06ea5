"""One picture of held-out scenes: what is true beside what the networks say."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from mobilevision.demo.datasets import Layouts
from mobilevision.demo.scenes import CLASS_NAMES
from mobilevision.detection.coco import read_coco
from mobilevision.images import find_images, read_image
from mobilevision.inference.drawing import draw_boxes, draw_mask
from mobilevision.inference.predictor import Predictor
from mobilevision.models import load_model

Picture = UInt8[np.ndarray, "H W 3"]

NUM_SCENES = 4
GAP = 8


def draw_overview(layouts: Layouts, weights: Mapping[str, Path], path: Path) -> None:
    """Write a grid: a row for each of the first scenes with objects, then a row of classified cuttings.

    Columns: true boxes, detections, true mask, predicted mask, and all that the joint network says.
    """
    predictors = {name: Predictor(load_model(file)) for name, file in weights.items()}
    images = read_coco(layouts.coco / "annotations" / "instances_val2017.json", layouts.coco / "val2017")
    with_objects = [entry for entry in (images[place] for place in range(len(images))) if len(entry.labels) > 1]
    mask_names = ("background", *CLASS_NAMES)
    rows = []
    for entry in with_objects[:NUM_SCENES]:
        picture = read_image(entry.path)
        mask_path = layouts.voc / "SegmentationClass" / f"{entry.path.stem}.png"
        with Image.open(mask_path) as file:
            mask = np.array(file)
        rows.append(
            [
                draw_boxes(picture, entry.boxes, entry.labels, class_names=CLASS_NAMES),
                predictors["detection"](picture).draw(picture),
                draw_mask(picture, mask, mask_names),
                predictors["segmentation"](picture).draw(picture),
                predictors["multitask"](picture).draw(picture),
            ]
        )
    crops = [find_images(layouts.classification / "val" / name)[:1] for name in CLASS_NAMES]
    pictures = [read_image(crop) for found in crops for crop in found][:NUM_SCENES]
    rows.append([predictors["classification"](picture).draw(picture) for picture in pictures])
    Image.fromarray(stack_grid(rows)).save(path)


def stack_grid(rows: Sequence[Sequence[Picture]]) -> Picture:
    """Put pictures into rows on white, each at the top left of its cell."""
    height = [max(picture.shape[0] for picture in row) for row in rows]
    width = max(picture.shape[1] for row in rows for picture in row)
    columns = max(len(row) for row in rows)
    grid = np.full((sum(height) + GAP * (len(rows) + 1), columns * (width + GAP) + GAP, 3), 255, np.uint8)
    top = GAP
    for row, tall in zip(rows, height, strict=True):
        for column, picture in enumerate(row):
            left = GAP + column * (width + GAP)
            grid[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
        top += tall + GAP
    return grid
