import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F
from torchmetrics.classification import MulticlassAccuracy, MulticlassCalibrationError

from mobilevision.classification.evaluator import (
    ClassificationEvaluator,
    calibration_error,
    confused_pairs,
    rank_labels,
)
from mobilevision.classification.types import ClassificationBatch

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


def test_the_most_confused_pairs_come_first_and_hits_are_none():
    labels, predicted = torch.tensor([2, 2, 2, 0, 1, 1]), torch.tensor([0, 0, 1, 2, 1, 0])
    assert confused_pairs(labels, predicted, num_classes=3, limit=2) == [(2, 0, 2), (0, 2, 1)]
    assert confused_pairs(labels, labels, num_classes=3, limit=2) == []


def evaluate(logits, labels, positions=None, *, batch_size=20, **options):
    evaluator = ClassificationEvaluator(logits.shape[1], **options)
    for rows in (torch.arange(len(labels)) if positions is None else positions).split(batch_size):
        evaluator.update(
            logits[rows], ClassificationBatch(torch.zeros(len(rows), 3, 1, 1, dtype=torch.uint8), labels[rows], rows)
        )
    return evaluator


def test_hand_computed_figures():
    logits = torch.tensor([[7.0, 6, 5, 4, 3, 2, 1]]).expand(4, -1)
    report = evaluate(logits, torch.tensor([0, 4, 5, 0])).compute()
    assert (report.figures["top1"], report.figures["top5"], report.num_images) == (0.5, 0.75, 4)
    top1 = [figures["top1"] for figures in report.per_class.values()]
    assert top1 == pytest.approx([1.0, NAN, NAN, NAN, 0.0, 0.0, NAN], nan_ok=True)
    confidence = float(logits[0].softmax(dim=0)[0])
    assert report.figures["ece"] == pytest.approx(abs(confidence - 0.5))


def test_label_smoothing_spreads_a_share_of_the_label():
    logits = torch.tensor([[1.0, 0.0]])
    loss = evaluate(logits, torch.tensor([0]), label_smoothing=0.2).compute().figures["loss"]
    scores = logits.softmax(dim=1)[0].tolist()
    assert loss == pytest.approx(-(0.9 * math.log(scores[0]) + 0.1 * math.log(scores[1])))


def test_top_5_of_fewer_classes_is_right_unless_the_logits_are_no_numbers():
    figures = evaluate(torch.tensor([[1.0, 0.0], [NAN, NAN]]), torch.tensor([1, 0])).compute().figures
    assert (figures["top1"], figures["top5"]) == (0.0, 0.5)
    assert math.isnan(figures["loss"])


@pytest.mark.parametrize("scale", [0.1, 1.0, 5.0])
def test_figures_are_those_of_torch_and_torchmetrics(scale):
    logits, labels = scale * torch.randn(203, 11), torch.randint(0, 11, (203,))
    report = evaluate(logits, labels).compute()
    for k, name in ((1, "top1"), (5, "top5")):
        reference = MulticlassAccuracy(num_classes=11, top_k=k, average="micro")
        assert report.figures[name] == pytest.approx(reference(logits, labels).item())
    per_class = MulticlassAccuracy(num_classes=11, average="none")(logits, labels)
    assert [figures["top1"] for figures in report.per_class.values()] == pytest.approx(per_class.tolist())
    reference = MulticlassCalibrationError(num_classes=11, n_bins=15, norm="l1")(logits.softmax(dim=1), labels)
    assert report.figures["ece"] == pytest.approx(reference.item(), abs=1e-5)
    assert report.figures["loss"] == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)


@given(st.permutations(range(7)), st.integers(1, 7))
def test_figures_depend_neither_on_the_order_nor_on_the_batches(order, batch_size):
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(7, 3, generator=generator), torch.tensor([0, 1, 2, 2, 1, 0, 1])
    expected = evaluate(logits, labels).compute()
    repeated = torch.tensor([*order, *order[:2]])
    assert evaluate(logits, labels, repeated, batch_size=batch_size).compute() == expected


def test_half_precision_is_measured_in_single():
    logits, labels = torch.randn(50, 4).bfloat16(), torch.randint(0, 4, (50,))
    assert evaluate(logits, labels).compute() == evaluate(logits.float(), labels).compute()


def test_the_analysis_names_what_is_taken_for_what():
    logits = torch.tensor([[1.0, 0.0]]).expand(7, -1)
    evaluator = evaluate(logits, torch.tensor([0, 1, 0, 1, 0, 1, 0]), class_names=("bright", "dark"))
    report = evaluator.compute()
    analysis = evaluator.analyze()
    assert analysis["confusions"] == [{"label": "dark", "predicted": "bright", "images": 3}]
    assert analysis["images_per_second"] > 0
    assert report.per_class == {"bright": {"top1": 1.0}, "dark": {"top1": 0.0}}
    json.dumps(analysis)


def test_without_images_there_are_no_figures():
    evaluator = ClassificationEvaluator(2)
    report = evaluator.compute()
    assert report.num_images == report.figures["loss"] == 0
    assert all(math.isnan(report.figures[name]) for name in ("top1", "top5", "ece"))
    assert evaluator.analyze()["confusions"] == []
