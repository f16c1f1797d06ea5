"""The cost of evaluation beside the network: counting pixels, and everything from file to figure."""

import logging
import time
from collections.abc import Callable
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torchmetrics.classification import MulticlassJaccardIndex

from mobilevision.cli.allocator import keep_freed_memory
from mobilevision.segmentation.datamodule import VocDataModule
from mobilevision.segmentation.evaluator import confusion_matrix, mean_iou
from mobilevision.segmentation.task import SegmentationTask
from mobilevision.segmentation.types import IGNORE_INDEX

NUM_CLASSES = 21
SIDE = 512


def confusion_ours(updates: int) -> Callable[[], float]:
    """Prepare this library's confusion matrices and the mean IoU of their sum."""
    keep_freed_memory()
    predicted, mask = _draw()

    def step() -> float:
        counts = [confusion_matrix(predicted, mask, NUM_CLASSES).int() for _ in range(updates)]
        return float(mean_iou(torch.stack(counts).sum(dim=0)).miou)

    return step


def confusion_peer(updates: int) -> Callable[[], float]:
    """Prepare updates of torchmetrics' metric with its defaults."""
    keep_freed_memory()
    predicted, mask = _draw()
    batch, target = predicted[None], mask[None].long()

    def step() -> float:
        metric = MulticlassJaccardIndex(NUM_CLASSES, ignore_index=IGNORE_INDEX)
        for _ in range(updates):
            metric.update(batch, target)
        return float(metric.compute())

    return step


def validation(root: str, limit: int) -> Callable[[], dict[str, float]]:
    """Prepare the validation of VOC's images in one process; its result has the share that is not the network's."""
    keep_freed_memory()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    task, clock = SegmentationTask(), Clock()
    compute = task.network.compute

    def timed(*args: Any) -> dict[str, Tensor]:
        start = time.perf_counter()
        outputs = compute(*args)
        clock.network += time.perf_counter() - start
        return outputs

    task.network.compute = timed
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
    """Seconds of a validation from its first batch to its figures."""

    network = total = 0.0

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start."""
        self.start = time.perf_counter()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop."""
        self.total = time.perf_counter() - self.start


def _draw() -> tuple[Tensor, Tensor]:
    coarse = torch.randint(0, NUM_CLASSES, (2, 16, 16))
    truth, predicted = coarse.repeat_interleave(SIDE // 16, 1).repeat_interleave(SIDE // 16, 2)
    mask = truth.to(torch.uint8)
    mask[: SIDE // 20] = IGNORE_INDEX
    return predicted, mask
