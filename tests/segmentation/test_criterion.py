import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from mobilevision.segmentation import criterion as module
from mobilevision.segmentation.criterion import (
    EnlargedCrossEntropy,
    SegmentationCriterion,
    interpolation,
    segmentation_loss,
)
from mobilevision.segmentation.types import IGNORE_INDEX, SegmentationBatch

SIDES = st.integers(1, 9)


def draw_masks(num, height, width, num_classes):
    masks = torch.randint(0, num_classes, (num, height, width), dtype=torch.uint8)
    masks[torch.rand(masks.shape) < 0.3] = IGNORE_INDEX
    return masks


def enlarge_first(logits, masks, class_weights=None, reduction="none"):
    enlarged = F.interpolate(logits, size=masks.shape[1:], mode="bilinear", align_corners=True)
    options = {"weight": class_weights, "ignore_index": IGNORE_INDEX, "reduction": reduction}
    return F.cross_entropy(enlarged, masks.long(), **options)


def compute_loss(logits, masks, class_weights=None, **options):
    criterion = SegmentationCriterion(**{"output_stride": 16, "padding": "symmetric"} | options)
    criterion.class_weights = class_weights
    images = torch.empty(len(masks), 3, *masks.shape[1:], dtype=torch.uint8)
    return criterion(logits, SegmentationBatch(images, masks, torch.arange(len(masks))))["loss"]


def test_only_pixels_that_count_do_and_all_images_share_one_denominator():
    logits = torch.tensor([[[[0.0, 0.0]], [[0.0, 9.0]]], [[[0.0, 0.0]], [[2.0, -3.0]]]])
    masks = torch.tensor([[[0, IGNORE_INDEX]], [[1, 0]]], dtype=torch.uint8)
    found = segmentation_loss(logits, masks)
    first, second = math.log(2), math.log(1 + math.exp(-2)) + math.log(1 + math.exp(-3))
    torch.testing.assert_close(found.sums, torch.tensor([first, second]))
    assert found.num_pixels.tolist() == [1, 2]
    assert compute_loss(logits, masks, output_stride=1).item() == pytest.approx((first + second) / 3)


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("class_weights", [None, torch.tensor([0.5, 1.0, 4.0])])
def test_a_map_is_enlarged_to_the_masks_and_a_pixel_weighs_what_its_class_does(class_weights, trained):
    logits, masks = torch.randn(2, 3, 3, 3, requires_grad=trained), draw_masks(2, 33, 33, 3)
    expected = enlarge_first(logits, masks, class_weights, reduction="mean")
    torch.testing.assert_close(compute_loss(logits, masks, class_weights), expected)


@pytest.mark.parametrize("padding", ["symmetric", "tf_same"])
def test_on_other_sides_than_deeplabs_cells_are_compared_with_the_pixels_they_lie_on(padding):
    # Cell i lies on pixel 4 i under symmetric padding, and where it has seen as much on either side under SAME.
    first = 0 if padding == "symmetric" else 3
    masks = torch.full((1, 1, 8), IGNORE_INDEX, dtype=torch.uint8)
    masks[0, 0, first], masks[0, 0, first + 4] = 0, 1
    logits = torch.tensor([[[[9.0, -9.0]], [[-9.0, 9.0]]]])
    assert compute_loss(logits, masks, output_stride=4, padding=padding) < 1e-3


def test_a_batch_without_any_pixel_that_counts_costs_nothing_and_moves_nothing():
    logits = torch.randn(2, 3, 3, 3, requires_grad=True)
    loss = compute_loss(logits, torch.full((2, 33, 33), IGNORE_INDEX, dtype=torch.uint8))
    loss.backward()
    assert loss.item() == 0.0
    assert not logits.grad.any()


def test_half_precision_logits_are_summed_in_float32():
    logits = torch.zeros(1, 2, 300, 300, dtype=torch.float16)
    found = segmentation_loss(logits, torch.zeros(1, 300, 300, dtype=torch.uint8))
    torch.testing.assert_close(found.sums, torch.tensor([90_000 * math.log(2)]))


def test_a_line_is_enlarged_corners_on_corners():
    assert interpolation(2, 5)[:, 1].tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert interpolation(1, 3).tolist() == [[1.0]] * 3
    assert interpolation(3, 1).tolist() == [[1.0, 0.0, 0.0]]


@settings(max_examples=25)
@given(h=SIDES, w=SIDES, size=st.tuples(st.integers(1, 40), st.integers(1, 40)), num_classes=st.integers(1, 6))
@pytest.mark.parametrize("weighted", [False, True])
def test_sums_and_gradients_are_those_of_enlarging_first(weighted, h, w, size, num_classes):
    logits, masks = torch.randn(3, num_classes, h, w) * 4, draw_masks(3, *size, num_classes)
    weights = torch.tensor([1.0, -0.5, 2.0])
    ours, plain = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    class_weights = torch.rand(num_classes) * 3 if weighted else None
    sums = EnlargedCrossEntropy.apply(ours, masks, class_weights)
    expected = enlarge_first(plain, masks, class_weights).sum((1, 2))
    torch.testing.assert_close(sums, expected, atol=1e-3, rtol=1e-4)
    (sums * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(ours.grad, plain.grad, atol=1e-3, rtol=1e-3)


def test_rows_are_taken_in_bands_without_a_seam(monkeypatch):
    logits, masks = torch.randn(2, 3, 5, 5, requires_grad=True), draw_masks(2, 33, 31, 3)
    whole = EnlargedCrossEntropy.apply(logits, masks)
    (gradient,) = torch.autograd.grad(whole.sum(), logits)
    monkeypatch.setattr(module, "BAND_ELEMENTS", 3 * 31 * 4)
    banded = EnlargedCrossEntropy.apply(logits, masks)
    torch.testing.assert_close(banded, whole)
    torch.testing.assert_close(torch.autograd.grad(banded.sum(), logits)[0], gradient)


def test_training_on_a_map_costs_what_it_does_enlarged_under_mixed_precision_too():
    masks = draw_masks(2, 33, 33, 4)
    logits = torch.randn(2, 4, 5, 5).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        trained, evaluated = (segmentation_loss(each, masks) for each in (logits.clone().requires_grad_(), logits))
    torch.testing.assert_close(trained.sums.detach(), evaluated.sums)
