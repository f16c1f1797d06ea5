import json
import math
import subprocess
import sys
import warnings
from datetime import timedelta

import numpy as np
import pytest
import torch
from mobilevision.detection.details import describe
from mobilevision.detection.metrics import FIGURES, CocoMeanAP, coco_mean_ap

from mobilevision.detection.types import Detections, Result, Truth


def make_truth(boxes_xywh, labels, crowd=None):
    boxes = np.array(boxes_xywh, dtype=np.float64).reshape(-1, 4)
    crowd = np.zeros(len(boxes), dtype=np.bool_) if crowd is None else np.array(crowd, dtype=np.bool_)
    return Truth(boxes, np.array(labels, dtype=np.int64), crowd, boxes[:, 2] * boxes[:, 3])


def make_result(boxes_xywh, scores, labels):
    boxes = np.array(boxes_xywh, dtype=np.float64).reshape(-1, 4)
    return Result(boxes, np.array(scores, dtype=np.float64), np.array(labels, dtype=np.int64))


def make_set(num_images, num_classes=3, seed=0):
    """Truths, some of them empty or crowds, and detections near them."""
    generator = np.random.default_rng(seed)
    truths, detections = [], []
    for index in range(num_images):
        count = 0 if index % 4 == 1 else int(generator.integers(1, 6))
        boxes = generator.uniform((0, 0, 5, 5), (200, 200, 120, 120), (count, 4)).round()
        labels = generator.integers(0, num_classes, count)
        truths.append(make_truth(boxes, labels, generator.random(count) < 0.2))
        found = np.repeat(boxes, 2, axis=0) + generator.normal(0, 4, (2 * count, 4)).round()
        corners = np.concatenate([found[:, :2], found[:, :2] + np.maximum(found[:, 2:], 1)], axis=1)
        # Few different scores: ties are broken by the order of the images.
        scores = generator.integers(1, 5, 2 * count) / 5
        columns = (corners.astype(np.float32), scores.astype(np.float32), np.repeat(labels, 2))
        detections.append(Detections(*map(torch.from_numpy, columns)))
    return truths, detections


def measure(truths, detections, positions, batch_size=4):
    return measure_all(truths, detections, positions, batch_size).coco


def measure_all(truths, detections, positions, batch_size=4):
    metric = CocoMeanAP(num_classes=3)
    for start in range(0, len(positions), batch_size):
        batch = positions[start : start + batch_size]
        metric.update(torch.tensor(batch), [detections[index] for index in batch], [truths[index] for index in batch])
    return metric.compute()


def assert_same(measured, expected):
    assert measured.figures == expected.figures
    assert np.array_equal(measured.precision, expected.precision, equal_nan=True)
    assert measured.num_images == expected.num_images


def test_one_found_one_missed_and_one_false_alarm_by_hand():
    # Label 0: found by the better of two detections: precision 1 up to recall 1/2, nothing beyond: 51 of 101 recalls.
    # Label 1: one object, found with an IoU of 0.8: up to that threshold, 7 of 10.
    truth = make_truth([[0, 0, 10, 10], [50, 50, 10, 10], [20, 0, 10, 10]], [0, 0, 1])
    result = make_result([[0, 0, 10, 10], [80, 80, 10, 10], [20, 0, 10, 8]], [0.9, 0.8, 0.7], [0, 0, 1])
    measured = coco_mean_ap([result], [truth], num_classes=3)
    first, second = 51 / 101, 0.7
    assert measured.map_per_class[:2] == pytest.approx((first, second))
    assert math.isnan(measured.map_per_class[2])
    assert measured.map_50_per_class[:2] == pytest.approx((first, 1.0))
    assert measured.figures["map"] == pytest.approx((first + second) / 2)
    assert measured.figures["map_50"] == pytest.approx((first + 1) / 2)
    assert measured.figures["map_small"] == measured.figures["map"]
    assert measured.figures["map_medium"] == -1
    assert measured.figures["mar_1"] == pytest.approx((0.5 + 0.7) / 2)
    assert measured.num_images == 1


def test_a_detection_on_a_crowd_is_no_false_alarm():
    truth = make_truth([[0, 0, 10, 10], [40, 40, 50, 50]], [0, 0], crowd=[False, True])
    found = [[0, 0, 10, 10], [45, 45, 10, 10], [60, 60, 20, 20]]
    # The crowd's come first by score, where false alarms would cost.
    measured = coco_mean_ap([make_result(found, [0.5, 0.9, 0.8], [0, 0, 0])], [truth], num_classes=1)
    assert measured.figures["map"] == 1.0


def test_a_set_without_images_has_nothing_to_measure():
    measured = coco_mean_ap([], [], num_classes=2)
    assert dict(measured.figures) == dict.fromkeys(FIGURES, -1.0)
    assert all(map(math.isnan, measured.map_per_class + measured.map_50_per_class))
    assert measured.num_images == 0


def test_images_without_objects_and_detections_have_nothing_to_measure():
    nothing = make_result([], [], []), make_truth([], [])
    measured = coco_mean_ap([nothing[0]] * 2, [nothing[1]] * 2, num_classes=1)
    assert dict(measured.figures) == dict.fromkeys(FIGURES, -1.0)
    assert measured.num_images == 2


