import numpy as np
import pytest

from mobilevision.visualize import class_color, contact_sheet, draw_outlines


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
