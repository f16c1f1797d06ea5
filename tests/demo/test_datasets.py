"""Generated scenes are on disk in the layouts of ImageNet, COCO and VOC, and the ordinary data modules read them."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from mobilevision.classification.datamodule import ImageNetDataModule
from mobilevision.demo.datasets import Layouts, crop_object, write_datasets
from mobilevision.demo.scenes import CLASS_NAMES, Scene, draw_scene
from mobilevision.detection.datamodule import CocoDataModule
from mobilevision.images import read_image
from mobilevision.segmentation.datamodule import VocDataModule

NUM_TRAIN, NUM_VAL = 24, 25


@pytest.fixture(scope="module")
def layouts(tmp_path_factory) -> Layouts:
    return write_datasets(tmp_path_factory.mktemp("demo") / "data", num_train=NUM_TRAIN, num_val=NUM_VAL, seed=0)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_seed_writes_the_same_files_and_replaces_those_of_another_run(layouts, tmp_path):
    folder = tmp_path / "data"
    write_datasets(folder, num_train=NUM_TRAIN + 1, num_val=NUM_VAL, seed=1)
    write_datasets(folder, num_train=NUM_TRAIN, num_val=NUM_VAL, seed=0)
    assert files_of(folder) == files_of(layouts.folder)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="choose another output folder"):
        write_datasets(tmp_path / "data", num_train=1, num_val=1)
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["thesis.tex"]


def test_train_and_val_share_no_image(layouts):
    train, val = (
        {path.read_bytes() for path in (layouts.coco / f"{split}2017").iterdir()} for split in ("train", "val")
    )
    assert (len(train), len(val), len(train | val)) == (NUM_TRAIN, NUM_VAL, NUM_TRAIN + NUM_VAL)


def test_coco_boxes_and_areas_are_those_of_the_visible_masks(layouts):
    annotations = json.loads((layouts.coco / "annotations" / "instances_train2017.json").read_text())
    rows = iter(annotations["annotations"])
    for index in range(NUM_TRAIN):
        scene = draw_scene(0, "train", index)
        for number, label in enumerate(scene.labels):
            row = next(rows)
            left, top, right, bottom = scene.box(number)
            assert row["image_id"] == index + 1
            assert row["bbox"] == [left, top, right - left, bottom - top]
            assert row["area"] == scene.visible(number).sum()
            assert annotations["categories"][label] == {"id": row["category_id"], "name": CLASS_NAMES[label]}
    assert next(rows, None) is None


# pycocotools hands numpy an array in a way that numpy 2 deprecates.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_coco_polygons_outline_the_masks_for_pycocotools(layouts):
    coco = COCO(str(layouts.coco / "annotations" / "instances_val2017.json"))
    for annotation in coco.loadAnns(coco.getAnnIds()):
        assert coco.annToMask(annotation).sum() == pytest.approx(annotation["area"], rel=0.25)


def test_voc_masks_are_palette_images_of_the_scenes_classes(layouts):
    names = (layouts.voc / "ImageSets" / "Segmentation" / "val.txt").read_text().split()
    assert len(names) == NUM_VAL
    for index, name in enumerate(names):
        scene = draw_scene(0, "val", index)
        with Image.open(layouts.voc / "SegmentationClass" / f"{name}.png") as file:
            assert file.mode == "P"
            assert np.array_equal(np.array(file), scene.mask)
        path = layouts.scene_path(NUM_TRAIN + 1 + index)
        assert path.name == f"{name}.jpg"
        assert np.abs(read_image(path).astype(int) - scene.image).mean() < 6


def test_an_object_that_shares_its_place_is_not_cropped():
    image = np.zeros((100, 100, 3), np.uint8)
    instances = np.zeros((100, 100), np.uint8)
    instances[40:60, 40:60] = 1
    alone = crop_object(Scene(image, instances, (0,)), 0)
    assert alone is not None
    assert alone.shape == (25, 25, 3)
    instances[38:62, 50:62] = 2
    assert crop_object(Scene(image, instances, (0, 1)), 0) is None


def test_the_ordinary_data_modules_read_all_three(layouts):
    classes = ("background", *CLASS_NAMES)
    options = {"batch_size": 4, "num_workers": 0}
    for data, names in (
        (ImageNetDataModule(str(layouts.classification), input_size=64, **options), CLASS_NAMES),
        (CocoDataModule(str(layouts.coco), input_size=160, **options), CLASS_NAMES),
        (VocDataModule(str(layouts.voc), train_split="train", classes=classes, input_size=161, **options), classes),
    ):
        data.setup("fit")
        assert data.class_names == names
        assert len(next(iter(data.train_dataloader())).images) == 4
        assert sum(len(batch.images) for batch in data.val_dataloader()) >= NUM_VAL