def test_the_mean_over_classes_is_the_figure():
    truths, detections = make_set(20)
    measured = measure(truths, detections, list(range(20)))
    assert 0.1 < measured.figures["map"] < 0.9
    assert np.mean(measured.map_per_class) == pytest.approx(measured.figures["map"], abs=1e-6)
    assert np.mean(measured.map_50_per_class) == pytest.approx(measured.figures["map_50"], abs=1e-6)


def test_the_metric_measures_what_the_function_does():
    truths, detections = make_set(9)
    results = [
        make_result(np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1), scores, labels)
        for boxes, scores, labels in ([column.numpy() for column in found] for found in detections)
    ]
    assert_same(measure(truths, detections, list(range(9))), coco_mean_ap(results, truths, num_classes=3))


def test_neither_batches_nor_order_nor_repeats_change_the_figures():
    truths, detections = make_set(21)
    expected = measure(truths, detections, list(range(21)))
    backwards_with_repeats = [*reversed(range(21)), 0, 1, 20]
    assert_same(measure(truths, detections, backwards_with_repeats, batch_size=5), expected)
    assert expected.num_images == 21
    # The order of the images does decide between their equal scores, so that sorting them is needed.
    swapped = measure(truths[::-1], detections[::-1], list(range(21)))
    assert swapped.figures != expected.figures


def test_one_class_is_measured():
    metric = CocoMeanAP(num_classes=1)
    metric.update(torch.tensor([0]), [Detections(*make_detection())], [make_truth([[0, 0, 10, 10]], [0])])
    assert metric.compute().coco.map_per_class == (1.0,)


def make_detection():
    return torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([0.5]), torch.tensor([0])


def test_nothing_stays_after_a_reset():
    truths, detections = make_set(3)
    metric = CocoMeanAP(num_classes=3)
    metric.update(torch.arange(3), detections, truths)
    metric.reset()
    metric.update(torch.tensor([0]), [Detections(*make_detection())], [make_truth([[0, 0, 10, 10]], [0])])
    assert metric.compute().coco.num_images == 1


NOT_UPDATED = "The ``compute`` method of metric CocoMeanAP was called before"

OTHER_PROCESS = """
import sys
import torch
from mobilevision.detection.metrics import CocoMeanAP
from mobilevision.detection.types import Detections, Truth

folder, rank, world_size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world_size)
images, rounds = torch.load(f"{folder}/rounds.pt", weights_only=True)
for shares in rounds:
    metric = CocoMeanAP(num_classes=3)
    for position in shares[rank]:
        found, true = images[position]
        metric.update(torch.tensor([position]), [Detections(*found)], [Truth(*(column.numpy() for column in true))])
    metric.compute()
torch.distributed.destroy_process_group()
"""


@pytest.fixture
def other_processes(tmp_path):
    """Start further processes, which take their shares of the images, and meet them."""
    processes = []

    def start(images, rounds):
        torch.save((images, rounds), tmp_path / "rounds.pt")
        count = len(rounds[0])
        for rank in range(1, count):
            command = [sys.executable, "-W", "ignore", "-c", OTHER_PROCESS, str(tmp_path), str(rank), str(count)]
            processes.append(subprocess.Popen(command))
        meeting, patience = f"file://{tmp_path}/meeting", timedelta(seconds=60)
        torch.distributed.init_process_group("gloo", init_method=meeting, rank=0, world_size=count, timeout=patience)

    yield start
    torch.distributed.destroy_process_group()
    assert [process.wait(timeout=60) for process in processes] == [0] * len(processes)


@pytest.mark.parametrize(
    "rounds",
    [
        # A set that does not divide, where the second repeats an image; all images on one process, then on the other;
        # images without objects only.
        [([0, 2, 4, 6, 8], [1, 3, 5, 7, 0]), ([0, 1, 2], []), ([], [0, 2]), ([1], [5])],
        # Likewise; one process without objects; more processes than images; no images at all.
        [([0, 3, 6], [1, 4, 7], [2, 5, 0]), ([0, 4], [1, 5], [2, 8]), ([], [3], []), ([], [], [])],
    ],
    ids=["two", "three"],
)
def test_processes_together_measure_what_one_does_even_if_some_have_nothing(rounds, other_processes):
    truths, detections = make_set(9)
    together = [sorted({position for share in shares for position in share}) for shares in rounds]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=NOT_UPDATED)
        expected = [measure_all(truths, detections, positions) for positions in together]

    images = [
        (tuple(found), tuple(map(torch.from_numpy, truth))) for found, truth in zip(detections, truths, strict=True)
    ]
    other_processes(images, rounds)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=NOT_UPDATED)
        measured = [measure_all(truths, detections, shares[0]) for shares in rounds]
    names = ("boat", "kite", "tree")
    for found, wanted in zip(measured, expected, strict=True):
        assert_same(found.coco, wanted.coco)
        assert json.dumps(describe(found, names)) == json.dumps(describe(wanted, names))
