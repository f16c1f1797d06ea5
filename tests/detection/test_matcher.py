"""Matching: which anchor answers for which box."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.models.detection._utils import SSDMatcher
from torchvision.ops import box_iou

from mobilevision.detection.anchors import make_anchors
from mobilevision.detection.boxes import cxcywh_to_xyxy, xyxy_to_cxcywh
from mobilevision.detection.matcher import BACKGROUND, match_anchors
from mobilevision.detection.types import PADDING

ANCHORS = make_anchors([(side, side) for side in (6, 3, 2, 1, 1, 1)], 96)


def match(boxes: list[list[float]], anchors: list[list[float]], labels: list[int] | None = None) -> list[int]:
    labels = [0] * len(boxes) if labels is None else labels
    matched = match_anchors(
        torch.tensor([boxes]).reshape(1, -1, 4), torch.tensor([labels]), xyxy_to_cxcywh(torch.tensor(anchors))
    )
    return matched[0].tolist()


def match_slowly(boxes: Tensor, labels: Tensor, anchors: Tensor) -> list[int]:
    """Go anchor by anchor, then box by box from the last to the first, so that the first has the last word."""
    iou = box_iou(boxes, cxcywh_to_xyxy(anchors))
    real = [index for index, label in enumerate(labels.tolist()) if label != PADDING]
    matched = []
    for anchor in range(len(anchors)):
        best = max(real, key=lambda index: (iou[index, anchor].item(), -index), default=None)
        matched.append(best if best is not None and iou[best, anchor] >= 0.5 else BACKGROUND)
    for index in reversed(real):
        matched[int(iou[index].argmax())] = index
    return matched


def test_an_anchor_takes_the_box_it_overlaps_most_from_a_half_on():
    anchors = [[0.0, 0, 10, 10], [0, 0, 10, 20], [0, 0, 10, 21], [50, 50, 60, 60]]
    assert match([[0.0, 0, 10, 10]], anchors) == [0, 0, BACKGROUND, BACKGROUND]


def test_every_box_keeps_its_best_anchor_even_below_the_threshold():
    assert match([[0.0, 0, 10, 10], [50, 50, 53, 53]], [[0.0, 0, 10, 10], [50, 50, 60, 60]]) == [0, 1]


def test_a_box_takes_its_best_anchor_from_a_box_that_overlaps_it_more():
    anchors = [[0.0, 0, 10, 10], [0, 0, 10, 9]]
    assert match([[0.0, 0, 10, 8.5], [0, 0, 10, 12]], anchors) == [1, 0]


def test_the_first_of_two_boxes_with_the_same_best_anchor_keeps_it():
    anchors = [[0.0, 0, 10, 10], [80, 80, 90, 90]]
    assert match([[0.0, 0, 10, 4], [0, 0, 10, 10]], anchors) == [0, BACKGROUND]
    assert match([[0.0, 0, 10, 10], [0, 0, 10, 4]], anchors) == [0, BACKGROUND]


def test_padding_matches_nothing():
    anchors = [[0.0, 0, 10, 10], [50, 50, 60, 60]]
    assert match([[0.0, 0, 10, 10], [50, 50, 60, 60]], anchors, [3, PADDING]) == [0, BACKGROUND]
    assert match([[0.0, 0, 10, 10]], anchors, [PADDING]) == [BACKGROUND, BACKGROUND]


def test_a_box_without_area_matches_nothing():
    assert match([[5.0, 5, 5, 5]], [[0.0, 0, 10, 10]]) == [BACKGROUND]


def test_a_batch_without_any_box_is_all_background():
    matched = match_anchors(torch.zeros(2, 0, 4), torch.zeros(2, 0, dtype=torch.int64), ANCHORS)
    assert matched.shape == (2, len(ANCHORS))
    assert (matched == BACKGROUND).all()


def test_boxes_with_best_anchors_of_their_own_match_as_in_torchvision():
    boxes = torch.tensor([[3.0, 5, 40, 44], [50, 50, 90, 70], [10, 60, 25, 90]])
    expected = SSDMatcher(0.5)(box_iou(boxes, cxcywh_to_xyxy(ANCHORS)))
    matched = match_anchors(boxes[None], torch.zeros(1, 3, dtype=torch.int64), ANCHORS)
    assert torch.equal(matched[0], expected)


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**31), num=st.integers(0, 12))
def test_any_batch_matches_as_the_obvious_way_does(seed: int, num: int):
    torch.manual_seed(seed)
    low = torch.randint(0, 80, (2, num, 2)).float()
    boxes = torch.cat([low, low + torch.randint(1, 60, (2, num, 2))], dim=-1)
    labels = torch.randint(PADDING, 3, (2, num))
    matched = match_anchors(boxes, labels, ANCHORS)
    for image in range(2):
        assert matched[image].tolist() == match_slowly(boxes[image], labels[image], ANCHORS)
