import math

import pytest
import torch
from mobilevision.segmentation.loss import judge_pixels, segmentation_loss
from torch.nn import functional as F

from mobilevision.segmentation import loss
from mobilevision.segmentation.types import IGNORE_INDEX


def random_masks(*shape, num_classes):
    return torch.randint(0, num_classes, shape, dtype=torch.uint8)


def test_equal_logits_cost_the_logarithm_of_the_number_of_classes():
    found = segmentation_loss(torch.zeros(2, 4, 3, 3), random_masks(2, 3, 3, num_classes=4))
    torch.testing.assert_close(found.sums, torch.full((2,), 9 * math.log(4)))
    torch.testing.assert_close(found.total, torch.tensor(math.log(4)))


def test_only_kept_pixels_count_and_all_images_share_one_denominator():
    logits = torch.tensor([[[[0.0, 0.0]], [[0.0, 9.0]]], [[[0.0, 0.0]], [[2.0, -3.0]]]])
    masks = torch.tensor([[[0, IGNORE_INDEX]], [[1, 0]]], dtype=torch.uint8)

    found = segmentation_loss(logits, masks)

    first, second = math.log(2), math.log(1 + math.exp(-2)) + math.log(1 + math.exp(-3))
    torch.testing.assert_close(found.sums, torch.tensor([first, second]))
    assert found.num_pixels.tolist() == [1, 2]
    torch.testing.assert_close(found.total, torch.tensor((first + second) / 3))


def test_a_map_is_enlarged_to_the_masks_with_corners_on_corners():
    logits, masks = torch.randn(2, 5, 3, 3), random_masks(2, 33, 33, num_classes=5)
    masks[0, :10] = IGNORE_INDEX
    enlarged = F.interpolate(logits, size=(33, 33), mode="bilinear", align_corners=True)
    expected = F.cross_entropy(enlarged, masks.long(), ignore_index=IGNORE_INDEX)
    torch.testing.assert_close(segmentation_loss(logits, masks).total, expected)


def test_a_batch_without_any_kept_pixel_costs_nothing_and_moves_nothing():
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    found = segmentation_loss(logits, torch.full((2, 8, 8), IGNORE_INDEX, dtype=torch.uint8))
    found.total.backward()
    assert found.total.item() == 0.0
    assert found.num_pixels.tolist() == [0, 0]
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_half_precision_logits_are_summed_in_float32():
    logits = torch.zeros(1, 2, 300, 300, dtype=torch.float16)
    found = segmentation_loss(logits, torch.zeros(1, 300, 300, dtype=torch.uint8))
    torch.testing.assert_close(found.sums, torch.tensor([90_000 * math.log(2)]))


@pytest.mark.parametrize("trained", [False, True])
def test_a_pixel_weighs_what_its_class_does_in_loss_and_mean(trained):
    logits, masks = torch.randn(2, 3, 4, 4, requires_grad=trained), random_masks(2, 9, 9, num_classes=3)
    masks[0, :3] = IGNORE_INDEX
    weights = torch.tensor([0.5, 1.0, 4.0])
    enlarged = F.interpolate(logits, size=(9, 9), mode="bilinear", align_corners=True)
    expected = F.cross_entropy(enlarged, masks.long(), weight=weights, ignore_index=IGNORE_INDEX)
    torch.testing.assert_close(segmentation_loss(logits, masks, weights).total, expected)


@pytest.mark.parametrize("band_elements", [1, 200, 10**6])
def test_judging_is_picking_the_best_class_and_summing_the_loss(band_elements, monkeypatch):
    monkeypatch.setattr(loss, "BAND_ELEMENTS", band_elements)
    logits, mask = torch.randn(3, 17, 11) * 30, random_masks(17, 11, num_classes=3)
    mask[:4, 2:] = IGNORE_INDEX
    judged, expected = judge_pixels(logits, mask), segmentation_loss(logits[None], mask[None])
    assert torch.equal(judged.predicted, logits.argmax(0))
    torch.testing.assert_close(judged.loss[None], expected.sums)
    assert judged.num_pixels == expected.num_pixels


def test_an_image_without_any_kept_pixel_is_judged_to_cost_nothing():
    judged = judge_pixels(torch.zeros(2, 3, 3), torch.full((3, 3), IGNORE_INDEX, dtype=torch.uint8))
    assert judged.loss == judged.num_pixels == 0
    assert torch.equal(judged.predicted, torch.zeros(3, 3, dtype=torch.int64))
