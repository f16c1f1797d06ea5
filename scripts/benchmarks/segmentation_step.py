"""A training step: forward, loss, backward, optimizer; this library as its command trains, torchvision as it does."""

from collections.abc import Callable

import torch
from benchmarks.preset import prepare_step
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import mobilenet_v2
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.segmentation.deeplabv3 import ASPP, DeepLabV3

from mobilevision.segmentation.task import SegmentationTask
from mobilevision.segmentation.types import IGNORE_INDEX, SegmentationBatch

PRESET = "segmentation/deeplabv3_mobilenet_v2_voc_paper.yaml"
NUM_CLASSES = 21
OPTIMIZER = {"lr": 0.007, "momentum": 0.9, "weight_decay": 1e-4}


def make_batch(batch_size: int, crop: int) -> tuple[Tensor, Tensor]:
    """Draw pixels and masks, with a tenth that does not count."""
    images = torch.randint(0, 256, (batch_size, crop, crop, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    masks = torch.randint(0, NUM_CLASSES, (batch_size, crop, crop), dtype=torch.uint8)
    masks[:, : crop // 10] = IGNORE_INDEX
    return images, masks


def ours_bf16(batch_size: int, crop: int) -> Callable[[], float]:
    """Prepare a step of the paper's preset as it ships and as the command runs it."""
    return _ours(batch_size, crop, mixed=True)


def ours_fp32(batch_size: int, crop: int) -> Callable[[], float]:
    """Prepare the same step in float32."""
    return _ours(batch_size, crop, mixed=False)


def _ours(batch_size: int, crop: int, *, mixed: bool) -> Callable[[], float]:
    batch = SegmentationBatch(*make_batch(batch_size, crop), torch.arange(batch_size))
    return prepare_step(PRESET, SegmentationTask, batch, mixed=mixed, input_size=crop)


def peer(batch_size: int, crop: int) -> Callable[[], float]:
    """Prepare torchvision's step as its references run it: normalized float images, channels first, float32."""
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
