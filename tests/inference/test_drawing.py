"""Drawings show what they are given, on pictures of any size."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mobilevision.inference.drawing import (
    COLORS,
    Boxes,
    Mask,
    Scores,
    class_color,
    contact_sheet,
    draw_answers,
    draw_boxes,
    draw_classes,
    draw_mask,
    draw_outlines,
    index_mask,
)

GREY = np.full((400, 500, 3), 128, np.uint8)


def test_colours_are_fixed_and_differ_for_a_hundred_classes():
    assert class_color(0) == COLORS[0]
    assert len({class_color(label) for label in range(100)}) == 100


def test_a_box_is_drawn_on_its_border_and_nowhere_inside():
    drawn = draw_boxes(GREY, np.array([[100.0, 150, 300, 350]]), np.array([1]))
    assert drawn.shape == GREY.shape
    assert (drawn[150, 120:280] == class_color(1)).all()
    assert (drawn[200:300, 100] == class_color(1)).all()
    assert (drawn[180:320, 130:270] == 128).all()


def test_the_best_box_ends_on_top():
    boxes = np.array([[100.0, 100, 300, 300], [100, 100, 300, 300]])
    assert (draw_boxes(GREY, boxes, np.array([3, 4]))[200, 100] == class_color(3)).all()


def test_no_boxes_leave_the_picture_as_it_is():
    assert (draw_boxes(GREY, np.zeros((0, 4)), np.zeros(0, np.int64)) == GREY).all()


def test_a_mask_colours_its_pixels_and_leaves_background_and_ignored_ones_clear():
    mask = np.zeros((400, 500), np.uint8)
    mask[100:200, 100:200] = 2
    mask[300:, :] = 255
    drawn = draw_mask(GREY, mask, ("background", "cat", "dog"))
    assert drawn.shape[0] > 400
    assert (drawn[:90, :] == 128).all()
    assert (drawn[310:400, :] == 128).all()
    assert (drawn[150, 150] != 128).any()
    assert (drawn[100, 150] == class_color(1)).all()


def test_a_mask_of_255_only_has_an_empty_legend():
    assert draw_mask(GREY, np.full((400, 500), 255, np.uint8)).shape[1] == 500


def test_the_best_classes_are_listed_below_with_bars_as_long_as_their_scores():
    drawn = draw_classes(GREY, np.array([0.0, 1.0, 0.0]), ("a", "b", "c"))
    assert (drawn[:400] == GREY).all()
    panel = drawn[400:]
    assert panel.shape[0] > 40
    assert (panel[:, -3] != 255).any(axis=-1).sum() > 5  # only the first bar reaches the right border


def test_an_indexed_mask_keeps_its_numbers_and_shows_their_colours():
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
def test_anything_can_be_drawn_on_the_smallest_pictures(height, width, box, label):
    image = np.zeros((height, width, 3), np.uint8)
    low, high = np.minimum(box[:2], box[2:]), np.maximum(box[:2], box[2:])
    drawn = draw_boxes(image, np.array([[*low, *high]]), np.array([label]), np.array([0.5]), ("a name",))
    assert drawn.shape[2] == 3
    assert draw_mask(image, np.full((height, width), label % 256, np.uint8)).shape[1] == drawn.shape[1]


@pytest.mark.parametrize("size", [(20, 30), (900, 1200)])
def test_letters_stay_readable_whatever_the_size(size):
    image = np.zeros((*size, 3), np.uint8)
    drawn = draw_boxes(image, np.array([[2.0, 2, size[1] - 2, size[0] - 2]]), np.array([0]), class_names=("name",))
    assert min(Image.fromarray(drawn).size) >= min(320, 20 * 16)


def filled(height: int, width: int, value: int) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def test_a_sheet_holds_pictures_of_any_size_in_rows() -> None:
    sheet = contact_sheet([filled(40, 80, 10), filled(300, 100, 20), filled(7, 7, 30)], columns=2, side=64)
    # Cells of 64 with gaps of 8 around: 2 x 2 of them.
    assert sheet.shape == (152, 152, 3)
    assert sheet[40, 40].tolist() == [10] * 3
    assert sheet[40, 112].tolist() == [20] * 3
    assert sheet[112, 40].tolist() == [30] * 3
    # The last cell, the gaps, and what a wide picture leaves of its cell.
    for row, column in ((112, 112), (4, 4), (12, 40)):
        assert sheet[row, column].tolist() == [255] * 3


@pytest.mark.parametrize("count", [1, 4, 5])
def test_a_sheet_is_no_larger_than_its_pictures_need(count: int) -> None:
    sheet = contact_sheet([filled(8, 8, 0)] * count, columns=4, side=10)
    assert sheet.shape[:2] == (8 + 18 * (1 + (count > 4)), 8 + 18 * min(count, 4))


def test_outlines_are_one_pixel_wide_within_their_boxes() -> None:
    drawn = draw_outlines(filled(20, 20, 0), np.array([[2.0, 3, 10, 12]]), np.array([1]))
    rows, columns = np.nonzero(drawn.any(axis=2))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (3, 11, 2, 9)
    assert drawn[3, 5].tolist() == list(class_color(1))
    assert not drawn[5, 5].any()


def test_several_answers_stand_on_one_picture_with_their_legends_below():
    mask = np.zeros((400, 500), np.uint8)
    mask[100:200, 100:200] = 2
    boxes = Boxes(np.array([[300.0, 250, 450, 350]]), np.array([1]), np.array([0.9]), ("cat", "dog"))
    names = ("background", "cat", "dog")
    drawn = draw_answers(GREY, scores=Scores(np.array([0.1, 0.9])), mask=Mask(mask, names), boxes=boxes)
    legend, ranking = (
        draw_mask(GREY, mask, names).shape[0] - 400,
        draw_classes(GREY, np.array([0.1, 0.9])).shape[0] - 400,
    )
    assert drawn.shape == (400 + legend + ranking, 500, 3)
    assert (drawn[120:180, 120:180] == draw_mask(GREY, mask)[120:180, 120:180]).all()
    assert (drawn[250, 320:440] == class_color(1)).all()
    # A dog has one colour as box and as mask.
    assert (drawn[100, 150] == class_color(1)).all()


def test_without_answers_the_picture_stays_as_it_is():
    assert (draw_answers(GREY) == GREY).all()
