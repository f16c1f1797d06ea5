"""``mobilevision fit --dry-run``: one batch through everything, and nothing left of it but pictures."""

from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint, ProgressBar
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image
from torch import Tensor

from mobilevision.backbone.image_network import ImageNetwork
from mobilevision.classification import types as classification
from mobilevision.cli.processes import ending_together
from mobilevision.cli.tables import print_line
from mobilevision.cli.training import StartReports, TrainingCLI
from mobilevision.detection import types as detection
from mobilevision.detection.boxes import cxcywh_to_xyxy
from mobilevision.detection.matcher import BACKGROUND, match_anchors
from mobilevision.detection.ssdlite import SSDLite
from mobilevision.files import replacing
from mobilevision.inference.drawing import COLORS, contact_sheet, draw_boxes, draw_mask, draw_outlines
from mobilevision.inference.drawing import Pixels as Picture
from mobilevision.multitask.types import passes_of
from mobilevision.segmentation import types as segmentation

NUM_SHOWN = 16
"""Pictures of a batch that are drawn."""

PALER = len(COLORS)
"""What makes a class's colour paler, see ``class_color``."""


class DryRunCLI(TrainingCLI):
    """Train on one batch and validate on one; draw what was trained on."""

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
        """Go once through configuration, data, forward, loss, backward and validation.

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
        """Write the pictures, also where the step itself went wrong: they may show why."""
        batch = self.first_batch.batch
        if batch is None:
            return
        path = self.root / "dry_run" / "train_batch.png"
        with replacing(path) as temporary:
            Image.fromarray(contact_sheet(draw_batch(self.model.network, batch))).save(temporary)
        print_line(f"pictures: {path}")


class FirstBatch(Callback):
    """Keep the first batch that is trained on, and its loss."""

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


def draw_batch(network: ImageNetwork, batch: Any) -> list[Picture]:
    """Draw a batch as it is trained on: pictures after augmentation with classes, matched anchors and boxes, or masks.

    Args:
        network: What is trained on it.
        batch: A training batch of its room.
    """
    if network.members:
        parts = [(network.members[task], part) for each in passes_of(batch) for task, part in each.items()]
        return [picture for member, part in parts for picture in draw_batch(member, part)]
    names = network.class_names
    pictures = _to_pictures(batch.images)
    match batch:
        case detection.Batch():
            assert isinstance(network, SSDLite)
            anchors = network.anchors
            return [
                _draw_matches(
                    picture, boxes[labels != detection.PADDING], labels[labels != detection.PADDING], anchors, names
                )
                for picture, boxes, labels in zip(pictures, batch.boxes, batch.labels, strict=False)
            ]
        case segmentation.Batch():
            masks = batch.masks.cpu().numpy()
            return [draw_mask(picture, mask, names) for picture, mask in zip(pictures, masks, strict=False)]
        case classification.Batch():
            whole = [np.array([[0.0, 0.0, picture.shape[1], picture.shape[0]]]) for picture in pictures]
            labels = batch.labels.cpu().numpy().reshape(-1, 1)
            return [
                draw_boxes(picture, frame, label, class_names=names)
                for picture, frame, label in zip(pictures, whole, labels, strict=False)
            ]
    return pictures


def _draw_matches(picture: Picture, boxes: Tensor, labels: Tensor, anchors: Tensor, names: tuple[str, ...]) -> Picture:
    matched = match_anchors(boxes[None], labels[None], anchors)[0]
    found = matched != BACKGROUND
    outlines = cxcywh_to_xyxy(anchors[found]).cpu().numpy()
    outlined = draw_outlines(picture, outlines, labels[matched[found]].cpu().numpy() + PALER)
    return draw_boxes(outlined, boxes.cpu().numpy(), labels.cpu().numpy(), class_names=names)


def _to_pictures(images: Tensor) -> list[Picture]:
    return [image.permute(1, 2, 0).contiguous().cpu().numpy() for image in images[:NUM_SHOWN]]
