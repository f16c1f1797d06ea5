"""Matching, encoding, mining and the loss with its gradient, without a network."""

from collections.abc import Callable
from types import SimpleNamespace

import torch
from mobilevision.detection.loss import multibox_loss
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder, SSDMatcher
from torchvision.models.detection.ssd import SSD
from torchvision.ops import box_iou

from mobilevision.detection.anchors import make_anchors
from mobilevision.detection.boxes import cxcywh_to_xyxy
from mobilevision.detection.types import RawPredictions

ANCHORS = make_anchors([(side, side) for side in (20, 10, 5, 3, 2, 1)], 320)


def make_inputs(batch_size: int, objects: int, num_classes: int) -> tuple[RawPredictions, Tensor, Tensor]:
    """Draw predictions, boxes and labels."""
    low = torch.rand(batch_size, objects, 2) * 200
    boxes = torch.cat([low, low + 20 + torch.rand(batch_size, objects, 2) * 100], dim=-1)
    offsets, logits = (torch.randn(batch_size, len(ANCHORS), width) for width in (4, num_classes + 1))
    predictions = RawPredictions(offsets.requires_grad_(), logits.requires_grad_())
    return predictions, boxes, torch.randint(0, num_classes, (batch_size, objects))


def ours(batch_size: int, objects: int, num_classes: int) -> Callable[[], float]:
    """Prepare the loss with softmax, which is the peer's."""
    predictions, boxes, labels = make_inputs(batch_size, objects, num_classes)

    def step() -> float:
        loss = multibox_loss(predictions, boxes, labels, ANCHORS, score_function="softmax").total
        torch.autograd.grad(loss, predictions)
        return loss.item()

    return step


def peer(batch_size: int, objects: int, num_classes: int) -> Callable[[], float]:
    """Prepare torchvision's, image by image as its SSD does."""
    predictions, boxes, labels = make_inputs(batch_size, objects, num_classes)
    targets = [{"boxes": each, "labels": names + 1} for each, names in zip(boxes, labels, strict=True)]
    outputs = {"bbox_regression": predictions.offsets, "cls_logits": predictions.logits}
    anchors = [cxcywh_to_xyxy(ANCHORS)] * batch_size
    matcher = SSDMatcher(0.5)
    ssd = SimpleNamespace(box_coder=BoxCoder((10.0, 10.0, 5.0, 5.0)), neg_to_pos_ratio=3.0)

    def step() -> float:
        matched = [matcher(box_iou(target["boxes"], each)) for target, each in zip(targets, anchors, strict=True)]
        loss = sum(SSD.compute_loss(ssd, targets, outputs, anchors, matched).values())
        torch.autograd.grad(loss, predictions)
        return loss.item()

    return step


def compare(ours: float, peer: float) -> str:
    """Say how far the losses are apart."""
    return f"losses {ours:.4f} and {peer:.4f}"
