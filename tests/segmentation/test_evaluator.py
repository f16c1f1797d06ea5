import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from torchmetrics.classification import MulticlassJaccardIndex

from mobilevision.segmentation import evaluator as module
from mobilevision.segmentation.boundary import boundary_f_scores
from mobilevision.segmentation.evaluator import (
    SegmentationEvaluator,
    confusion_matrix,
    mean_boundary_f,
    mean_iou,
    predict_and_score,
)
from mobilevision.segmentation.types import IGNORE_INDEX, EvalBatch

SIZE = 33


def test_rows_are_true_columns_are_predicted_and_255_is_left_out():
    mask = torch.tensor([[0, 0, 1], [2, 255, 255]], dtype=torch.uint8)
    predicted = torch.tensor([[0, 2, 1], [0, 1, 2]])
    assert confusion_matrix(predicted, mask, 3).tolist() == [[1, 0, 1], [0, 1, 0], [1, 0, 0]]
    assert mask[1].tolist() == [2, 255, 255]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_predictions_may_be_of_any_integer_type(dtype):
    mask = torch.tensor([254, 0, 255], dtype=torch.uint8)
    confusion = confusion_matrix(torch.tensor([254, 254, 254]).to(dtype), mask, 255)
    assert confusion[254, 254] == 1
    assert confusion[0, 254] == 1
    assert confusion.sum() == 2


def test_iou_by_hand():
    iou = mean_iou(torch.tensor([[6, 2], [1, 3]]))
    assert iou.per_class.tolist() == [6 / 9, 3 / 6]
    assert iou.miou.item() == pytest.approx((6 / 9 + 3 / 6) / 2)
    assert iou.pixel_accuracy == 9 / 12


def test_a_class_in_neither_truth_nor_prediction_is_left_out_of_the_mean():
    iou = mean_iou(torch.diag(torch.tensor([5, 0, 7, 0])))
    assert iou.miou == 1.0
    assert iou.per_class.isnan().tolist() == [False, True, False, True]


def test_vocs_mean_is_over_all_classes_and_there_is_none_where_one_is_absent():
    present = mean_iou(torch.tensor([[3, 1], [0, 4]]))
    assert present.miou_voc == present.miou
    assert math.isnan(mean_iou(torch.diag(torch.tensor([5, 0]))).miou_voc)


def test_a_class_that_is_predicted_but_never_true_has_no_iou_and_is_0_to_voc():
    iou = mean_iou(torch.tensor([[3, 1], [0, 0]]))
    assert iou.per_class.tolist() == pytest.approx([0.75, math.nan], nan_ok=True)
    assert (iou.miou, iou.miou_voc) == (0.75, 0.375)


def test_a_report_names_the_classes_that_no_pixel_is_of():
    evaluator = SegmentationEvaluator(3, ("ground", "tree", "house"), output_stride=16, padding="symmetric")
    logits, mask = torch.zeros(1, 3, 3, 3), torch.zeros(33, 33, dtype=torch.uint8)
    logits[:, 1] = 1
    evaluator.update(logits, EvalBatch(torch.zeros(1, 3, 33, 33), (mask,), torch.tensor([0]), "original"))
    report = evaluator.compute()
    assert report.details["absent_classes"] == ["tree", "house"]
    assert report.figures["miou"] == report.per_class["ground"]["iou"] == 0
    assert all(math.isnan(value) for name in ("tree", "house") for value in report.per_class[name].values())


def test_without_pixels_there_is_no_figure():
    assert all(figure.isnan().all() for figure in mean_iou(torch.zeros(3, 3, dtype=torch.int64)))


def test_a_class_counts_in_the_boundary_score_of_the_images_that_have_it():
    scores = mean_boundary_f(torch.tensor([[1.0, math.nan, math.nan], [0.5, 0.2, math.nan]]))
    assert scores.per_class.tolist() == pytest.approx([0.75, 0.2, math.nan], nan_ok=True)
    assert scores.mean.item() == pytest.approx(0.475)
    assert math.isnan(mean_boundary_f(torch.full((2, 3), math.nan)).mean)


@pytest.mark.parametrize("band_elements", [1, 200, 10**6])
def test_the_best_class_and_the_loss_are_found_in_one_pass(band_elements, monkeypatch):
    monkeypatch.setattr(module, "BAND_ELEMENTS", band_elements)
    logits, mask = torch.randn(3, 17, 11) * 30, torch.randint(0, 3, (17, 11), dtype=torch.uint8)
    mask[:4, 2:] = IGNORE_INDEX
    scores = predict_and_score(logits, mask)
    assert torch.equal(scores.predicted, logits.argmax(0))
    expected = F.cross_entropy(logits[None], mask[None].long(), ignore_index=IGNORE_INDEX, reduction="sum")
    torch.testing.assert_close(scores.loss, expected)
    assert scores.num_pixels == (mask != IGNORE_INDEX).sum()


def test_an_image_without_any_pixel_that_counts_costs_nothing():
    scores = predict_and_score(torch.zeros(2, 3, 3), torch.full((3, 3), IGNORE_INDEX, dtype=torch.uint8))
    assert scores.loss == scores.num_pixels == 0
    assert torch.equal(scores.predicted, torch.zeros(3, 3, dtype=torch.int64))


