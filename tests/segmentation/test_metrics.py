import json
import math
import socket
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mobilevision.segmentation.metrics import MeanBoundaryF, MeanIoU, confusion_matrix, mean_boundary_f, mean_iou
from torchmetrics.classification import MulticlassJaccardIndex

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


def test_vocs_mean_is_over_all_classes_and_there_is_none_where_one_is_absent():
    present = mean_iou(torch.tensor([[3, 1], [0, 4]]))
    assert present.miou_voc == present.miou
    assert mean_iou(torch.tensor([[3, 1], [0, 0]])).miou_voc == 0.375
    assert math.isnan(mean_iou(torch.diag(torch.tensor([5, 0]))).miou_voc)


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


def test_a_class_counts_in_the_boundary_score_of_the_images_that_have_it():
    nan = math.nan
    scores = mean_boundary_f(torch.tensor([[1.0, nan, nan], [0.5, 0.2, nan]]))
    torch.testing.assert_close(scores.per_class, torch.tensor([0.75, 0.2, nan]), equal_nan=True)
    torch.testing.assert_close(scores.mean, torch.tensor(0.475))


def test_no_image_with_any_class_has_no_boundary_score():
    assert math.isnan(mean_boundary_f(torch.full((2, 3), math.nan)).mean)


def test_boundary_scores_come_from_each_image_once():
    mask = torch.zeros(40, 40, dtype=torch.uint8)
    mask[10:30, 10:30] = 1
    metric = MeanBoundaryF(2)
    metric.update([mask.long()], [mask], torch.tensor([1]))
    metric.update([torch.zeros(40, 40, dtype=torch.int64)] * 2, [mask] * 2, torch.tensor([0, 0]))
    assert metric.compute().per_class.tolist() == [0.5, 0.5]


WORKER = """
import json, sys
import torch
import torch.distributed as dist
from mobilevision.segmentation.metrics import MeanBoundaryF, MeanIoU

rank, port = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=3)
pair, figures = dist.new_group([0, 1]), {}
for world_size, group in ((3, None), (2, pair)):
    if rank >= world_size:
        continue
    metrics = MeanIoU(4), MeanBoundaryF(4)
    # Five images; the shares are filled up with repeats, as a distributed sampler does.
    for position in range(rank, -(-5 // world_size) * world_size, world_size):
        generator = torch.Generator().manual_seed(position % 5)
        side = 6 + position % 5
        mask = torch.randint(0, 4, (side, side), generator=generator, dtype=torch.uint8)
        mask[0, position % 5] = 255
        predicted = torch.randint(0, 3, (side, side), generator=generator)
        for metric in metrics:
            metric.process_group = group
            metric.update([predicted], [mask], torch.tensor([position % 5]))
    iou, boundary_f = (metric.compute() for metric in metrics)
    per_class = iou.iou.per_class.tolist(), boundary_f.per_class.tolist()
    figures[world_size] = [iou.num_images, float(iou.iou.miou), *per_class]
print(json.dumps(figures))
"""


@pytest.mark.slow
def test_two_and_three_processes_measure_exactly_what_one_does():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    processes = [
        subprocess.Popen([sys.executable, "-c", WORKER, str(rank), port], stdout=subprocess.PIPE, text=True)
        for rank in range(3)
    ]
    outputs = [json.loads(process.communicate(timeout=120)[0]) for process in processes]
    metrics = MeanIoU(4), MeanBoundaryF(4)
    for position in range(5):
        generator = torch.Generator().manual_seed(position)
        side = 6 + position
        mask = torch.randint(0, 4, (side, side), generator=generator, dtype=torch.uint8)
        mask[0, position] = 255
        predicted = torch.randint(0, 3, (side, side), generator=generator)
        for metric in metrics:
            metric.update([predicted], [mask], torch.tensor([position]))
    iou, boundary_f = (metric.compute() for metric in metrics)
    expected = [5, float(iou.iou.miou), iou.iou.per_class.tolist(), boundary_f.per_class.tolist()]
    assert outputs == [{"3": expected, "2": expected}] * 2 + [{"3": expected}]
