"""Checkpoints and configuration of a run."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from mobilevision.cli.run_folder import BEST, LAST
from mobilevision.files import replacing, write_text
from mobilevision.training.task import Task

SAVING_INTERVAL = timedelta(minutes=1)
"""The most that a killed run loses."""


class WholeCheckpoints(TorchCheckpointIO):
    """Checkpoint files that are written whole or not at all: Lightning's own are not safe across file systems."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write ``checkpoint`` to ``path``."""
        with replacing(path) as temporary:
            torch.save(checkpoint, temporary)


def checkpoint_callbacks(folder: Path, monitor: str, configured: Sequence[Callback]) -> list[Callback]:
    """Return callbacks that save ``best.ckpt`` by ``monitor``, and ``last.ckpt`` after every epoch and every minute.

    A configured ModelCheckpoint that monitors something takes the place of the first.
    """

    def last(**when: Any) -> ModelCheckpoint:
        return ModelCheckpoint(folder, LAST, enable_version_counter=False, **when)

    best = ModelCheckpoint(
        folder, BEST, monitor, mode="max", enable_version_counter=False, save_on_train_epoch_end=False
    )
    monitored = any(isinstance(callback, ModelCheckpoint) and callback.monitor for callback in configured)
    return [
        *([] if monitored else [best]),
        last(every_n_epochs=1, save_on_train_epoch_end=True),
        last(train_time_interval=SAVING_INTERVAL),
    ]


class ConfigSaver(Callback):
    """Writing of the run's configuration beside its results, when training really starts."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.text = text

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the file."""
        if trainer.is_global_zero:
            write_text(self.path, self.text)


class BestFigures(Callback):
    """Figures of the best validation, over all sessions of a run."""

    def __init__(self) -> None:
        self.figures: dict[str, float] = {}
        self.num_images = 0

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keep the figures if they are the best so far."""
        assert isinstance(pl_module, Task)
        report, monitored = pl_module.report, pl_module.monitor.removeprefix("val/")
        if trainer.sanity_checking or report is None:
            return
        if not self.figures or report.figures[monitored] > self.figures[monitored]:
            self.figures, self.num_images = dict(report.figures), report.num_images

    def state_dict(self) -> dict[str, Any]:
        """Return the figures for the checkpoint."""
        return {"figures": self.figures, "num_images": self.num_images}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the figures from a checkpoint."""
        self.figures, self.num_images = state_dict["figures"], state_dict["num_images"]


class FinalAnalysis(Callback):
    """Analysis of the errors of a run's last validation, however the run ends."""

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Add the analysis to the report, while all processes are there."""
        assert isinstance(pl_module, Task)
        if pl_module.report is not None:
            # The evaluators keep their rows until the next validation begins.
            pl_module.details = True
            pl_module.report = pl_module.make_report()
