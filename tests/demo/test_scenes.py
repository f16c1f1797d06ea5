"""Scenes are the same every time, and their truth is what is drawn."""

import cv2
import numpy as np
import pytest

from mobilevision.demo.scenes import (
    CLASS_NAMES,
    MIN_VISIBLE,
    SCENE_SIDE,
    box_of,
    class_mask,
    draw_scene,
    polygon_area,
    rasterize,
    visible_mask,
)
from mobilevision.demo.shapes import SHAPES

SCENES = [draw_scene(0, "train", index) for index in range(30)]


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


def test_classes_are_in_the_order_of_folders_by_name():
    assert list(CLASS_NAMES) == sorted(CLASS_NAMES)


def test_every_object_is_visible_and_no_pixel_belongs_to_another():
    for scene in SCENES:
        assert scene.image.shape == (SCENE_SIDE, SCENE_SIDE, 3)
        present = set(np.unique(scene.instances)) - {0}
        assert present == set(range(1, len(scene.labels) + 1))


def test_some_objects_overlap_and_some_scenes_are_empty():
    scenes = [*SCENES, *(draw_scene(0, "train", index) for index in range(30, 120))]
    boxes = [[box_of(visible_mask(scene, number)) for number in range(len(scene.labels))] for scene in scenes]
    assert any(not scene.labels for scene in scenes)
    assert any(
        first[0] < second[2] and second[0] < first[2] and first[1] < second[3] and second[1] < first[3]
        for found in boxes
        for index, first in enumerate(found)
        for second in found[:index]
    )


def test_the_mask_has_the_classes_of_the_objects():
    for scene in SCENES:
        mask = class_mask(scene)
        assert set(np.unique(mask)) - {0} == {label + 1 for label in scene.labels}
        for number, label in enumerate(scene.labels):
            assert np.all(mask[visible_mask(scene, number)] == label + 1)


def test_a_box_is_the_smallest_around_its_mask():
    mask = np.zeros((9, 12), bool)
    mask[2:5, 3] = mask[4, 3:9] = True
    assert box_of(mask) == (3, 2, 9, 5)


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


def test_objects_look_different_from_what_is_behind_them():
    scene = next(scene for scene in SCENES if scene.labels)
    edge = cv2.morphologyEx(visible_mask(scene, len(scene.labels) - 1).astype(np.uint8), cv2.MORPH_GRADIENT, None)
    smooth = cv2.GaussianBlur(scene.image, (0, 0), 1)
    steps = np.abs(np.diff(smooth.astype(float).mean(axis=2), axis=1, prepend=0))
    assert steps[edge > 0].mean() > 2 * steps.mean()


def test_the_share_that_must_be_visible_is_kept():
    assert MIN_VISIBLE > 0.5
