import numpy as np
import pytest
from pycocotools import mask

from mobilevision.detection.overlaps import MAX_PER_CLASS, box_overlaps, find_overlaps
from mobilevision.detection.types import Result


@pytest.mark.parametrize("crowds", [False, True])
def test_overlaps_are_those_of_pycocotools(crowds):
    rng = np.random.default_rng(0)
    boxes, others = (rng.uniform((0, 0, 1, 1), (40, 40, 40, 40), (count, 4)) for count in (20, 30))
    expected = mask.iou(boxes, others, [crowds] * len(others))
    assert box_overlaps(boxes, others, crowds=crowds) == pytest.approx(expected, abs=1e-12)


def test_boxes_without_area_overlap_nothing():
    assert box_overlaps(np.zeros((1, 4)), np.zeros((1, 4))).tolist() == [[0.0]]
    assert box_overlaps(np.zeros((2, 4)), np.zeros((0, 4))).shape == (2, 0)


def test_rows_count_through_the_images_and_the_best_come_first(make_result, make_truth):
    results = [
        make_result([[0, 0, 4, 4], [0, 0, 4, 2]], [0.1, 0.9], [0, 1]),
        make_result([[50, 50, 4, 4]], [0.5], [0]),
    ]
    truths = [make_truth([[0, 0, 4, 4]], [1]), make_truth([[0, 0, 4, 4], [50, 50, 4, 8]], [0, 1])]
    found = find_overlaps(results, truths, 0.2)
    assert found.scores.tolist() == [0.9, 0.1, 0.5]
    assert found.labels.tolist() == [1, 0, 0]
    assert found.true_labels.tolist() == [1, 0, 1]
    assert list(zip(*(column.tolist() for column in found.pairs), strict=True)) == [
        (0, 0, 0.5),
        (1, 0, 1.0),
        (2, 2, 0.5),
    ]


def test_a_crowd_is_no_object_and_excuses_what_lies_on_it_if_of_its_class(make_result, make_truth):
    truth = make_truth([[0, 0, 10, 10]], [1], [True])
    boxes = [[0, 0, 5, 5], [0, 0, 5, 5], [7, 0, 10, 5]]
    found = find_overlaps([make_result(boxes, [0.9, 0.8, 0.7], [1, 0, 1])], [truth], 0.1)
    assert found.on_crowd.tolist() == [True, False, False]
    assert len(found.true_labels) == len(found.pairs.found) == 0


def test_the_best_hundred_of_a_class_count(make_truth):
    scores = np.linspace(0, 1, 150)
    boxes = np.tile([0.0, 0, 4, 4], (150, 1))
    labels = np.where(np.arange(150) < 120, 0, 1)
    found = find_overlaps([Result(boxes, scores, labels)], [make_truth([], [])], 0.1)
    assert found.scores.tolist() == sorted([*scores[20:120], *scores[120:]], reverse=True)
    assert (found.labels == 0).sum() == MAX_PER_CLASS


def test_no_images_have_no_overlaps():
    found = find_overlaps([], [], 0.5)
    assert [len(column) for column in (found.scores, found.labels, found.true_labels, found.on_crowd)] == [0] * 4
    assert found.labels.dtype == found.true_labels.dtype == np.int64
