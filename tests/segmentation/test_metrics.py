import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.classification import MulticlassJaccardIndex

from mobilevision.segmentation.metrics import MeanIoU, confusion_matrix, mean_iou
from mobilevision.segmentation.types import IGNORE_INDEX


def draw_image(num_classes, *, seed, ignored=0.2):
    """A mask and a prediction that is right about half the time."""
    generator = torch.Generator().manual_seed(seed)
    height, width = torch.randint(1, 20, (2,), generator=generator).tolist()
    mask = torch.randint(0, num_classes, (height, width), generator=generator, dtype=torch.uint8)
    other = torch.randint(0, num_classes, (height, width), generator=generator)
    predicted = torch.where(torch.rand(height, width, generator=generator) < 0.5, mask.long(), other)
    mask[torch.rand(height, width, generator=generator) < ignored] = IGNORE_INDEX
    return predicted, mask


def test_rows_are_true_columns_are_predicted_and_255_is_left_out():
    mask = torch.tensor([[0, 0, 1], [2, 255, 255]], dtype=torch.uint8)
    predicted = torch.tensor([[0, 2, 1], [0, 1, 2]])
    assert confusion_matrix(predicted, mask, 3).tolist() == [[1, 0, 1], [0, 1, 0], [1, 0, 0]]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_predictions_may_be_of_any_integer_type(dtype):
    mask = torch.tensor([254, 0, 255], dtype=torch.uint8)
    confusion = confusion_matrix(torch.tensor([254, 254, 254]).to(dtype), mask, 255)
    assert confusion[254, 254] == 1
    assert confusion[0, 254] == 1
    assert confusion.sum() == 2


def test_the_mask_is_left_as_it_is():
    mask = torch.tensor([1, 255], dtype=torch.uint8)
    confusion_matrix(torch.tensor([1, 1]), mask, 3)
    assert mask.tolist() == [1, 255]


def test_iou_by_hand():
    iou = mean_iou(torch.tensor([[6, 2], [1, 3]]))
    torch.testing.assert_close(iou.per_class, torch.tensor([6 / 9, 3 / 6]))
    torch.testing.assert_close(iou.miou, torch.tensor((6 / 9 + 3 / 6) / 2))
    torch.testing.assert_close(iou.pixel_accuracy, torch.tensor(9 / 12))


def test_a_class_in_neither_truth_nor_prediction_is_left_out_of_the_mean():
    iou = mean_iou(torch.diag(torch.tensor([5, 0, 7, 0])))
    assert iou.miou == 1.0
    assert iou.per_class.isnan().tolist() == [False, True, False, True]


def test_a_class_that_is_predicted_but_never_true_counts_as_0():
    iou = mean_iou(torch.tensor([[3, 1], [0, 0]]))
    assert iou.per_class.tolist() == [0.75, 0.0]
    assert iou.miou == 0.375


def test_masks_of_255_only_have_no_figure():
    mask = torch.full((4, 4), IGNORE_INDEX, dtype=torch.uint8)
    confusion = confusion_matrix(torch.zeros(4, 4, dtype=torch.int64), mask, 3)
    assert confusion.sum() == 0
    assert math.isnan(mean_iou(confusion).miou)
    assert math.isnan(mean_iou(confusion).pixel_accuracy)


@settings(max_examples=40, deadline=None)
@given(num_classes=st.integers(2, 25), seeds=st.lists(st.integers(0, 10_000), min_size=1, max_size=4, unique=True))
def test_a_set_is_measured_as_torchmetrics_does(num_classes, seeds):
    ours = MeanIoU(num_classes)
    theirs = MulticlassJaccardIndex(num_classes, ignore_index=IGNORE_INDEX)
    each = MulticlassJaccardIndex(num_classes, ignore_index=IGNORE_INDEX, average=None)
    for position, seed in enumerate(seeds):
        predicted, mask = draw_image(num_classes, seed=seed)
        mask[0, 0] = predicted[0, 0]  # one pixel at least counts
        ours.update([predicted], [mask], torch.tensor([position]))
        for reference in (theirs, each):
            reference.update(predicted[None], mask[None].long())
    iou = ours.compute().iou
    torch.testing.assert_close(iou.miou, theirs.compute())
    torch.testing.assert_close(iou.per_class.nan_to_num(), each.compute())


def test_an_image_that_comes_twice_counts_once():
    once, twice = MeanIoU(4), MeanIoU(4)
    images = [draw_image(4, seed=seed) for seed in range(3)]
    for position, (predicted, mask) in enumerate(images):
        once.update([predicted], [mask], torch.tensor([position]))
    for position in (2, 0, 1, 0):
        predicted, mask = images[position]
        twice.update([predicted], [mask], torch.tensor([position]))
    assert torch.equal(once.compute().iou.per_class, twice.compute().iou.per_class)
    assert once.compute().num_images == twice.compute().num_images == 3


def test_a_batch_holds_images_of_different_sizes():
    images = [draw_image(4, seed=seed) for seed in range(3)]
    metric = MeanIoU(4)
    metric.update([image[0] for image in images], [image[1] for image in images], torch.arange(3))
    expected = mean_iou(sum(confusion_matrix(predicted, mask, 4) for predicted, mask in images))
    assert torch.equal(metric.compute().iou.per_class, expected.per_class)
