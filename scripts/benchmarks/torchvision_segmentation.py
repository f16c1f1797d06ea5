"""Fine-tune the segmenter that is put together from torchvision's parts, as well as it can be on a CPU.

Its DeepLabv3 with a head of the size of the paper's, its references' augmentation, SGD and poly schedule; bfloat16,
channels last and an allocator that keeps its pages, which they do not have, so that speed is not what decides. The
backbone's code is this library's: torchvision's pads in a way that weights from TensorFlow are not made for.
"""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from benchmarks.segmentation_loader import ReferencePreset, reference_dataset
from benchmarks.timed_training import ENDLESS, train_for
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, RandomSampler
from torchvision.models.segmentation.deeplabv3 import ASPP, DeepLabV3
from torchvision.transforms import functional as transforms

from mobilevision.backbone.mobilenet_v2 import MobileNetV2
from mobilevision.cli.allocator import keep_freed_memory
from mobilevision.segmentation.evaluator import confusion_matrix, mean_iou
from mobilevision.segmentation.geometry import pick_classes
from mobilevision.segmentation.head import deeplabv3_mobilenet_v2
from mobilevision.segmentation.types import IGNORE_INDEX
from mobilevision.training.optimization import POLY_POWER
from mobilevision.weights.card import Weights
from mobilevision.weights.file import read_weights
from mobilevision.weights.loading import load_backbone

NUM_CLASSES = 21
OUTPUT_STRIDE = 16
BATCH_SIZE = 8
EPOCHS_BETWEEN = 10
"""Epochs from one validation to the next."""


class Features(nn.Module):
    """The backbone as torchvision's segmenters expect one: its map is called ``out``.

    Args:
        backbone: With weights.
        frozen: Whether weights and statistics stay as they are.
    """

    def __init__(self, backbone: MobileNetV2, *, frozen: bool) -> None:
        super().__init__()
        self.backbone = backbone.requires_grad_(not frozen)
        self.frozen = frozen

    def train(self, mode: bool = True) -> "Features":
        """Switch to training or evaluation; a frozen backbone stays in evaluation."""
        super().train(mode)
        self.backbone.train(mode and not self.frozen)
        return self

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the map that the head reads."""
        return {"out": self.backbone(images, taps=("stage7",), output_stride=OUTPUT_STRIDE)["stage7"]}


class Pixels(NamedTuple):
    """The normalization of the images, as the weights need it, and the side of the training's crops."""

    crop: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


def train(
    root: Path, weights: Path, *, minutes: float, seed: int, crop: int, learning_rate: float, frozen: bool
) -> dict[str, Any]:
    """Train for a number of minutes, with validations on the way and at the end.

    Args:
        root: A folder that holds VOCdevkit/VOC2012.
        weights: A classifier trained on ImageNet.
        minutes: Of training and validations, on the wall's clock.
        seed: Of weights and augmentation.
        crop: Side of the training images.
        learning_rate: At the beginning.
        frozen: Whether the backbone is frozen.

    Returns:
        ``validations`` with the names that this library logs; the number of trained ``images`` and the ``seconds``.
    """
    keep_freed_memory()
    torch.manual_seed(seed)
    start = read_weights(weights)
    mean, std = (tuple(start.tensors[f"normalization.{name}"].tolist()) for name in ("mean", "std"))
    pixels = Pixels(crop, mean, std)
    images = reference_dataset(str(root), "train", ReferencePreset(*pixels))
    network = make_network(start, weights, frozen=frozen).train()
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    sampler = RandomSampler(images, num_samples=ENDLESS)
    done = train_for(
        minutes,
        DataLoader(images, BATCH_SIZE, sampler=sampler, num_workers=1),
        torch.optim.SGD(parameters, learning_rate, momentum=0.9, weight_decay=1e-4),
        compute_loss=lambda batch: F.cross_entropy(_run(network, batch[0]), batch[1], ignore_index=IGNORE_INDEX),
        rate=lambda _, progress: learning_rate * (1 - progress) ** POLY_POWER,
        interval=EPOCHS_BETWEEN * len(images) // BATCH_SIZE,
        validate=lambda: validate(network, root, pixels),
    )
    return {"validations": done["validations"], "images": done["steps"] * BATCH_SIZE, "seconds": done["seconds"]}


def make_network(start: Weights, source: Path, *, frozen: bool) -> DeepLabV3:
    """Build the network with the backbone's weights; statistics move as torchvision's do by default."""
    ours = deeplabv3_mobilenet_v2(NUM_CLASSES, padding=start.card.backbone.padding, norm_momentum=0.1)
    load_backbone(ours, start, source)
    head = nn.Sequential(ASPP(320, [], 256), nn.Conv2d(256, NUM_CLASSES, 1))
    return DeepLabV3(Features(ours.backbone, frozen=frozen), head).to(memory_format=torch.channels_last)


@torch.inference_mode()
def validate(network: DeepLabV3, root: Path, pixels: Pixels) -> dict[str, float]:
    """Validate as the references do, short side to the crop's, but at the size of each file."""
    counts = torch.zeros(NUM_CLASSES, NUM_CLASSES, dtype=torch.int64)
    network.eval()
    for image, mask in reference_dataset(str(root), "val"):
        resized = transforms.resize(transforms.to_tensor(image), [pixels.crop], antialias=True)
        batch = transforms.normalize(resized, pixels.mean, pixels.std)[None]
        with torch.autocast("cpu", torch.bfloat16):
            logits = _run(network, batch)
        truth = transforms.pil_to_tensor(mask)[0]
        predicted = pick_classes(F.interpolate(logits, size=truth.shape, mode="bilinear")[0])
        counts += confusion_matrix(predicted, truth, NUM_CLASSES)
    network.train()
    iou = mean_iou(counts)
    return {"val/miou": float(iou.miou), "val/pixel_accuracy": float(iou.pixel_accuracy)}


def _run(network: DeepLabV3, images: Tensor) -> Tensor:
    return network(images.contiguous(memory_format=torch.channels_last))["out"].float()
