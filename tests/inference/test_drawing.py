"""Drawings show their arguments, on images of any size."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobilevision.inference.drawing import (
    COLORS,
    NamedBoxes,
    NamedMask,
    NamedScores,
    class_color,
    contact_sheet,
    draw_boxes,
    draw_classes,
    draw_mask,
    draw_outlines,
    draw_results,
    index_mask,
    stack_grid,
)


def filled(height: int, width: int, value: int) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


GRAY = filled(400, 500, 128)
NAMES = ("background", "cat", "dog")
# A square of dogs.
MASK = np.zeros((400, 500), np.uint8)
MASK[100:200, 100:200] = 2


def test_colors_are_fixed_and_differ_for_a_hundred_classes():
    assert class_color(0) == COLORS[0]
    assert len({class_color(label) for label in range(100)}) == 100


def test_a_box_is_drawn_on_its_border_and_nowhere_inside():
    drawn = draw_boxes(GRAY, np.array([[100.0, 150, 300, 350]]), np.array([1]))
    assert drawn.shape == GRAY.shape
    assert (drawn[150, 120:280] == class_color(1)).all()
    assert (drawn[200:300, 100] == class_color(1)).all()
    assert (drawn[180:320, 130:270] == 128).all()


def test_the_first_box_is_on_top():
    boxes = np.array([[100.0, 100, 300, 300], [100, 100, 300, 300]])
    assert (draw_boxes(GRAY, boxes, np.array([3, 4]))[200, 100] == class_color(3)).all()


def test_without_boxes_or_results_the_image_is_unchanged():
    assert (draw_boxes(GRAY, np.zeros((0, 4)), np.zeros(0, np.int64)) == GRAY).all()
    assert (draw_results(GRAY) == GRAY).all()


def test_a_mask_colors_its_pixels_and_leaves_background_and_ignored_ones_clear():
    mask = MASK.copy()
    mask[300:, :] = 255
    drawn = draw_mask(GRAY, mask, NAMES)
    assert drawn.shape[0] > 400
    assert (drawn[:90, :] == 128).all()
    assert (drawn[310:400, :] == 128).all()
    assert (drawn[150, 150] != 128).any()
    assert (drawn[100, 150] == class_color(1)).all()


def test_a_mask_of_255_only_has_an_empty_legend():
    legend = draw_mask(GRAY, np.full((400, 500), 255, np.uint8))[400:]
    assert legend.size
    assert (legend == 255).all()


def test_the_best_classes_are_listed_below_with_bars_as_long_as_their_scores():
    drawn = draw_classes(GRAY, np.array([0.0, 1.0, 0.0]), ("a", "b", "c"))
    assert (drawn[:400] == GRAY).all()
    panel = drawn[400:]
    assert panel.shape[0] > 40
    # Only the first bar reaches the right border.
    assert 5 < (panel[:, -3] != 255).any(axis=-1).sum() < panel.shape[0] / 3


def test_an_indexed_mask_keeps_its_numbers_and_shows_their_colors():
    mask = np.array([[0, 1], [2, 255]], np.uint8)
    image = index_mask(mask)
    assert np.array_equal(np.array(image), mask)
    assert image.convert("RGB").getpixel((1, 0)) == class_color(0)
    assert image.convert("RGB").getpixel((0, 0)) == (0, 0, 0)


@given(
    height=st.integers(1, 60),
    width=st.integers(1, 60),
    box=st.lists(st.floats(-100, 100), min_size=4, max_size=4),
    label=st.integers(0, 300),
)
def test_everything_can_be_drawn_on_the_smallest_images(height, width, box, label):
    image = np.zeros((height, width, 3), np.uint8)
    low, high = np.minimum(box[:2], box[2:]), np.maximum(box[:2], box[2:])
    drawn = draw_boxes(image, np.array([[*low, *high]]), np.array([label]), np.array([0.5]), ("a name",))
    assert drawn.shape[2] == 3
    assert draw_mask(image, np.full((height, width), label % 256, np.uint8)).shape[1] == drawn.shape[1]


@pytest.mark.parametrize(
    ("size", "drawn"), [((20, 30), (320, 480)), ((2, 200), (16, 1600)), ((900, 1200), (900, 1200))]
)
def test_small_images_are_enlarged_until_text_is_legible_and_not_without_end(size, drawn):
    box = np.array([[0.0, 0, *size[::-1]]])
    assert draw_boxes(filled(*size, 0), box, np.array([0]), class_names=("name",)).shape[:2] == drawn


def test_outlines_are_one_pixel_wide_within_their_boxes():
    drawn = draw_outlines(filled(20, 20, 0), np.array([[2.0, 3, 10, 12]]), np.array([1]))
    rows, columns = np.nonzero(drawn.any(axis=2))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (3, 11, 2, 9)
    assert drawn[3, 5].tolist() == list(class_color(1))
    assert not drawn[5, 5].any()


def test_results_of_several_heads_are_on_one_image_with_their_legends_below():
    boxes = [
        NamedBoxes(np.array([[300.0, 250, 450, 350]]), np.array([1]), np.array([0.9]), ("cat", "dog")),
        NamedBoxes(np.array([[300.0, 50, 450, 150]]), np.array([3]), np.array([0.8]), ()),
    ]
    scores = np.array([0.1, 0.9])
    drawn = draw_results(GRAY, scores=[NamedScores(scores)], masks=[NamedMask(MASK, NAMES)], boxes=boxes)
    legend, ranking = draw_mask(GRAY, MASK, NAMES)[400:], draw_classes(GRAY, scores)[400:]
    assert np.array_equal(drawn[400:], np.concatenate([legend, ranking]))
    assert (drawn[120:180, 120:180] == draw_mask(GRAY, MASK)[120:180, 120:180]).all()
    assert (drawn[250, 320:440] == class_color(1)).all()
    assert (drawn[150, 320:440] == class_color(3)).all()
    # A dog has one color as box and as mask.
    assert (drawn[100, 150] == class_color(1)).all()


def test_a_sheet_holds_images_of_any_size_in_rows():
    sheet = contact_sheet([filled(40, 80, 10), filled(300, 100, 20), filled(7, 7, 30)], columns=2, side=64)
    # Cells of 64 with gaps of 8 around: 2 x 2 of them.
    assert sheet.shape == (152, 152, 3)
    assert [sheet[row, column, 0] for row, column in ((40, 40), (40, 112), (112, 40))] == [10, 20, 30]
    # The last cell, the gaps, and what a wide image leaves of its cell.
    for row, column in ((112, 112), (4, 4), (12, 40)):
        assert sheet[row, column].tolist() == [255] * 3


@pytest.mark.parametrize("count", [1, 4, 5])
def test_a_sheet_is_no_larger_than_its_images_need(count):
    sheet = contact_sheet([filled(8, 8, 0)] * count, columns=4, side=10)
    assert sheet.shape[:2] == (8 + 18 * (1 + (count > 4)), 8 + 18 * min(count, 4))


def test_a_grid_has_rows_as_high_as_their_images_and_columns_as_wide_as_the_widest():
    grid = stack_grid([[filled(10, 20, 1), filled(30, 5, 2)], [filled(4, 4, 3)]])
    assert grid.shape == (30 + 4 + 3 * 8, 2 * 20 + 3 * 8, 3)
    assert (grid[8:18, 8:28] == 1).all()
    assert (grid[8:38, 36:41] == 2).all()
    assert (grid[46:50, 8:12] == 3).all()
    assert (grid == 255).all(axis=2).sum() == grid[..., 0].size - (10 * 20 + 30 * 5 + 4 * 4)
