"""Anchors: TensorFlow's sizes, places and order."""

import pytest

from mobilevision.detection.anchors import anchor_shapes, make_anchors

MAPS_320 = [(side, side) for side in (20, 10, 5, 3, 2, 1)]
MAPS_300 = [(side, side) for side in (19, 10, 5, 3, 2, 1)]


def test_there_are_2034_at_320_and_1917_at_300():
    assert make_anchors(MAPS_320, 320).shape == (2034, 4)
    assert make_anchors(MAPS_300, 300).shape == (1917, 4)


def test_the_finest_map_has_three_and_they_are_small():
    first = make_anchors(MAPS_320, 320)[:6]
    root = 2**0.5
    assert first[0].tolist() == pytest.approx([8, 8, 32, 32])
    assert first[1].tolist() == pytest.approx([8, 8, 64 * root, 64 / root])
    assert first[2].tolist() == pytest.approx([8, 8, 64 / root, 64 * root])
    assert first[3].tolist() == pytest.approx([24, 8, 32, 32])


def test_a_map_has_a_square_between_its_scale_and_the_next():
    between = [scale for shapes in anchor_shapes(6)[1:] for scale, _ in shapes[-1:]]
    assert between == pytest.approx([0.4183, 0.5701, 0.7211, 0.8718, 0.9747], abs=5e-5)
    assert [ratio for _, ratio in anchor_shapes(6)[1]] == [1, 2, 0.5, 3, 0.3333, 1]


def test_they_are_not_clipped():
    sides = make_anchors(MAPS_320, 320)[:, 2:] / 320
    assert int((sides > 1).any(dim=1).sum()) == 38
    assert sides.max().item() == pytest.approx(1.645, abs=1e-3)


def test_a_wide_map_counts_its_columns_first():
    anchors = make_anchors([(1, 2)], 100)
    assert anchors[[0, 3], :2].tolist() == [[25, 50], [75, 50]]
