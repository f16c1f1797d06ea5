"""Matching, encoding, mining and the loss with its gradient, without a network."""

from collections.abc import Callable
from types import SimpleNamespace

import torch
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder, SSDMatcher
from torchvision.models.detection.ssd import SSD
from torchvision.ops import box_iou

from mobilevision.detection.anchors import make_anchors
from mobilevision.detection.boxes import cxcywh_to_xyxy
from mobilevision.detection.criterion import DetectionCriterion
from mobilevision.detection.types import DetectionBatch, DetectorOutput

ANCHORS = make_anchors([(side, side) for side in (20, 10, 5, 3, 2, 1)], 320)


def make_inputs(batch_size: int, objects: int, num_classes: int) -> tuple[DetectorOutput, Tensor, Tensor]:
    """Draw outputs of a detector, boxes and labels."""
    low = torch.rand(batch_size, objects, 2) * 200
    boxes = torch.cat([low, low + 20 + torch.rand(batch_size, objects, 2) * 100], dim=-1)
    offsets, logits = (torch.randn(batch_size, len(ANCHORS), width) for width in (4, num_classes + 1))
    outputs = DetectorOutput(offsets.requires_grad_(), logits.requires_grad_())
    return outputs, boxes, torch.randint(0, num_classes, (batch_size, objects))


def ours(batch_size: int, objects: int, num_classes: int) -> Callable[[], float]:
    """Prepare the loss with softmax, which is the peer's."""
    outputs, boxes, labels = make_inputs(batch_size, objects, num_classes)
    images, sizes = torch.empty(batch_size, 3, 0, 0), torch.full((batch_size, 2), 320)
    batch = DetectionBatch(images, boxes, labels, sizes, torch.arange(batch_size), truths=())
    criterion = DetectionCriterion(ANCHORS, score_function="softmax")

    def step() -> float:
        loss = sum(criterion(outputs, batch).values())
        torch.autograd.grad(loss, outputs)
        return loss.item()

    return step


def peer(batch_size: int, objects: int, num_classes: int) -> Callable[[], float]:
    """Prepare torchvision's, image by image as its SSD does."""
    outputs, boxes, labels = make_inputs(batch_size, objects, num_classes)
    targets = [{"boxes": each, "labels": names + 1} for each, names in zip(boxes, labels, strict=True)]
    theirs = {"bbox_regression": outputs.offsets, "cls_logits": outputs.logits}
    anchors = [cxcywh_to_xyxy(ANCHORS)] * batch_size
    matcher = SSDMatcher(0.5)
    ssd = SimpleNamespace(box_coder=BoxCoder((10.0, 10.0, 5.0, 5.0)), neg_to_pos_ratio=3.0)

    def step() -> float:
        matched = [matcher(box_iou(target["boxes"], each)) for target, each in zip(targets, anchors, strict=True)]
        loss = sum(SSD.compute_loss(ssd, targets, theirs, anchors, matched).values())
        torch.autograd.grad(loss, outputs)
        return loss.item()

    return step


def compare(ours: float, peer: float) -> str:
    """Return both losses in words."""
    return f"losses {ours:.4f} and {peer:.4f}"
