"""A training step: forward, loss, backward, optimizer; the fine-tuning preset as it ships, torchvision as it trains."""

from collections.abc import Callable

import torch
from benchmarks.preset import prepare_step
from benchmarks.torchvision_ssd import torchvision_ssd
from torch import Tensor

from mobilevision.detection.head import ssdlite_mobilenet_v2
from mobilevision.detection.task import DetectionTask
from mobilevision.detection.types import DetectionBatch

PRESET = "detection/ssdlite_mobilenet_v2_finetune.yaml"
OBJECTS = 5
"""Objects in an image."""


def make_batch(batch_size: int, input_size: int, num_classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Draw pixels, boxes and labels."""
    images = torch.randint(0, 256, (batch_size, 3, input_size, input_size), dtype=torch.uint8)
    low = torch.rand(batch_size, OBJECTS, 2) * 0.5
    boxes = torch.cat([low, low + 0.1 + torch.rand(batch_size, OBJECTS, 2) * 0.4], dim=-1) * input_size
    return images, boxes, torch.randint(0, num_classes, (batch_size, OBJECTS))


def ours(batch_size: int, input_size: int, num_classes: int) -> Callable[[], float]:
    """Prepare a step of the fine-tuning preset as it ships and as the command runs it."""
    return _ours(batch_size, input_size, num_classes, mixed=True)


def ours_fp32(batch_size: int, input_size: int, num_classes: int) -> Callable[[], float]:
    """Prepare the same step in float32."""
    return _ours(batch_size, input_size, num_classes, mixed=False)


def _ours(batch_size: int, input_size: int, num_classes: int, *, mixed: bool) -> Callable[[], float]:
    images, boxes, labels = make_batch(batch_size, input_size, num_classes)
    images = images.contiguous(memory_format=torch.channels_last)
    sizes, positions = torch.full((batch_size, 2), input_size), torch.arange(batch_size)
    batch = DetectionBatch(images, boxes, labels, sizes, positions, truths=())
    return prepare_step(PRESET, DetectionTask, batch, mixed=mixed, input_size=input_size, num_classes=num_classes)


def peer(batch_size: int, input_size: int, num_classes: int) -> Callable[[], float]:
    """Prepare torchvision's step as its references run it: a list of float images, channels first, float32."""
    network = torchvision_ssd(ssdlite_mobilenet_v2(num_classes, input_size=input_size)).train()
    network.to(memory_format=torch.contiguous_format)
    images, boxes, labels = make_batch(batch_size, input_size, num_classes)
    pixels = list(images.float() / 255)
    targets = [{"boxes": each, "labels": names + 1} for each, names in zip(boxes, labels, strict=True)]
    optimizer = torch.optim.SGD(network.parameters(), 1e-3, momentum=0.9)

    def step() -> float:
        loss = sum(network(pixels, targets).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step
