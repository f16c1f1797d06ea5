"""Draw an overview of validation scenes: ground truth beside predictions."""

from collections.abc import Mapping
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from mobilevision.demo.datasets import Layouts
from mobilevision.demo.scenes import CLASS_NAMES, draw_scene
from mobilevision.images import find_images, read_image
from mobilevision.inference.drawing import draw_boxes, draw_mask, stack_grid
from mobilevision.inference.predictor import Predictor
from mobilevision.models import load_model

NUM_SCENES = 4
MIN_OBJECTS = 2


def draw_overview(layouts: Layouts, weights: Mapping[str, Path], path: Path) -> None:
    """Write a grid of images: a row for each of the first scenes with several objects, then a row of classified crops.

    Columns: true boxes, detections, true mask, predicted mask, results of the joint network.

    Args:
        layouts: The scenes.
        weights: The file of each network, by name.
        path: The file to write.
    """
    predictors = {name: Predictor(load_model(file)) for name, file in weights.items()}
    description = layouts.read_description()
    scenes = (draw_scene(description["seed"], "val", index) for index in range(description["num_val"]))
    numbered = enumerate(scenes, start=description["num_train"] + 1)
    rows = []
    for number, scene in islice((each for each in numbered if len(each[1].labels) >= MIN_OBJECTS), NUM_SCENES):
        image = read_image(layouts.scene_path(number))
        boxes = np.array([scene.box(index) for index in range(len(scene.labels))], np.float64)
        detected, segmented, joint = (
            predictors[name](image).draw(image) for name in ("detection", "segmentation", "multitask")
        )
        true_boxes = draw_boxes(image, boxes, np.array(scene.labels), class_names=CLASS_NAMES)
        true_mask = draw_mask(image, scene.mask, ("background", *CLASS_NAMES))
        rows.append([true_boxes, detected, true_mask, segmented, joint])
    crops = [crop for name in CLASS_NAMES for crop in find_images(layouts.classification / "val" / name)[:1]]
    images = [read_image(crop) for crop in crops[:NUM_SCENES]]
    rows.append([predictors["classification"](image).draw(image) for image in images])
    Image.fromarray(stack_grid(rows)).save(path)
