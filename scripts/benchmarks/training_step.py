"""A training step: forward, loss, backward, optimizer; this library as its command trains, torchvision as it does."""

from collections.abc import Callable
from contextlib import nullcontext

import torch
from benchmarks.torchvision_ssd import torchvision_ssd
from torch import Tensor

from mobilevision.cli.allocator import keep_freed_memory
from mobilevision.detection.loss import multibox_loss
from mobilevision.detection.ssdlite import ssdlite_mobilenet_v2

OBJECTS = 5
"""Objects in an image."""


def make_batch(batch_size: int, input_size: int, num_classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Draw pixels, boxes and labels."""
    images = torch.randint(0, 256, (batch_size, 3, input_size, input_size), dtype=torch.uint8)
    low = torch.rand(batch_size, OBJECTS, 2) * 0.5
    boxes = torch.cat([low, low + 0.1 + torch.rand(batch_size, OBJECTS, 2) * 0.4], dim=-1) * input_size
    return images, boxes, torch.randint(0, num_classes, (batch_size, OBJECTS))


def ours_bf16(batch_size: int, input_size: int, num_classes: int) -> Callable[[], float]:
    """Prepare a step as the presets and the command have it: channels last, bfloat16, memory kept."""
    return _ours(batch_size, input_size, num_classes, autocast=True)


def ours_fp32(batch_size: int, input_size: int, num_classes: int) -> Callable[[], float]:
    """Prepare the same step in float32."""
    return _ours(batch_size, input_size, num_classes, autocast=False)


def _ours(batch_size: int, input_size: int, num_classes: int, *, autocast: bool) -> Callable[[], float]:
    keep_freed_memory()
    network = ssdlite_mobilenet_v2(num_classes, input_size=input_size).to(memory_format=torch.channels_last)
    images, boxes, labels = make_batch(batch_size, input_size, num_classes)
    images = images.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), 1e-3, momentum=0.9)

    def step() -> float:
        with torch.autocast("cpu", torch.bfloat16) if autocast else nullcontext():
            loss = multibox_loss(network(images), boxes, labels, network.anchors).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def peer(batch_size: int, input_size: int, num_classes: int) -> Callable[[], float]:
    """Prepare torchvision's step as its references run it: a list of float images, channels first, float32."""
    network = torchvision_ssd(ssdlite_mobilenet_v2(num_classes, input_size=input_size)).train()
    images, boxes, labels = make_batch(batch_size, input_size, num_classes)
    pictures = list(images.float() / 255)
    targets = [{"boxes": each, "labels": names + 1} for each, names in zip(boxes, labels, strict=True)]
    optimizer = torch.optim.SGD(network.parameters(), 1e-3, momentum=0.9)

    def step() -> float:
        loss = sum(network(pictures, targets).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step
