"""The parts that the classifier's benchmark times: this library's side and torchvision's, as its references run it."""

import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from benchmarks.preset import prepare_step
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from torchmetrics.classification import MulticlassAccuracy, MulticlassCalibrationError, MulticlassConfusionMatrix
from torchvision import models
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from mobilevision.classification.datamodule import ImageNetDataModule
from mobilevision.classification.evaluator import ClassificationEvaluator
from mobilevision.classification.head import mobilenet_v2
from mobilevision.classification.task import ClassificationTask
from mobilevision.classification.types import ClassificationBatch
from mobilevision.cli.allocator import keep_freed_memory

PRESET = "classification/mobilenet_v2_imagenet_modern.yaml"
SIZE = 224
EVALUATED = 32
"""Images of a batch that is evaluated."""

NUM_CLASSES = 1000
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def write_images(root: Path, count: int, *, num_classes: int = 4) -> None:
    """Write JPEGs of ImageNet's usual size, 500 by 375, with the smoothness and the noise of photographs."""
    generator = np.random.default_rng(0)
    for index in range(count):
        pixels = np.zeros((375, 500, 3))
        for cells, height in ((4, 60.0), (16, 40.0), (64, 20.0), (375, 6.0)):
            noise = generator.normal(0, height, (cells, cells * 4 // 3, 3))
            pixels += cv2.resize(noise, (500, 375), interpolation=cv2.INTER_CUBIC)
        folder = root / f"class_{index % num_classes}"
        folder.mkdir(parents=True, exist_ok=True)
        image = (pixels + 120).clip(0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / f"{index}.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, 92])


def make_batch(batch_size: int) -> ClassificationBatch:
    """Draw pixels, the channels last in memory as the loader has them, and labels."""
    images = torch.randint(0, 256, (batch_size, SIZE, SIZE, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    return ClassificationBatch(images, torch.randint(0, NUM_CLASSES, (batch_size,)), torch.arange(batch_size))


def our_mixed_step(batch_size: int) -> Callable[[], float]:
    """Prepare a step as the preset ships."""
    return prepare_step(PRESET, ClassificationTask, make_batch(batch_size), mixed=True)


def our_fp32_step(batch_size: int) -> Callable[[], float]:
    """Prepare a step in the peer's precision."""
    return prepare_step(PRESET, ClassificationTask, make_batch(batch_size), mixed=False)


def peer_step(batch_size: int) -> Callable[[], float]:
    """Prepare torchvision's: NCHW, fp32, SGD, label smoothing."""
    network = models.mobilenet_v2().train()
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9, weight_decay=4e-5)
    images, labels = torch.rand(batch_size, 3, SIZE, SIZE), torch.randint(0, NUM_CLASSES, (batch_size,))
    criterion = torch.nn.CrossEntropyLoss(label_smoothing=0.1)

    def step() -> float:
        loss = criterion(network(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss.item())

    return step


def our_loader(images: str, batch_size: int) -> Callable[[], int]:
    """Prepare an epoch of the training loader with one worker."""
    data = ImageNetDataModule(images, train_dir=".", val_dir=".", batch_size=batch_size, num_workers=1)
    data.setup("fit")
    loader = data.train_dataloader()
    return lambda: sum(len(batch.labels) for batch in loader)


def peer_loader(images: str, batch_size: int) -> Callable[[], int]:
    """Prepare torchvision's: its training preset with the PIL backend."""
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(SIZE, interpolation=v2.InterpolationMode.BILINEAR, antialias=True),
            v2.RandomHorizontalFlip(0.5),
            v2.PILToTensor(),
            v2.ToDtype(torch.float, scale=True),
            v2.Normalize(MEAN, STD),
            v2.ToPureTensor(),
        ]
    )
    loader = DataLoader(
        ImageFolder(images, transform),
        batch_size=batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=1,
        persistent_workers=True,
    )
    return lambda: sum(len(labels) for _, labels in loader)


def our_confusion(num_images: int) -> Callable[[], float]:
    """Prepare the evaluation of ImageNet's classes in batches: everything that a report has, the loss included."""
    keep_freed_memory()
    logits, labels = torch.randn(num_images, NUM_CLASSES), torch.randint(0, NUM_CLASSES, (num_images,))
    no_images, positions = torch.empty(0), torch.arange(num_images)
    names = [f"class {label}" for label in range(NUM_CLASSES)]
    columns = (each.split(EVALUATED) for each in (logits, labels, positions))
    batches = [(outputs, ClassificationBatch(no_images, *others)) for outputs, *others in zip(*columns, strict=True)]

    def step() -> float:
        evaluator = ClassificationEvaluator(NUM_CLASSES, names)
        for outputs, batch in batches:
            evaluator.update(outputs, batch)
        report = evaluator.compute()
        evaluator.analyze()
        return report.figures["top5"]

    return step


def peer_confusion(num_images: int) -> Callable[[], float]:
    """Prepare torchmetrics': confusion matrix, top-5 and calibration, and PyTorch's loss."""
    keep_freed_memory()
    logits, labels = torch.randn(num_images, NUM_CLASSES), torch.randint(0, NUM_CLASSES, (num_images,))
    batches = list(zip(logits.split(EVALUATED), labels.split(EVALUATED), strict=True))

    def step() -> float:
        confusion, calibration = MulticlassConfusionMatrix(NUM_CLASSES), MulticlassCalibrationError(NUM_CLASSES, 15)
        top5 = MulticlassAccuracy(NUM_CLASSES, top_k=5, average="micro")
        loss = 0.0
        for batch in batches:
            loss += float(cross_entropy(*batch, reduction="sum"))
            for metric in (confusion, calibration, top5):
                metric.update(*batch)
        confusion.compute(), calibration.compute()
        return float(top5.compute())

    return step


def validation_shares(images: str, batch_size: int) -> dict[str, float]:
    """Return the seconds of a validation with one worker, those of the network alone, and the share of the rest."""
    data = ImageNetDataModule(images, train_dir=".", val_dir=".", batch_size=batch_size, num_workers=1)
    data.setup("validate")
    num_classes = len(data.class_names)
    network, evaluator = mobilenet_v2(num_classes, norm_momentum=0.1).eval(), ClassificationEvaluator(num_classes)
    inside = 0.0
    start = time.perf_counter()
    with torch.inference_mode():
        for batch in data.val_dataloader():
            before = time.perf_counter()
            logits = network(batch.images)
            inside += time.perf_counter() - before
            evaluator.update(logits, batch)
        evaluator.compute()
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "network": inside, "share": 1 - inside / seconds}
