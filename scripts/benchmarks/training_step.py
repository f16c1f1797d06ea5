"""A training step: forward, loss, backward, optimizer; the fine-tuning preset as it ships, torchvision as it trains."""

from collections.abc import Callable
from pathlib import Path

import torch
import yaml
from benchmarks.torchvision_ssd import torchvision_ssd
from mobilevision.detection.loss import multibox_loss
from mobilevision.detection.ssdlite import ssdlite_mobilenet_v2
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn

from mobilevision.cli.allocator import keep_freed_memory
from mobilevision.detection.task import DetectionTask
from mobilevision.training.optimization import make_optimizer, parameter_groups

PRESET = Path(__file__).parents[2] / "configs/detection/ssdlite_mobilenet_v2_finetune.yaml"
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
    keep_freed_memory()
    preset = yaml.safe_load(PRESET.read_text())
    trainer = preset["trainer"]
    (average,) = trainer["callbacks"]
    options = {**preset["model"]["init_args"], "num_classes": num_classes, "input_size": input_size}
    task = DetectionTask(**options).train()
    network = task.network
    groups = parameter_groups(network, task.weight_decay, rates=task.part_rates())
    optimizer = make_optimizer(task.optimizer, groups, learning_rate=1e-3, momentum=task.momentum)
    # What Lightning's callback holds.
    average = average["init_args"]
    averaged = AveragedModel(task, avg_fn=get_ema_avg_fn(average["decay"]), use_buffers=average["use_buffers"])
    images, boxes, labels = make_batch(batch_size, input_size, num_classes)
    images = images.contiguous(memory_format=torch.channels_last)
    assert trainer["precision"] == "bf16-mixed"

    def step() -> float:
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            loss = multibox_loss(
                network(images), boxes, labels, network.anchors, score_function=network.score_function
            ).total
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), trainer["gradient_clip_val"])
        optimizer.step()
        averaged.update_parameters(task)
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
