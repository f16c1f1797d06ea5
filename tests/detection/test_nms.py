"""Selection is exact: the same boxes, labels and order as the obvious way."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.ops import nms

from mobilevision.detection.nms import clip_detections, rescale_detections, select_detections
from mobilevision.detection.types import PADDING, PaddedDetections


def select_slowly(boxes: Tensor, scores: Tensor, *, threshold: float, iou: float, per_class: int, most: int):
    found = []
    for label in range(scores.shape[1]):
        anchors = (scores[:, label] > threshold).nonzero()[:, 0]
        order = anchors[scores[anchors, label].sort(descending=True, stable=True).indices]
        # Falling scores of their own keep nms from breaking ties in its own way.
        kept = order[nms(boxes[order], torch.arange(len(order), 0, -1).float(), iou)][:per_class]
        found += [(-scores[anchor, label].item(), label, anchor.item()) for anchor in kept]
    return [(boxes[anchor].tolist(), -score, label) for score, label, anchor in sorted(found)[:most]]


def check(boxes: Tensor, scores: Tensor, *, threshold=0.01, iou=0.6, per_class=100, most=100) -> None:
    selected = select_detections(
        boxes, scores, score_threshold=threshold, iou_threshold=iou, max_per_class=per_class, max_per_image=most
    )
    for image in range(len(boxes)):
        expected = select_slowly(
            boxes[image], scores[image], threshold=threshold, iou=iou, per_class=per_class, most=most
        )
        real = selected.labels[image] != PADDING
        columns = (column[image][real].tolist() for column in selected)
        assert list(zip(*columns, strict=True)) == expected
        assert not real[len(expected) :].any()


def random_boxes(batch: int, num: int, *, whole: bool = False) -> Tensor:
    low = torch.rand(batch, num, 2) * 60
    boxes = torch.cat([low, low + torch.rand(batch, num, 2) * 40], dim=-1)
    return boxes.round() if whole else boxes


def test_the_better_of_two_overlapping_boxes_of_a_class_stays_and_other_classes_do_not_mind():
    boxes = torch.tensor([[[0.0, 0, 10, 10], [1, 0, 11, 10], [50, 50, 60, 60]]])
    scores = torch.tensor([[[0.8, 0.1], [0.9, 0.7], [0.3, 0.0]]])
    found = select_detections(boxes, scores, score_threshold=0.2, iou_threshold=0.6)
    assert found.labels.tolist() == [[0, 1, 0]]
    assert found.scores[0].tolist() == pytest.approx([0.9, 0.7, 0.3])
    assert found.boxes[0].tolist() == [[1, 0, 11, 10], [1, 0, 11, 10], [50, 50, 60, 60]]


@pytest.mark.parametrize("num_classes", [1, 3, 20])
@pytest.mark.parametrize("whole", [False, True])
def test_random_scores_give_what_the_obvious_way_gives(num_classes: int, whole: bool):
    check(random_boxes(3, 700, whole=whole), torch.rand(3, 700, num_classes))


def test_tied_scores_go_by_class_then_by_anchor():
    check(random_boxes(2, 300, whole=True), torch.randint(0, 4, (2, 300, 5)) / 4)
    check(random_boxes(2, 300), torch.full((2, 300, 5), 0.5))


def test_boxes_that_never_fill_an_image_are_gone_through_to_the_last():
    boxes = torch.tensor([0.0, 0, 10, 10]).expand(1, 3000, 4) + torch.rand(1, 3000, 4) * 0.01
    check(boxes, torch.rand(1, 3000, 2))


def test_the_limits_per_class_and_per_image_hold():
    check(random_boxes(2, 500), torch.rand(2, 500, 4), per_class=7)
    check(random_boxes(2, 500), torch.rand(2, 500, 4), per_class=7, most=11)
    check(random_boxes(2, 500), torch.rand(2, 500, 4), iou=1.0, most=1)


def test_an_image_without_candidates_is_empty_beside_one_with_some():
    scores = torch.rand(3, 50, 2)
    scores[1] = 0
    check(random_boxes(3, 50), scores)
    found = select_detections(random_boxes(1, 50), torch.zeros(1, 50, 2))
    assert found.labels.shape == (1, 0)


def test_boxes_without_area_suppress_nothing():
    check(torch.zeros(1, 4, 4), torch.rand(1, 4, 2))


def test_an_overlap_of_three_fifths_is_above_0_6_as_in_torchvision():
    boxes = torch.tensor([[[0.0, 0, 4, 1], [1, 0, 5, 1]]])
    check(boxes, torch.tensor([[[0.9], [0.8]]]), iou=0.6)
    assert select_detections(boxes, torch.tensor([[[0.9], [0.8]]]), iou_threshold=0.6).scores.shape == (1, 1)
    assert select_detections(boxes, torch.tensor([[[0.9], [0.8]]]), iou_threshold=0.61).scores.shape == (1, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"score_threshold": -0.1}, "score_threshold must be at least 0, got -0.1"),
        ({"iou_threshold": 1.5}, r"iou_threshold must be in \[0, 1\], got 1.5"),
        ({"max_per_class": 0}, "max_per_class must be at least 1, got 0"),
        ({"max_per_image": 0}, "max_per_image must be at least 1, got 0"),
    ],
)
def test_options_outside_their_range_are_refused(options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        select_detections(torch.zeros(1, 1, 4), torch.zeros(1, 1, 1), **options)


def test_nan_scores_are_no_candidates():
    scores = torch.tensor([[[0.5], [torch.nan]]])
    found = select_detections(random_boxes(1, 2), scores)
    assert found.scores.tolist() == [[0.5]]


def test_candidates_are_found_behind_any_number_of_anchors_with_nan_or_with_equal_scores():
    scores = torch.rand(2, 1500, 2)
    scores[0, :1200, 1] = torch.nan
    scores[1, :1400] = 0.5
    check(random_boxes(2, 1500), scores.nan_to_num(-1.0), iou=1.0, most=200)
    boxes = random_boxes(2, 1500)
    with_nan, without = (select_detections(boxes, each, iou_threshold=0.3) for each in (scores, scores.nan_to_num(-1)))
    assert all(torch.equal(*columns) for columns in zip(with_nan, without, strict=True))


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**31),
    num=st.integers(0, 60),
    num_classes=st.integers(1, 4),
    levels=st.integers(1, 50),
    iou=st.sampled_from([0.0, 0.3, 0.5, 0.6, 1.0]),
    most=st.integers(1, 20),
)
def test_any_selection_is_exact(*, seed: int, num: int, num_classes: int, levels: int, iou: float, most: int):
    torch.manual_seed(seed)
    scores = torch.randint(0, levels + 1, (2, num, num_classes)) / levels
    check(random_boxes(2, num, whole=True), scores, iou=iou, most=most)


def test_clipping_drops_what_lies_outside_and_closes_the_gap():
    boxes = torch.tensor([[[-5.0, 2, 5, 8], [-9, 0, -1, 9], [90, 90, 120, 130]]])
    found = clip_detections(PaddedDetections(boxes, torch.tensor([[0.9, 0.8, 0.7]]), torch.tensor([[1, 1, 0]])), 100)
    assert found.boxes.tolist() == [[[0, 2, 5, 8], [90, 90, 100, 100]]]
    assert found.labels.tolist() == [[1, 0]]


def test_rescaling_gives_each_image_its_own_boxes_in_pixels_of_its_file():
    found = PaddedDetections(
        torch.tensor([[[10.0, 20, 30, 40]], [[0, 0, 0, 0]]]),
        torch.tensor([[0.9], [0.0]]),
        torch.tensor([[3], [PADDING]]),
    )
    first, second = rescale_detections(found, torch.tensor([[200, 400], [50, 50]]), input_size=100)
    assert first.boxes.tolist() == [[40, 40, 120, 80]]
    assert first.labels.tolist() == [3]
    assert len(second.boxes) == 0
