"""The loss: what counts, how much, and by what it is divided."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.ssd import SSD

from mobilevision.detection.anchors import make_anchors
from mobilevision.detection.boxes import cxcywh_to_xyxy, encode_boxes
from mobilevision.detection.criterion import DetectionCriterion, multibox_loss
from mobilevision.detection.matcher import BACKGROUND, match_anchors
from mobilevision.detection.types import PADDING, DetectionBatch, DetectorOutput

ANCHORS = make_anchors([(side, side) for side in (6, 3, 2, 1, 1, 1)], 96)
ROW = torch.tensor([[10.0 + 20 * place, 10, 10, 10] for place in range(8)])
"""Eight anchors side by side, none of which touches the next."""


def draw_outputs(num_images: int, anchors: Tensor, num_classes: int, *, random: bool = False) -> DetectorOutput:
    draw = torch.randn if random else torch.zeros
    return DetectorOutput(
        draw(num_images, len(anchors), 4).requires_grad_(),
        draw(num_images, len(anchors), num_classes + 1).requires_grad_(),
    )


def random_targets(num_images: int, most: int, num_classes: int) -> tuple[Tensor, Tensor]:
    low = torch.rand(num_images, most, 2) * 50
    boxes = torch.cat([low, low + 8 + torch.rand(num_images, most, 2) * 38], dim=-1)
    labels = torch.randint(0, num_classes, (num_images, most))
    labels[1:, -2:] = PADDING
    return boxes, labels


def add_up(outputs: DetectorOutput, boxes: Tensor, labels: Tensor, anchors: Tensor, **options) -> Tensor:
    """Return the loss that is trained on."""
    positions = torch.arange(len(labels))
    batch = DetectionBatch(torch.empty(len(labels), 3, 0, 0), boxes, labels, torch.ones(len(labels), 2), positions, ())
    return sum(DetectionCriterion(anchors, **options)(outputs, batch).values())


def one_box_on(place: int) -> tuple[Tensor, Tensor]:
    return cxcywh_to_xyxy(ROW[place])[None, None], torch.zeros(1, 1, dtype=torch.int64)


def test_a_positive_and_its_three_negatives_count():
    outputs = draw_outputs(1, ROW, num_classes=1)
    with torch.no_grad():
        outputs.offsets[0, 2] = torch.tensor([0.5, -3.0, 0, 0])
        outputs.offsets[0, 3] = 100.0
    loss = multibox_loss(outputs, *one_box_on(2), ROW)
    assert loss.num_positives.tolist() == [1]
    assert loss.localization.tolist() == pytest.approx([0.5 * 0.5**2 + (3 - 0.5)])
    assert loss.classification.tolist() == pytest.approx([4 * 2 * math.log(2)])
    assert add_up(outputs, *one_box_on(2), ROW).item() == pytest.approx(0.125 + 2.5 + 8 * math.log(2))


def test_the_hardest_negatives_count_and_the_easy_ones_do_not():
    outputs = draw_outputs(1, ROW, num_classes=1)
    with torch.no_grad():
        outputs.logits[0, :, 1] = torch.tensor([-9.0, 5, 0, -8, 3, -7, 4, -6])
    add_up(outputs, *one_box_on(2), ROW).backward()
    counted = outputs.logits.grad[0].abs().sum(dim=1) > 0
    assert counted.nonzero()[:, 0].tolist() == [1, 2, 4, 6]


def test_an_image_without_objects_counts_three_negatives():
    for num_boxes in (0, 2):
        outputs = draw_outputs(2, ROW, num_classes=1)
        targets = torch.zeros(2, num_boxes, 4), torch.full((2, num_boxes), PADDING)
        loss = multibox_loss(outputs, *targets, ROW)
        assert loss.num_positives.tolist() == [0, 0]
        assert loss.localization.tolist() == [0, 0]
        assert loss.classification.tolist() == pytest.approx([3 * 2 * math.log(2)] * 2)
        add_up(outputs, *targets, ROW).backward()
        assert outputs.logits.grad.isfinite().all()
        assert outputs.offsets.grad.tolist() == torch.zeros(2, 8, 4).tolist()


def test_positives_do_not_count_twice_where_negatives_run_out():
    boxes = cxcywh_to_xyxy(ROW[:6])[None]
    loss = multibox_loss(draw_outputs(1, ROW, num_classes=1), boxes, torch.zeros(1, 6, dtype=torch.int64), ROW)
    assert loss.classification.tolist() == pytest.approx([8 * 2 * math.log(2)])


def test_the_scalar_is_divided_by_the_positives_of_the_whole_batch():
    boxes = cxcywh_to_xyxy(ROW[:2]).repeat(3, 1, 1)
    labels = torch.tensor([[0, 0], [0, PADDING], [PADDING, PADDING]])
    loss = add_up(draw_outputs(3, ROW, num_classes=1), boxes, labels, ROW)
    assert loss.item() == pytest.approx((8 + 4 + 3) * 2 * math.log(2) / 3)


def test_softmax_equals_torchvision_where_every_image_has_objects():
    boxes, labels = random_targets(3, 5, num_classes=4)
    outputs = draw_outputs(3, ANCHORS, num_classes=4, random=True)
    loss = multibox_loss(outputs, boxes, labels, ANCHORS, score_function="softmax")
    torchvision_ssd = SimpleNamespace(box_coder=BoxCoder((10.0, 10.0, 5.0, 5.0)), neg_to_pos_ratio=3.0)
    expected = SSD.compute_loss(
        torchvision_ssd,
        [
            {"boxes": image_boxes, "labels": image_labels + 1}
            for image_boxes, image_labels in zip(boxes, labels, strict=True)
        ],
        {"bbox_regression": outputs.offsets, "cls_logits": outputs.logits},
        [cxcywh_to_xyxy(ANCHORS)] * 3,
        list(match_anchors(boxes, labels, ANCHORS)),
    )
    num_positives = loss.num_positives.sum()
    assert (loss.localization.sum() / num_positives).item() == pytest.approx(expected["bbox_regression"].item())
    assert (loss.classification.sum() / num_positives).item() == pytest.approx(expected["classification"].item())


def test_sigmoid_and_its_gradient_equal_the_obvious_way():
    boxes, labels = random_targets(3, 5, num_classes=4)
    labels[2] = PADDING
    outputs = draw_outputs(3, ANCHORS, num_classes=4, random=True)
    loss = multibox_loss(outputs, boxes, labels, ANCHORS)
    gradients = torch.autograd.grad(add_up(outputs, boxes, labels, ANCHORS), outputs)

    matched = match_anchors(boxes, labels, ANCHORS)
    parts = []
    for image in range(3):
        positive = matched[image] != BACKGROUND
        found = matched[image][positive]
        classes = torch.zeros(len(ANCHORS), dtype=torch.int64)
        classes[positive] = labels[image][found] + 1
        errors = F.binary_cross_entropy_with_logits(
            outputs.logits[image], F.one_hot(classes, 5).float(), reduction="none"
        ).sum(dim=1)
        negatives = errors[~positive].sort(descending=True).values[: max(3 * int(positive.sum()), 3)]
        expected = encode_boxes(boxes[image][found], ANCHORS[positive])
        localization = F.huber_loss(outputs.offsets[image][positive], expected, reduction="sum")
        parts.append((localization, errors[positive].sum() + negatives.sum(), positive.sum()))
    localization, classification, num_positives = (torch.stack(part) for part in zip(*parts, strict=True))
    assert torch.allclose(loss.localization, localization, rtol=1e-5)
    assert torch.allclose(loss.classification, classification, rtol=1e-5)
    expected_gradients = torch.autograd.grad((localization.sum() + classification.sum()) / num_positives.sum(), outputs)
    for gradient, expected in zip(gradients, expected_gradients, strict=True):
        assert torch.allclose(gradient, expected, atol=1e-6)


@pytest.mark.parametrize("score_function", ["sigmoid", "softmax"])
def test_the_loss_of_half_precision_outputs_is_computed_in_full(score_function: str):
    boxes, labels = random_targets(2, 4, num_classes=3)
    exact = draw_outputs(2, ANCHORS, num_classes=3, random=True)
    half = DetectorOutput(*(part.detach().bfloat16() for part in exact))
    loss, full = (add_up(each, boxes, labels, ANCHORS, score_function=score_function) for each in (half, exact))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(full.item(), rel=0.02)


@pytest.mark.parametrize("score_function", ["sigmoid", "softmax"])
def test_logits_far_from_zero_give_a_finite_loss_and_gradient(score_function: str):
    outputs = draw_outputs(1, ROW, num_classes=1)
    with torch.no_grad():
        outputs.logits[0, :, 1] = torch.tensor([1e4, -1e4, -1e4, 1e4, 500, 200, 90, 0])
    loss = add_up(outputs, *one_box_on(2), ROW, score_function=score_function)
    loss.backward()
    assert loss.item() == pytest.approx(1e4 + 2e4 + 500, rel=1e-3)
    assert outputs.logits.grad.isfinite().all()
