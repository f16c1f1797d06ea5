import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mobilevision.segmentation.enlarged_loss import EnlargedCrossEntropy, interpolation
from mobilevision.segmentation.loss import segmentation_loss
from torch.nn import functional as F

from mobilevision.segmentation import enlarged_loss
from mobilevision.segmentation.types import IGNORE_INDEX

SIDES = st.integers(1, 9)


def draw_masks(num, height, width, num_classes):
    masks = torch.randint(0, num_classes, (num, height, width), dtype=torch.uint8)
    masks[torch.rand(masks.shape) < 0.3] = IGNORE_INDEX
    return masks


def plain_sums(logits, masks, class_weights=None):
    enlarged = F.interpolate(logits, size=masks.shape[1:], mode="bilinear", align_corners=True)
    options = {"weight": class_weights, "ignore_index": IGNORE_INDEX, "reduction": "none"}
    return F.cross_entropy(enlarged, masks.long(), **options).sum((1, 2))


def test_a_line_is_enlarged_corners_on_corners():
    assert interpolation(2, 5)[:, 1].tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert interpolation(1, 3).tolist() == [[1.0]] * 3
    assert interpolation(3, 1).tolist() == [[1.0, 0.0, 0.0]]


@settings(max_examples=25, deadline=None)
@given(h=SIDES, w=SIDES, size=st.tuples(st.integers(1, 40), st.integers(1, 40)), num_classes=st.integers(1, 6))
@pytest.mark.parametrize("weighted", [False, True])
def test_sums_and_gradients_are_those_of_enlarging_first(weighted, h, w, size, num_classes):
    logits, masks = torch.randn(3, num_classes, h, w) * 4, draw_masks(3, *size, num_classes)
    weights = torch.tensor([1.0, -0.5, 2.0])
    ours, plain = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    class_weights = torch.rand(num_classes) * 3 if weighted else None
    sums = EnlargedCrossEntropy.apply(ours, masks, class_weights)
    expected = plain_sums(plain, masks, class_weights)
    torch.testing.assert_close(sums, expected, atol=1e-3, rtol=1e-4)
    (sums * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(ours.grad, plain.grad, atol=1e-3, rtol=1e-3)


def test_rows_are_taken_in_bands_without_a_seam(monkeypatch):
    logits, masks = torch.randn(2, 3, 5, 5, requires_grad=True), draw_masks(2, 33, 31, 3)
    whole = EnlargedCrossEntropy.apply(logits, masks)
    (gradient,) = torch.autograd.grad(whole.sum(), logits)
    monkeypatch.setattr(enlarged_loss, "BAND_ELEMENTS", 3 * 31 * 4)
    banded = EnlargedCrossEntropy.apply(logits, masks)
    torch.testing.assert_close(banded, whole)
    torch.testing.assert_close(torch.autograd.grad(banded.sum(), logits)[0], gradient)


def test_training_on_a_map_is_measuring_it_enlarged_under_mixed_precision_too():
    masks = draw_masks(2, 33, 33, 4)
    logits = torch.randn(2, 4, 5, 5).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        trained = segmentation_loss(logits.clone().requires_grad_(), masks)
        measured = segmentation_loss(logits, masks)
    torch.testing.assert_close(trained.sums.detach(), measured.sums)
    assert torch.equal(trained.num_pixels, measured.num_pixels)
