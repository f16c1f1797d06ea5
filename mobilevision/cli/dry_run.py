"""``mobilevision fit --dry-run``: one batch through everything, which leaves nothing but drawings of it."""

from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint, ProgressBar
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image
from torch import Tensor

from mobilevision.cli.processes import ending_together
from mobilevision.cli.tables import print_line
from mobilevision.cli.training import StartReports, TrainingCLI
from mobilevision.detection.boxes import cxcywh_to_xyxy
from mobilevision.detection.matcher import BACKGROUND, match_anchors
from mobilevision.detection.types import PADDING
from mobilevision.files import replacing
from mobilevision.head import Head
from mobilevision.inference.drawing import COLORS, Pixels, contact_sheet, draw_boxes, draw_mask, draw_outlines
from mobilevision.multitask.pairing import split_passes
from mobilevision.network import Network

NUM_SHOWN = 16
"""Images of a batch that are drawn."""

PALER = len(COLORS)
"""Added to a label, it makes the class's color paler, see ``class_color``."""


class DryRunCLI(TrainingCLI):
    """One training and one validation step, and a drawing of the training batch."""

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Build the configured trainer for a single step, without checkpoints and log."""
        self.first_batch = FirstBatch()
        unneeded = Checkpoint | ProgressBar
        callbacks = [callback for callback in self.configured_callbacks if not isinstance(callback, unneeded)]
        return super().instantiate_trainer(
            callbacks=[*callbacks, StartReports(), self.first_batch],
            # A logger that is never written to: callbacks that log want one.
            logger=CSVLogger(self.root),
            enable_checkpointing=False,
            enable_progress_bar=False,
            fast_dev_run=1,
            **kwargs,
        )

    def run(self) -> None:
        """Run configuration, data, forward, loss, backward and validation once.

        Raises:
            ValueError: The loss is not finite.
        """
        try:
            with ending_together(self.trainer):
                self.trainer.fit(self.model, datamodule=self.datamodule)
        finally:
            self._draw()
        if self.trainer.is_global_zero and self.model.report is not None:
            measured = self.model.report.figures["loss"]
            print_line(f"loss of one batch: {self.first_batch.loss:.4f} in training, {measured:.4f} in validation")

    @rank_zero_only
    def _draw(self) -> None:
        """Draw the batch, also after an error in the step: the drawing may show why."""
        batch = self.first_batch.batch
        if batch is None:
            return
        path = self.root / "dry_run" / "train_batch.png"
        with replacing(path) as temporary:
            Image.fromarray(contact_sheet(draw_batch(self.model.network, batch))).save(temporary)
        print_line(f"drawing: {path}")


class FirstBatch(Callback):
    """The first batch that is trained on, and its loss."""

    batch: Any = None
    loss: float = float("nan")

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Keep the batch."""
        self.batch = batch

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the loss.

        Raises:
            ValueError: It is not finite.
        """
        loss = outputs["loss"] if isinstance(outputs, dict) else outputs
        self.loss = float(loss)
        if not torch.isfinite(loss).all():
            raise ValueError(f"the loss of the first batch must be finite, got {self.loss}")


def draw_batch(network: Network, batch: Any) -> list[Pixels]:
    """Draw a batch as it is trained on: augmented images with classes, matched anchors and boxes, or masks.

    Args:
        network: Trained on it.
        batch: A training batch: of its only head, or by head.
    """
    heads = network.named_heads
    passes = split_passes(batch) if isinstance(batch, dict) else [{next(iter(heads)): batch}]
    return [
        drawing
        for each in passes
        for name, part in each.items()
        for drawing in DRAWERS[heads[name].task](heads[name], part, _to_pixels(part.images))
    ]


def _draw_classes(head: Head, batch: Any, images: list[Pixels]) -> list[Pixels]:
    labels = batch.labels.cpu().numpy().reshape(-1, 1)
    frames = [np.array([[0.0, 0.0, image.shape[1], image.shape[0]]]) for image in images]
    rows = zip(images, frames, labels, strict=False)
    return [draw_boxes(image, frame, label, class_names=head.class_names) for image, frame, label in rows]


def _draw_matches(head: Any, batch: Any, images: list[Pixels]) -> list[Pixels]:
    drawings = []
    for image, padded_boxes, padded_labels in zip(images, batch.boxes, batch.labels, strict=False):
        boxes, labels = padded_boxes[padded_labels != PADDING], padded_labels[padded_labels != PADDING]
        matched = match_anchors(boxes[None], labels[None], head.anchors)[0]
        found = matched != BACKGROUND
        outlines = cxcywh_to_xyxy(head.anchors[found]).cpu().numpy()
        outlined = draw_outlines(image, outlines, labels[matched[found]].cpu().numpy() + PALER)
        names = head.class_names
        drawings.append(draw_boxes(outlined, boxes.cpu().numpy(), labels.cpu().numpy(), class_names=names))
    return drawings


def _draw_masks(head: Head, batch: Any, images: list[Pixels]) -> list[Pixels]:
    masks = batch.masks.cpu().numpy()
    return [draw_mask(image, mask, head.class_names) for image, mask in zip(images, masks, strict=False)]


DRAWERS = {"classification": _draw_classes, "detection": _draw_matches, "segmentation": _draw_masks}
"""How a batch is drawn, by the head's task."""


def _to_pixels(images: Tensor) -> list[Pixels]:
    return [image.permute(1, 2, 0).contiguous().cpu().numpy() for image in images[:NUM_SHOWN]]
