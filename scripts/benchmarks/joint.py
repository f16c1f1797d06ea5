"""Three tasks on one image: a network with three heads, three networks, and torchvision's nearest trio."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import mobilenet_v2
from torchvision.models.detection import ssdlite320_mobilenet_v3_large
from torchvision.models.segmentation import lraspp_mobilenet_v3_large

from mobilevision import get_model

MODELS = {
    "classification": "mobilenet_v2",
    "detection": "ssdlite_mobilenet_v2",
    "segmentation": "deeplabv3_mobilenet_v2",
}
"""With their default classes: 1000, 80 and 21."""


class Trio(nn.Module):
    """Three networks that run on the same image."""

    def __init__(self, networks: list[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, images: Tensor) -> list[Any]:
        """Run one after the other."""
        return [network(images) for network in self.networks]


class SquareDetector(nn.Module):
    """torchvision's detector without its selection, which ours leave out too: backbone, extra layers and heads."""

    def __init__(self) -> None:
        super().__init__()
        detector = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=81)
        self.backbone, self.head = detector.backbone, detector.head

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return offsets and logits of every anchor."""
        outputs: dict[str, Tensor] = self.head(list(self.backbone(images).values()))
        return outputs


def build(side: str, input_size: int) -> nn.Module:
    """Build a side by its name: ``joint16``, ``joint32``, ``separate`` or ``torchvision``."""
    if side == "torchvision":
        segmenter = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=21)
        return Trio([mobilenet_v2(), SquareDetector(), segmenter]).eval()
    options: dict[str, dict[str, Any]] = {task: {} for task in MODELS} | {"detection": {"input_size": input_size}}
    if side == "separate":
        return Trio([get_model(name, **options[task]) for task, name in MODELS.items()]).eval()
    options["segmentation"]["output_stride"] = int(side.removeprefix("joint"))
    return get_model("multitask_mobilenet_v2", heads=options).eval()


def make(side: str, input_size: int) -> Callable[[], None]:
    """Prepare a pass over one image."""
    network = build(side, input_size)
    images = torch.rand(1, 3, input_size, input_size)
    if side != "torchvision":
        images = images.contiguous(memory_format=torch.channels_last)

    def step() -> None:
        with torch.inference_mode():
            network(images)

    return step


def count(side: str, input_size: int) -> dict[str, int]:
    """Count parameters, and multiply-adds of one image."""
    network = build(side, input_size)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.rand(1, 3, input_size, input_size))
    return {
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "multiply_adds": counter.get_total_flops() // 2,
    }
