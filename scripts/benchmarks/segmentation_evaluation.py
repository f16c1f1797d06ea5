"""What evaluation costs beside the network: counting pixels, and everything from file to figure."""

import logging
import time
from collections.abc import Callable
from typing import Any

import lightning as L
import torch
from mobilevision.segmentation.metrics import MeanIoU
from torch import Tensor
from torchmetrics.classification import MulticlassJaccardIndex

from mobilevision.cli.allocator import keep_freed_memory
from mobilevision.segmentation.datamodule import VocDataModule
from mobilevision.segmentation.task import SegmentationTask
from mobilevision.segmentation.types import IGNORE_INDEX

NUM_CLASSES = 21
SIDE = 512


def confusion_ours(updates: int) -> Callable[[], float]:
    """Prepare updates of this library's metric."""
    predicted, mask = _draw()

    def step() -> float:
        metric = MeanIoU(NUM_CLASSES)
        for position in torch.arange(updates)[:, None]:
            metric.update([predicted], [mask], position)
        return float(metric.compute().iou.miou)

    return step


def confusion_peer(updates: int) -> Callable[[], float]:
    """Prepare updates of torchmetrics', as it comes."""
    predicted, mask = _draw()
    batch, target = predicted[None], mask[None].long()

    def step() -> float:
        metric = MulticlassJaccardIndex(NUM_CLASSES, ignore_index=IGNORE_INDEX)
        for _ in range(updates):
            metric.update(batch, target)
        return float(metric.compute())

    return step


def validation(root: str, limit: int) -> Callable[[], dict[str, float]]:
    """Prepare the validation of VOC's pictures in one process, and say what part of it the network took."""
    keep_freed_memory()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    task, clock = SegmentationTask(NUM_CLASSES), Clock()
    predict = task.network.predict_coarse

    def timed(images: Tensor) -> Tensor:
        start = time.perf_counter()
        logits = predict(images)
        clock.network += time.perf_counter() - start
        return logits

    task.network.predict_coarse = timed
    quiet: dict[str, Any] = dict.fromkeys(
        ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
    )
    trainer = L.Trainer(accelerator="cpu", limit_val_batches=limit, callbacks=[clock], **quiet)
    data = VocDataModule(root, batch_size=1, num_workers=0)

    def step() -> dict[str, float]:
        clock.network = 0.0
        trainer.validate(task, data, verbose=False)
        return {"share": 1 - clock.network / clock.total, "seconds_per_image": clock.total / task.report.num_images}

    return step


class Clock(L.Callback):
    """Time a validation from its first batch to its figures."""

    network = total = 0.0

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin."""
        self.start = time.perf_counter()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """End."""
        self.total = time.perf_counter() - self.start


def _draw() -> tuple[Tensor, Tensor]:
    coarse = torch.randint(0, NUM_CLASSES, (2, 16, 16))
    truth, predicted = coarse.repeat_interleave(SIDE // 16, 1).repeat_interleave(SIDE // 16, 2)
    mask = truth.to(torch.uint8)
    mask[: SIDE // 20] = IGNORE_INDEX
    return predicted, mask
