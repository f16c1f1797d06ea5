import math
from itertools import chain

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import multiprocessing
from torchmetrics.classification import MulticlassAccuracy, MulticlassCalibrationError

from mobilevision.classification.metrics import STATES, TopK, calibration_error, confused_pairs, rank_labels

NAN = math.nan


@pytest.mark.parametrize(
    ("logits", "label", "rank"),
    [
        ([3.0, 2.0, 1.0], 0, 0),
        ([3.0, 2.0, 1.0], 1, 1),
        ([3.0, 2.0, 1.0], 2, 2),
        ([1.0, 1.0, 1.0], 0, 0),
        ([1.0, 1.0, 1.0], 2, 2),
        ([NAN, NAN, NAN], 0, 3),
        ([NAN, 2.0, 1.0], 1, 1),
        ([5.0], 0, 0),
    ],
)
def test_the_rank_counts_the_classes_in_front(logits, label, rank):
    assert rank_labels(torch.tensor([logits]), torch.tensor([label])).tolist() == [rank]


@settings(deadline=None)
@given(
    st.integers(1, 7).flatmap(
        lambda num_classes: st.lists(
            st.tuples(
                st.lists(st.integers(-2, 2), min_size=num_classes, max_size=num_classes),
                st.integers(0, num_classes - 1),
            ),
            min_size=1,
            max_size=5,
        )
    )
)
def test_the_rank_is_the_place_in_a_stable_sort(rows):
    logits = torch.tensor([row[0] for row in rows], dtype=torch.float32)
    labels = torch.tensor([row[1] for row in rows])
    order = torch.argsort(logits, dim=1, descending=True, stable=True)
    assert rank_labels(logits, labels).tolist() == (order == labels[:, None]).int().argmax(dim=1).tolist()


def test_hand_computed_figures():
    metric = TopK(num_classes=7)
    logits = torch.tensor([[7.0, 6, 5, 4, 3, 2, 1]]).expand(4, -1)
    metric.update(logits, labels=torch.tensor([0, 4, 5, 0]), positions=torch.arange(4))
    result = metric.compute()
    assert result.top1 == 2 / 4
    assert result.top5 == 3 / 4
    assert result.num_images == 4
    expected = torch.tensor([1.0, NAN, NAN, NAN, 0.0, 0.0, NAN])
    torch.testing.assert_close(result.per_class_top1, expected, equal_nan=True)


def test_top_5_of_fewer_classes_is_right_unless_the_logits_are_no_numbers():
    metric = TopK(num_classes=2)
    metric.update(torch.tensor([[1.0, 0.0], [NAN, NAN]]), labels=torch.tensor([1, 0]), positions=torch.arange(2))
    result = metric.compute()
    assert (result.top1, result.top5) == (0.0, 0.5)