def draw_images(num_images, num_classes, *, seed=0):
    """Logits of every pixel of the square, right about half the time, and masks of sizes of their own."""
    generator = torch.Generator().manual_seed(seed)
    masks = []
    for _ in range(num_images):
        height, width = torch.randint(1, SIZE + 1, (2,), generator=generator).tolist()
        mask = torch.randint(0, num_classes, (height, width), generator=generator, dtype=torch.uint8)
        mask[torch.rand(height, width, generator=generator) < 0.2] = IGNORE_INDEX
        mask[0, 0] = 0
        masks.append(mask)
    logits = torch.randn(num_images, num_classes, SIZE, SIZE, generator=generator)
    for each, mask in zip(logits, masks, strict=True):
        right = F.one_hot(mask.long() * (mask != IGNORE_INDEX), num_classes).permute(2, 0, 1)
        each[:, : mask.shape[0], : mask.shape[1]] += 2 * right
    return logits, masks


def evaluate(logits, masks, positions=None, *, batch_size=2, protocol="original", **options):
    given = {"output_stride": 16, "padding": "symmetric"} | options
    evaluator = SegmentationEvaluator(logits.shape[1], **given)
    for rows in (torch.arange(len(masks)) if positions is None else positions).split(batch_size):
        images = torch.zeros(len(rows), 3, SIZE, SIZE, dtype=torch.uint8)
        evaluator.update(logits[rows], EvalBatch(images, tuple(masks[row] for row in rows), rows, protocol))
    return evaluator


@settings(max_examples=20)
@given(num_classes=st.integers(2, 25), seed=st.integers(0, 10_000))
def test_figures_are_those_of_torch_and_torchmetrics_at_the_size_of_the_masks(num_classes, seed):
    logits, masks = draw_images(3, num_classes, seed=seed)
    mean = MulticlassJaccardIndex(num_classes, ignore_index=IGNORE_INDEX)
    each = MulticlassJaccardIndex(num_classes, ignore_index=IGNORE_INDEX, average=None)
    loss, num_pixels, scores = 0.0, 0, []
    for square, mask in zip(logits, masks, strict=True):
        image = square[:, : mask.shape[0], : mask.shape[1]]
        loss += F.cross_entropy(image[None], mask[None].long(), ignore_index=IGNORE_INDEX, reduction="sum").item()
        num_pixels += int((mask != IGNORE_INDEX).sum())
        scores.append(torch.from_numpy(boundary_f_scores(image.argmax(0).numpy(), mask.numpy(), num_classes)))
        for reference in (mean, each):
            reference.update(image.argmax(0)[None], mask[None].long())

    report = evaluate(logits, masks).compute()

    assert report.figures["miou"] == pytest.approx(mean.compute().item())
    assert report.figures["loss"] == pytest.approx(loss / num_pixels, rel=1e-5)
    assert report.figures["boundary_f"] == mean_boundary_f(torch.stack(scores)).mean
    ious = torch.tensor([figures["iou"] for figures in report.per_class.values()])
    torch.testing.assert_close(ious.nan_to_num(), each.compute())


def test_coarse_logits_are_restored_to_the_file_as_they_were_fitted():
    mask = torch.zeros(2 * SIZE, SIZE, dtype=torch.uint8)
    # The image is 33 by 16 pixels in the square: class 0 ends halfway between the cells at columns 0 and 16.
    mask[:, SIZE // 2 + 1 :] = 1
    coarse = torch.zeros(1, 2, 3, 3)
    coarse[:, 0, :, 0] = coarse[:, 1, :, 1:] = 1.0
    report = evaluate(coarse, [mask]).compute()
    assert report.figures["pixel_accuracy"] > 0.95


@settings(max_examples=20)
@given(st.permutations(range(5)), st.integers(1, 5))
def test_figures_depend_neither_on_the_order_nor_on_the_batches(order, batch_size):
    logits, masks = draw_images(5, 4)
    repeated = torch.tensor([*order, *order[:2]])
    report, expected = evaluate(logits, masks, repeated, batch_size=batch_size).compute(), evaluate(logits, masks)
    assert report == expected.compute()
    assert report.num_images == 5


def test_the_report_names_the_classes_and_the_protocol():
    logits, masks = draw_images(1, 2)
    options = {"class_names": ("ground", "tree"), "scales": (0.5, 1.0), "flip": True, "output_stride": 8}
    report = evaluate(logits, masks, protocol="pad", **options).compute()
    assert list(report.figures) == ["loss", "miou", "miou_voc", "pixel_accuracy", "boundary_f"]
    assert [(name, list(figures)) for name, figures in report.per_class.items()] == [
        ("ground", ["iou", "boundary_f"]),
        ("tree", ["iou", "boundary_f"]),
    ]
    assert report.details["protocol"]["name"] == f"pad to {SIZE}, output stride 8, scales 0.5 1, flipped"


def test_the_analysis_counts_which_class_is_taken_for_which():
    logits = torch.zeros(1, 2, SIZE, SIZE)
    logits[:, 1] = 1.0
    mask = torch.tensor([[0, 0, 1, IGNORE_INDEX]], dtype=torch.uint8)
    analysis = evaluate(logits, [mask], class_names=("ground", "tree")).analyze()
    assert analysis == {"confusion": {"classes": ["ground", "tree"], "counts": [[0, 2], [0, 1]]}}
    json.dumps(analysis)


def test_masks_of_255_only_and_no_masks_have_no_figure():
    ignored = torch.full((SIZE, SIZE), IGNORE_INDEX, dtype=torch.uint8)
    reports = [evaluate(torch.zeros(1, 3, SIZE, SIZE), [ignored]).compute()]
    reports.append(SegmentationEvaluator(3, output_stride=16, padding="symmetric").compute())
    for report in reports:
        assert report.figures["loss"] == 0.0
        assert math.isnan(report.figures["miou"])
        assert math.isnan(report.figures["boundary_f"])
