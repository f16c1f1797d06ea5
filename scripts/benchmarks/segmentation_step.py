"""A training step: forward, loss, backward, optimizer; this library as its command trains, torchvision as it does."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import mobilenet_v2
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.segmentation.deeplabv3 import ASPP, DeepLabV3

from mobilevision.cli.allocator import keep_freed_memory
from mobilevision.segmentation.task import SegmentationTask
from mobilevision.segmentation.types import IGNORE_INDEX, Batch
from mobilevision.training.optimization import make_optimizer, parameter_groups

NUM_CLASSES = 21
OPTIMIZER = {"lr": 0.007, "momentum": 0.9, "weight_decay": 1e-4}


def make_batch(batch_size: int, crop: int) -> tuple[Tensor, Tensor]:
    """Draw pixels and masks, with a tenth that does not count."""
    images = torch.randint(0, 256, (batch_size, crop, crop, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    masks = torch.randint(0, NUM_CLASSES, (batch_size, crop, crop), dtype=torch.uint8)
    masks[:, : crop // 10] = IGNORE_INDEX
    return images, masks


def ours_bf16(batch_size: int, crop: int) -> Callable[[], float]:
    """Prepare a step as the presets and the command have it: channels last, bfloat16, memory kept."""
    return _ours(batch_size, crop, autocast=True)


def ours_fp32(batch_size: int, crop: int) -> Callable[[], float]:
    """Prepare the same step in float32."""
    return _ours(batch_size, crop, autocast=False)


def _ours(batch_size: int, crop: int, *, autocast: bool) -> Callable[[], float]:
    keep_freed_memory()
    task = SegmentationTask(NUM_CLASSES, input_size=crop).train()
    task.log = lambda *_, **__: None  # it needs a trainer
    optimizer = make_optimizer("sgd", parameter_groups(task.network, 4e-5), learning_rate=0.007, momentum=0.9)
    images, masks = make_batch(batch_size, crop)
    batch = Batch(images, masks, torch.arange(batch_size))

    def step() -> float:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = task.training_step(batch, 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def peer(batch_size: int, crop: int) -> Callable[[], float]:
    """Prepare torchvision's step as its references run it: normalised float images, channels first, float32."""
    network = torchvision_deeplab().train()
    optimizer = torch.optim.SGD(network.parameters(), **OPTIMIZER)
    pixels, masks = make_batch(batch_size, crop)
    images, targets = (pixels.float() / 255).contiguous() * 2 - 1, masks.long()

    def step() -> float:
        loss = F.cross_entropy(network(images)["out"], targets, ignore_index=IGNORE_INDEX)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def torchvision_deeplab() -> DeepLabV3:
    """Build torchvision's DeepLabv3 on its MobileNetV2 at output stride 16, with a head of the size of the paper's."""
    features = mobilenet_v2().features[:18]
    features[14].conv[1][0].stride = (1, 1)
    for block in features[15:]:
        depthwise = block.conv[1][0]
        depthwise.dilation = depthwise.padding = (2, 2)
    head = nn.Sequential(ASPP(320, [], 256), nn.Conv2d(256, NUM_CLASSES, 1))
    return DeepLabV3(IntermediateLayerGetter(features, {"17": "out"}), head)