def test_figures_are_those_of_torchmetrics():
    logits, labels = torch.randn(203, 11), torch.randint(0, 11, (203,))
    metric = TopK(num_classes=11)
    for rows in torch.arange(203).split(20):
        metric.update(logits[rows], labels[rows], positions=rows)
    result = metric.compute()
    for k, figure in ((1, result.top1), (5, result.top5)):
        reference = MulticlassAccuracy(num_classes=11, top_k=k, average="micro")
        torch.testing.assert_close(figure, reference(logits, labels))
    per_class = MulticlassAccuracy(num_classes=11, average="none")(logits, labels)
    torch.testing.assert_close(result.per_class_top1, per_class)


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_figures_do_not_depend_on_the_number_of_processes(world_size):
    num_images = 7
    logits, labels = torch.randn(num_images, 3), torch.randint(0, 3, (num_images,))
    # What a distributed sampler does: fill up with repeats from the beginning, then deal out in turns.
    positions = torch.arange(-(-num_images // world_size) * world_size) % num_images
    shares = [positions[rank::world_size] for rank in range(world_size)]
    ranks = []
    for share in shares:
        ranks.append(TopK(num_classes=3))
        for rows in share.split(2):
            ranks[-1].update(logits[rows], labels[rows], positions=rows)
    gathered = TopK(num_classes=3)
    for state in STATES:
        setattr(gathered, state, list(chain.from_iterable(getattr(metric, state) for metric in ranks)))
    gathered._update_count = 1
    alone = TopK(num_classes=3)
    alone.update(logits, labels, positions=torch.arange(num_images))
    assert gathered.compute().num_images == num_images
    for one, other in zip(gathered.compute(), alone.compute(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


def test_the_calibration_error_by_hand():
    # Two parts of the scale: (0, 0.5] with one image of 0.4, a miss; (0.5, 1] with 0.6 a hit and 0.8 a hit.
    confidences, hits = torch.tensor([0.4, 0.6, 0.8]), torch.tensor([False, True, True])
    error = calibration_error(confidences, hits, num_bins=2)
    assert error.item() == pytest.approx((0.4 + abs(0.6 + 0.8 - 2)) / 3)


def test_a_confidence_on_a_bound_belongs_to_the_part_below():
    error = calibration_error(torch.tensor([0.5, 0.9]), torch.tensor([True, False]), num_bins=2)
    assert error.item() == pytest.approx((0.5 + 0.9) / 2)


def test_the_calibration_error_of_nothing_and_of_no_numbers():
    assert calibration_error(torch.zeros(0), torch.zeros(0, dtype=torch.bool)).isnan()
    assert calibration_error(torch.tensor([NAN]), torch.tensor([False])) == 0


@pytest.mark.parametrize("scale", [0.1, 1.0, 5.0])
def test_the_calibration_error_is_that_of_torchmetrics(scale):
    logits, labels = scale * torch.randn(500, 6), torch.randint(0, 6, (500,))
    metric = TopK(num_classes=6)
    metric.update(logits, labels, positions=torch.arange(500))
    reference = MulticlassCalibrationError(num_classes=6, n_bins=15, norm="l1")(logits.softmax(dim=1), labels)
    assert metric.compute().ece.item() == pytest.approx(reference.item(), abs=1e-5)


def test_the_most_confused_pairs_come_first_and_hits_are_none():
    labels, predicted = torch.tensor([2, 2, 2, 0, 1, 1]), torch.tensor([0, 0, 1, 2, 1, 0])
    assert confused_pairs(labels, predicted, num_classes=3, limit=2) == [(2, 0, 2), (0, 2, 1)]
    assert confused_pairs(labels, labels, num_classes=3, limit=2) == []


def measure_share(rank, world_size, rows, address, queue):
    logits, labels = rows
    torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=world_size)
    positions = torch.arange(-(-len(labels) // world_size) * world_size)[rank::world_size] % len(labels)
    metric = TopK(num_classes=logits.shape[1])
    for batch in positions.split(2):
        metric.update(logits[batch], labels[batch], positions=batch)
    result = metric.compute()
    queue.put((result.top1.item(), result.top5.item(), result.ece.item(), result.predicted.tolist()))
    torch.distributed.destroy_process_group()


def test_real_processes_measure_what_one_does(tmp_path):
    logits, labels = torch.randn(7, 6), torch.randint(0, 6, (7,))
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    arguments = (2, (logits, labels), f"file://{tmp_path}/meeting", queue)
    processes = [context.Process(target=measure_share, args=(rank, *arguments)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    alone = TopK(num_classes=6)
    alone.update(logits, labels, positions=torch.arange(7))
    expected = alone.compute()
    for _ in processes:
        top1, top5, ece, predicted = queue.get()
        assert (top1, top5, ece) == (expected.top1, expected.top5, expected.ece)
        assert predicted == expected.predicted.tolist()


def test_a_reset_forgets_what_was_measured():
    metric = TopK(num_classes=2)
    metric.update(torch.tensor([[1.0, 0.0]]), labels=torch.tensor([1]), positions=torch.tensor([0]))
    metric.reset()
    metric.update(torch.tensor([[1.0, 0.0]]), labels=torch.tensor([0]), positions=torch.tensor([0]))
    assert metric.compute().top1 == 1.0
