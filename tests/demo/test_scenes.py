"""Scenes are the same every time, and their ground truth is what is drawn."""

import cv2
import numpy as np
import pytest

from mobilevision.demo.scenes import CLASS_NAMES, SCENE_SIDE, Scene, draw_scene, polygon_area, rasterize
from mobilevision.demo.shapes import SHAPES

SCENES = [draw_scene(0, "train", index) for index in range(100)]


def test_the_same_arguments_draw_the_same_scene():
    again = draw_scene(0, "train", 3)
    assert np.array_equal(again.image, SCENES[3].image)
    assert np.array_equal(again.instances, SCENES[3].instances)
    assert again.labels == SCENES[3].labels


@pytest.mark.parametrize("arguments", [(0, "val", 3), (1, "train", 3), (0, "train", 4)])
def test_another_seed_split_or_index_draws_another_scene(arguments):
    assert not np.array_equal(draw_scene(*arguments).image, SCENES[3].image)


def test_there_are_at_least_six_classes_and_all_of_them_are_drawn():
    assert len(CLASS_NAMES) >= 6
    assert {label for scene in SCENES for label in scene.labels} == set(range(len(CLASS_NAMES)))


def test_classes_are_in_the_order_of_folders_sorted_by_name():
    assert list(CLASS_NAMES) == sorted(CLASS_NAMES)


def test_every_object_is_visible():
    for scene in SCENES:
        assert scene.image.shape == (SCENE_SIDE, SCENE_SIDE, 3)
        assert set(np.unique(scene.instances)) - {0} == set(range(1, len(scene.labels) + 1))


def test_some_objects_overlap_and_some_scenes_are_empty():
    boxes = [[scene.box(number) for number in range(len(scene.labels))] for scene in SCENES]
    assert [] in boxes
    assert any(
        first[0] < second[2] and second[0] < first[2] and first[1] < second[3] and second[1] < first[3]
        for found in boxes
        for index, first in enumerate(found)
        for second in found[:index]
    )


def test_mask_visible_part_and_box_by_hand():
    instances = np.zeros((9, 12), np.uint8)
    instances[0, 0] = 1
    instances[2:5, 3] = instances[4, 3:9] = 2
    scene = Scene(np.zeros((9, 12, 3), np.uint8), instances, (4, 1))
    assert (scene.mask[0, 0], scene.mask[3, 3], scene.mask[8, 8]) == (5, 2, 0)
    assert np.array_equal(scene.visible(1), instances == 2)
    assert scene.box(1) == (3, 2, 9, 5)
    assert not Scene(scene.image, np.zeros_like(instances), ()).mask.any()


def test_a_square_is_rasterized_to_the_pixel():
    cover = rasterize(np.array([(2, 3), (6, 3), (6, 8), (2, 8)], float), 10)
    expected = np.zeros((10, 10))
    expected[3:8, 2:6] = 1
    assert np.abs(cover - expected).max() < 0.3
    assert np.array_equal(cover >= 0.5, expected >= 0.5)


@pytest.mark.parametrize("name", CLASS_NAMES)
def test_a_shape_covers_its_area(name):
    outline = SHAPES[name]() * 30 + 50
    assert rasterize(outline, 100).sum() == pytest.approx(polygon_area(outline), rel=0.03)


def test_the_area_of_a_triangle():
    assert polygon_area(np.array([(0, 0), (4, 0), (0, 3)], float)) == 6


def test_objects_differ_from_their_surroundings():
    scene = next(scene for scene in SCENES if scene.labels)
    top_object = scene.visible(len(scene.labels) - 1).astype(np.uint8)
    edge = cv2.morphologyEx(top_object, cv2.MORPH_GRADIENT, None)
    smooth = cv2.GaussianBlur(scene.image, (0, 0), 1)
    steps = np.abs(np.diff(smooth.astype(float).mean(axis=2), axis=1, prepend=0))
    assert steps[edge > 0].mean() > 2 * steps.mean()
