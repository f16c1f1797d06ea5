"""Boxes: forms, overlap and code."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import box_convert, box_iou

from mobilevision.detection.boxes import (
    clip_boxes,
    cxcywh_to_xyxy,
    decode_boxes,
    encode_boxes,
    pairwise_iou,
    xyxy_to_cxcywh,
)


def random_boxes(*shape: int) -> torch.Tensor:
    low = torch.rand(*shape, 2) * 200
    return torch.cat([low, low + 1 + torch.rand(*shape, 2) * 100], dim=-1)


def test_the_two_forms_agree_with_torchvision():
    boxes = random_boxes(50)
    assert torch.equal(xyxy_to_cxcywh(boxes), box_convert(boxes, "xyxy", "cxcywh"))
    assert torch.allclose(cxcywh_to_xyxy(xyxy_to_cxcywh(boxes)), boxes, atol=1e-4)


def test_the_overlap_of_two_shifted_squares_is_a_third():
    iou = pairwise_iou(torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[1.0, 0, 3, 2], [2, 0, 4, 2], [0, 0, 2, 2]]))
    assert iou.tolist() == [[pytest.approx(1 / 3), 0.0, 1.0]]


def test_overlaps_equal_torchvision_for_each_image_of_a_batch():
    boxes, others = random_boxes(3, 7), random_boxes(11)
    iou = pairwise_iou(boxes, others)
    assert iou.shape == (3, 7, 11)
    for image in range(3):
        assert torch.equal(iou[image], box_iou(boxes[image], others))


def test_boxes_without_area_overlap_nothing():
    point = torch.tensor([[3.0, 3, 3, 3]])
    assert pairwise_iou(point, point).tolist() == [[0.0]]
    assert pairwise_iou(torch.zeros(2, 0, 4), random_boxes(5)).shape == (2, 0, 5)


def test_the_code_is_what_the_formula_says():
    anchors = torch.tensor([[50.0, 60, 20, 40]])
    boxes = cxcywh_to_xyxy(torch.tensor([[54.0, 58, 20 * torch.e, 40]]))
    assert encode_boxes(boxes, anchors)[0].tolist() == pytest.approx([10 * 4 / 20, 10 * -2 / 40, 5.0, 0.0], abs=1e-5)


def test_the_code_equals_torchvision():
    boxes, anchors = random_boxes(40), random_boxes(40)
    expected = BoxCoder((10.0, 10.0, 5.0, 5.0)).encode_single(boxes, anchors)
    assert torch.allclose(encode_boxes(boxes, xyxy_to_cxcywh(anchors)), expected, atol=1e-4)


@given(st.lists(st.floats(-15, 15, width=32), min_size=4, max_size=4))
def test_decoding_undoes_encoding(offsets: list[float]):
    anchors = torch.tensor([[160.0, 100, 60, 30]], dtype=torch.float64)
    coded = encode_boxes(decode_boxes(torch.tensor([offsets]), anchors), anchors)
    assert coded[0].tolist() == pytest.approx(offsets, abs=1e-6)


@pytest.mark.parametrize("offset", [torch.inf, 3e38, -3e38, -torch.inf])
def test_no_offset_decodes_to_more_than_a_float_holds(offset: float):
    boxes = decode_boxes(torch.full((1, 4), offset), torch.tensor([[160.0, 160, 500, 500]]))
    sides = boxes[0, 2:] - boxes[0, :2]
    assert boxes.isfinite().all()
    assert (sides >= 0).all()
    assert sides.prod().isfinite()


def test_half_precision_offsets_decode_in_the_anchors_precision():
    boxes = decode_boxes(torch.zeros(1, 4, dtype=torch.bfloat16), torch.tensor([[160.3, 100.7, 60, 30]]))
    assert boxes[0].tolist() == pytest.approx([130.3, 85.7, 190.3, 115.7])


def test_a_box_without_area_has_a_finite_code():
    assert encode_boxes(torch.zeros(1, 4), torch.tensor([[5.0, 5, 10, 10]])).isfinite().all()


def test_clipping_keeps_corners_within_width_and_height():
    boxes = torch.tensor([[[-5.0, -6, 400, 300], [10, 20, 30, 40], [-9, 0, -1, 5]]])
    assert clip_boxes(boxes, height=200, width=320).tolist() == [[[0, 0, 320, 200], [10, 20, 30, 40], [0, 0, 0, 5]]]
