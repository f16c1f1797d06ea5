"""Fine-tune the segmenter that is put together from torchvision's parts, as well as it can be on a CPU.

Its DeepLabv3 with a head of the size of the paper's, its references' augmentation, SGD and poly schedule; bfloat16,
channels last and an allocator that keeps its pages, which they do not have, so that speed is not what decides. The
backbone's code is this library's: torchvision's pads in a way that weights from TensorFlow are not made for.
"""

import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from benchmarks.segmentation_loader import ReferencePreset, reference_set
from mobilevision.segmentation.deeplabv3 import deeplabv3_mobilenet_v2
from mobilevision.segmentation.metrics import MeanIoU
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, RandomSampler
from torchvision.models.segmentation.deeplabv3 import ASPP, DeepLabV3
from torchvision.transforms import functional as transforms

from mobilevision.backbone.mobilenet_v2 import MobileNetV2
from mobilevision.cli.allocator import keep_freed_memory
from mobilevision.segmentation.geometry import pick_classes
from mobilevision.segmentation.types import IGNORE_INDEX
from mobilevision.training.optimization import POLY_POWER
from mobilevision.weights.file import load_backbone, read_weights

NUM_CLASSES = 21
BATCH_SIZE = 8
EPOCHS_BETWEEN = 10
"""Epochs from one validation to the next."""

ENDLESS = 2**40


class Features(nn.Module):
    """The backbone as torchvision's segmenters take one: its map is called ``out``.

    Args:
        backbone: With weights.
        frozen: Whether weights and statistics stay as they are.
    """

    def __init__(self, backbone: MobileNetV2, *, frozen: bool) -> None:
        super().__init__()
        self.backbone = backbone.requires_grad_(not frozen)
        self.frozen = frozen

    def train(self, mode: bool = True) -> "Features":
        """Switch to training or evaluation; what is frozen stays in evaluation."""
        super().train(mode)
        self.backbone.train(mode and not self.frozen)
        return self

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Give what the head reads."""
        return {"out": self.backbone(images, taps=("stage7",))["stage7"]}


class Pixels(NamedTuple):
    """How pictures are normalised, as the weights want it, and the side of the training's crops."""

    crop: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


def train(
    root: Path, weights: Path, *, minutes: float, seed: int, crop: int, learning_rate: float, frozen: bool
) -> dict[str, Any]:
    """Train for as long, with validations on the way, and validate what came of it.

    Args:
        root: A folder that holds VOCdevkit/VOC2012.
        weights: A classifier trained on ImageNet.
        minutes: Of training and validations, on the wall's clock.
        seed: Of weights and augmentation.
        crop: Side of the pictures trained on.
        learning_rate: At the beginning.
        frozen: Whether the backbone stays as it is.

    Returns:
        ``validations`` with the names that this library logs; the ``images`` that were trained on and the ``seconds``.
    """
    keep_freed_memory()
    torch.manual_seed(seed)
    options = read_weights(weights).card.options
    pixels = Pixels(crop, tuple(options["mean"]), tuple(options["std"]))
    images = reference_set(str(root), "train", ReferencePreset(*pixels))
    network = make_network(weights, frozen=frozen)
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(parameters, learning_rate, momentum=0.9, weight_decay=1e-4)
    # One epoch after the other without an end, so that no batch is waited for between them.
    sampler = RandomSampler(images, num_samples=ENDLESS)
    interval = EPOCHS_BETWEEN * len(images) // BATCH_SIZE
    validations: list[dict[str, float]] = []
    network.train()
    start = time.perf_counter()
    for step, (batch, masks) in enumerate(DataLoader(images, BATCH_SIZE, sampler=sampler, num_workers=1), start=1):
        progress = (time.perf_counter() - start) / (60 * minutes)
        if progress >= 1:
            break
        # The schedule runs over the time, and so ends with it.
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * (1 - progress) ** POLY_POWER
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(batch.contiguous(memory_format=torch.channels_last))["out"]
        loss = F.cross_entropy(logits.float(), masks, ignore_index=IGNORE_INDEX)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % interval == 0:
            validations.append(validate(network, root, pixels))
    validations.append(validate(network, root, pixels))
    return {"validations": validations, "images": (step - 1) * BATCH_SIZE, "seconds": time.perf_counter() - start}


def make_network(weights: Path, *, frozen: bool) -> DeepLabV3:
    """Build the network with the backbone's weights; statistics move as torchvision's do by default."""
    padding = str(read_weights(weights).card.options["padding"])
    ours = deeplabv3_mobilenet_v2(NUM_CLASSES, padding=padding, norm_momentum=0.1)
    load_backbone(ours, weights)
    head = nn.Sequential(ASPP(320, [], 256), nn.Conv2d(256, NUM_CLASSES, 1))
    return DeepLabV3(Features(ours.backbone, frozen=frozen), head).to(memory_format=torch.channels_last)


@torch.inference_mode()
def validate(network: DeepLabV3, root: Path, pixels: Pixels) -> dict[str, float]:
    """Validate as the references do, short side to the crop's, but at the size of each file."""
    metric = MeanIoU(NUM_CLASSES)
    network.eval()
    for position, (picture, mask) in enumerate(reference_set(str(root), "val")):
        resized = transforms.resize(transforms.to_tensor(picture), [pixels.crop], antialias=True)
        batch = transforms.normalize(resized, pixels.mean, pixels.std)[None]
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(batch.contiguous(memory_format=torch.channels_last))["out"].float()
        truth = transforms.pil_to_tensor(mask)[0]
        predicted = pick_classes(F.interpolate(logits, size=truth.shape, mode="bilinear")[0])
        metric.update([predicted], [truth], torch.tensor([position]))
    network.train()
    found = metric.compute().iou
    return {"val/miou": float(found.miou), "val/pixel_accuracy": float(found.pixel_accuracy)}
