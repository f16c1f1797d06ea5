import json
import math
import threading

import numpy as np
import pytest
import torch

from mobilevision.detection import evaluator as module
from mobilevision.detection.criterion import MultiboxLoss
from mobilevision.detection.evaluator import FIGURES, DetectionEvaluator, coco_mean_ap
from mobilevision.detection.types import DetectionBatch, Detections, Result
from mobilevision.head import Selection
from mobilevision.training import evaluation

NAMES = ("boat", "kite", "tree")


def test_one_found_one_missed_and_one_false_alarm_by_hand(make_truth, make_result):
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


def test_a_detection_on_a_crowd_is_no_false_alarm(make_truth, make_result):
    truth = make_truth([[0, 0, 10, 10], [40, 40, 50, 50]], [0, 0], crowd=[False, True])
    found = [[0, 0, 10, 10], [45, 45, 10, 10], [60, 60, 20, 20]]
    # The crowd's come first by score, where false alarms would cost.
    measured = coco_mean_ap([make_result(found, [0.5, 0.9, 0.8], [0, 0, 0])], [truth], num_classes=1)
    assert measured.figures["map"] == 1.0


@pytest.mark.parametrize("num_images", [0, 2])
def test_without_objects_and_detections_there_is_nothing_to_measure(make_truth, make_result, num_images):
    measured = coco_mean_ap([make_result([], [], [])] * num_images, [make_truth([], [])] * num_images, num_classes=2)
    assert dict(measured.figures) == dict.fromkeys(FIGURES, -1.0)
    assert all(map(math.isnan, measured.map_per_class + measured.map_50_per_class))
    assert measured.num_images == num_images


def test_the_mean_over_classes_is_the_figure(random_set):
    measured = coco_mean_ap(*random_set(20), num_classes=3)
    assert 0.1 < measured.figures["map"] < 0.9
    assert np.mean(measured.map_per_class) == pytest.approx(measured.figures["map"], abs=1e-6)
    assert np.mean(measured.map_50_per_class) == pytest.approx(measured.figures["map_50"], abs=1e-6)


class Images:
    """Images whose network outputs are the detections themselves, and whose loss is their number for each object."""

    def __init__(self, results, truths):
        self.truths = truths
        corners = [np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1) for boxes, *_ in results]
        self.detections = [
            Detections(torch.from_numpy(each).float(), torch.from_numpy(found.scores), torch.from_numpy(found.labels))
            for each, found in zip(corners, results, strict=True)
        ]

    def per_image(self, outputs, batch):
        counts = torch.tensor([len(truth.labels) for truth in batch.truths])
        return MultiboxLoss(batch.positions * counts / 2, batch.positions * counts / 2, counts)

    def make_evaluator(self):
        options = {"criterion": self, "postprocess": lambda outputs, sizes, selection: outputs}
        return DetectionEvaluator(3, NAMES, **options, selection=Selection())

    def evaluate(self, positions, batch_size=4):
        evaluator = self.make_evaluator()
        for rows in torch.tensor(positions, dtype=torch.int64).split(batch_size):
            if len(rows):
                truths = tuple(self.truths[row] for row in rows)
                batch = DetectionBatch(*[torch.zeros(len(rows))] * 4, rows, truths)
                evaluator.update([self.detections[row] for row in rows], batch)
        return evaluator


@pytest.fixture
def make_images(random_set):
    # Few different scores: ties are broken by the order of the images.
    return lambda count: Images(*random_set(count, num_scores=5))


@pytest.fixture
def images(make_images):
    return make_images(21)


def test_the_evaluator_measures_what_the_function_does(images):
    evaluator = images.evaluate(range(21))
    report, results = evaluator.compute(), []
    for boxes, scores, labels in ([column.double().numpy() for column in found] for found in images.detections):
        results.append(Result(np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]]), scores, labels.astype(int)))
    expected = coco_mean_ap(results, images.truths, num_classes=3)
    counts = np.array([len(truth.labels) for truth in images.truths])
    assert report.figures == {"loss": np.arange(21) @ counts / counts.sum(), **expected.figures}
    assert [figures["map"] for figures in report.per_class.values()] == list(expected.map_per_class)
    assert [figures["map_50"] for figures in report.per_class.values()] == list(expected.map_50_per_class)
    assert (tuple(report.per_class), report.num_images, report.details) == (NAMES, 21, {})
    analysis = evaluator.analyze()
    assert analysis["errors"]["map_50"] == pytest.approx(report.figures["map_50"])
    assert analysis["confusion"]["classes"] == [*NAMES, "background"]
    json.dumps(analysis)


@pytest.mark.parametrize("batch_size", [1, 5, 30])
def test_neither_batches_nor_order_nor_repeats_change_the_figures(images, batch_size):
    backwards_with_repeats = [*reversed(range(21)), 0, 1, 20]
    assert images.evaluate(backwards_with_repeats, batch_size).compute() == images.evaluate(range(21)).compute()


def test_the_order_of_the_images_decides_between_equal_scores(images, make_images):
    swapped = make_images(21)
    swapped.truths, swapped.detections = images.truths[::-1], images.detections[::-1]
    assert swapped.evaluate(range(21)).compute().figures != images.evaluate(range(21)).compute().figures


def test_nothing_stays_after_a_reset(images):
    evaluator = images.evaluate(range(3))
    evaluator.reset()
    assert evaluator.compute().num_images == 0


SHARES = [
    # A dataset that does not divide, where the last process repeats an image.
    ([0, 3, 6], [1, 4, 7], [2, 5, 0]),
    # One process has objects only; images without objects; one process without any image; none at all.
    ([0, 4], [1, 5], [2, 8]),
    ([1], [5], []),
    ([], [3], []),
    ([], [], []),
]


@pytest.mark.parametrize("shares", SHARES)
def test_processes_together_measure_what_one_does_even_if_some_have_nothing(images, monkeypatch, shares):
    together = images.evaluate(sorted({position for share in shares for position in share}))
    expected = together.compute().figures, json.dumps(together.analyze())
    # Threads stand for processes: each waits for the rows of the others.
    barrier, gathered, found = threading.Barrier(len(shares)), {}, {}

    def gather_rows(rows, device):
        gathered[threading.current_thread().name] = rows
        barrier.wait(60)
        every = torch.cat([gathered[str(rank)] for rank in range(len(shares))])
        barrier.wait(60)
        return every

    def measure(rank, evaluator):
        found[rank] = evaluator.compute().figures, json.dumps(evaluator.analyze())

    for each in (module, evaluation):
        monkeypatch.setattr(each, "gather_rows", gather_rows)
    threads = [
        threading.Thread(target=measure, args=(rank, images.evaluate(share)), name=str(rank))
        for rank, share in enumerate(shares)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == dict.fromkeys(range(len(shares)), expected)
