import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt

from mobilevision.segmentation.boundary import boundary_f_scores, find_outlines, widen
from mobilevision.segmentation.types import IGNORE_INDEX


def square(side, left, *, size=100, top=20):
    mask = np.zeros((size, size), np.uint8)
    mask[top : top + side, left : left + side] = 1
    return mask


def find_outline(region):
    return find_outlines(region) & region


def distances(outline):
    return distance_transform_edt(~outline) if outline.any() else np.full(outline.shape, np.inf)


def reference(predicted, mask, num_classes, tolerance):
    """The definition by true distances, pixel by pixel."""
    radius = tolerance * math.hypot(*mask.shape)
    scores = []
    for label in range(num_classes):
        if not ((mask == label) | ((predicted == label) & (mask != IGNORE_INDEX))).any():
            scores.append(math.nan)
            continue
        found, true = find_outline(predicted == label), find_outline(mask == label)
        near = distances(true) <= radius
        counted = found & (near | (mask != IGNORE_INDEX))
        if not counted.any() and not true.any():
            scores.append(1.0)
            continue
        precision = (found & near).sum() / counted.sum() if counted.any() else 0.0
        recall = (distances(found) <= radius)[true].mean() if true.any() else 0.0
        scores.append(2 * precision * recall / (precision + recall) if precision + recall else 0.0)
    return scores


def test_an_outline_is_the_pixels_with_a_neighbor_outside_and_the_edge_is_none():
    region = np.zeros((4, 5), bool)
    region[:3, 1:4] = True
    assert find_outline(region).astype(int).tolist() == [
        [0, 1, 0, 1, 0],
        [0, 1, 0, 1, 0],
        [0, 1, 1, 1, 0],
        [0, 0, 0, 0, 0],
    ]
    assert not find_outline(np.ones((3, 3), bool)).any()


def test_bits_are_set_within_the_radius_between_centers_and_no_farther():
    bits = np.zeros((7, 9), np.uint8)
    bits[3, 4] = 1
    bits[0, 0] = 1 << 7
    rows, columns = np.indices(bits.shape)
    for radius in (0.0, 1.0, 1.5, 2.3, 3.0, 20.0):
        widened = widen(bits, radius)
        for bit, row, column in ((0, 3, 4), (7, 0, 0)):
            np.testing.assert_array_equal(widened >> bit & 1, np.hypot(rows - row, columns - column) <= radius)
        assert not (widened & ~np.uint8(1 << 7 | 1)).any()


def test_any_number_of_classes_is_scored_as_each_of_them_alone():
    rng = np.random.default_rng(0)
    predicted, mask = (rng.integers(0, 255, (6, 7)).repeat(4, 0).repeat(4, 1).astype(np.uint8) for _ in range(2))
    predicted[5:] = mask[5:]
    mask[:3] = IGNORE_INDEX
    scores = boundary_f_scores(predicted, mask, 255, tolerance=0.05)
    np.testing.assert_allclose(scores, reference(predicted, mask, 255, 0.05), atol=1e-6)
    assert 0 < np.nanmean(scores) < 1


def test_an_outline_within_the_tolerance_is_right_and_one_beyond_is_wrong():
    # 0.0075 of the diagonal of 100x100 is 1.06 pixels.
    assert boundary_f_scores(square(40, 31), square(40, 30), 2)[1] == 1.0
    off_by_two = boundary_f_scores(square(40, 32), square(40, 30), 2)[1]
    # Upper and lower edges agree but for the last column within reach; left and right edges are off.
    assert off_by_two == pytest.approx(2 * 39 / 156, abs=0.03)


def test_precision_and_recall_by_hand():
    mask, predicted = np.zeros((1, 9), np.uint8), np.zeros((1, 9), np.uint8)
    mask[0, 2:4] = 1
    predicted[0, 2:7] = 1
    # Radius 0: the outlines of class 1 are pixels 2 and 3, and 2 and 6; those of class 0 are 1 and 4, and 1 and 7.
    assert boundary_f_scores(predicted, mask, 2, tolerance=0.0).tolist() == [0.5, 0.5]


def test_a_class_that_is_nowhere_has_no_score_and_one_on_one_side_only_has_0():
    mask, predicted = square(40, 30), np.zeros((100, 100), np.uint8)
    scores = boundary_f_scores(predicted, mask, 3)
    assert scores[:2].tolist() == [0.0, 0.0]
    assert math.isnan(scores[2])
    assert boundary_f_scores(mask, predicted, 2).tolist() == [0.0, 0.0]


def test_a_class_that_fills_the_image_scores_1():
    empty = np.zeros((20, 30), np.uint8)
    assert boundary_f_scores(empty, empty, 1).tolist() == [1.0]


def test_masks_of_255_only_have_no_score():
    ignored = np.full((20, 30), IGNORE_INDEX, np.uint8)
    assert np.isnan(boundary_f_scores(np.zeros((20, 30), np.uint8), ignored, 2)).all()


def test_an_outline_in_an_ignored_band_is_right_near_the_truth_and_never_wrong():
    mask = square(40, 30)
    band = np.zeros_like(mask, bool)
    band[18:62, 28:72] = True
    band[22:58, 32:68] = False
    mask[band] = IGNORE_INDEX
    # The prediction runs in the middle of the band, two pixels from where the truth begins.
    assert boundary_f_scores(square(40, 30), mask, 2, tolerance=0.02)[1] == 1.0
    blob = np.zeros_like(mask)
    blob[80:95, 5:20] = IGNORE_INDEX
    inside = np.zeros_like(mask)
    inside[85:90, 10:15] = 1
    assert math.isnan(boundary_f_scores(inside, blob, 2)[1])


@settings(max_examples=60)
@given(
    height=st.integers(1, 24),
    width=st.integers(1, 24),
    side=st.integers(1, 8),
    tolerance=st.floats(0.0, 0.2),
    seed=st.integers(0, 10_000),
)
def test_scores_are_those_of_true_distances(height, width, side, tolerance, seed):
    rng = np.random.default_rng(seed)

    def draw(values):
        coarse = rng.choice(values, (-(-height // side), -(-width // side))).astype(np.uint8)
        return coarse.repeat(side, axis=0).repeat(side, axis=1)[:height, :width]

    mask, predicted = draw([0, 1, 2, IGNORE_INDEX]), draw([0, 1, 2])
    expected = reference(predicted, mask, 4, tolerance)
    np.testing.assert_allclose(boundary_f_scores(predicted, mask, 4, tolerance=tolerance), expected, atol=1e-6)
