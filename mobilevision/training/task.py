"""What the tasks share: optimizer and schedule, weights in, a description into every checkpoint, a report out."""

import math
from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import lightning as L
import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler

from mobilevision.backbone.image_network import ImageNetwork
from mobilevision.training.datamodule import ImageDataModule
from mobilevision.training.optimization import OptimizerName, ScheduleName, make_optimizer, make_schedule
from mobilevision.training.report import Report
from mobilevision.weights.card import WeightsCard
from mobilevision.weights.file import load_backbone, start_network
from mobilevision.weights.fitting import FitReport


class NetworkTask(L.LightningModule):
    """Train and evaluate one network.

    A subclass takes scalars, calls :meth:`save_hyperparameters`, and implements :meth:`build_network` and the
    steps, and sets ``report``. It logs ``train/loss``, ``val/loss`` and the figure it is monitored by.

    Args:
        optimizer: ``sgd``, ``adamw`` or ``rmsprop``.
        learning_rate: Base rate of the optimizer, after warm-up.
        momentum: Of sgd and rmsprop.
        weight_decay: Of convolutions and linear layers; norms, biases and depthwise filters do not decay.
        schedule: ``constant``, ``cosine``, ``poly`` or ``exponential``, step by step over the whole run.
        decay: Factor per epoch of the ``exponential`` schedule.
        warmup_steps: Linear rise at the beginning.
        weights: What to start all of the network from: a weights file of any program that is known, or a name of the
            zoo. Classes that it does not have stay as initialised.
        backbone_weights: Likewise, but for the backbone alone; the heads stay as initialised.
    """

    monitor: ClassVar[str]
    """The logged figure that says which checkpoint is best; larger is better."""

    network: ImageNetwork
    report: Report | None = None
    """What the last validation or test found."""

    def __init__(
        self,
        *,
        optimizer: OptimizerName = "sgd",
        learning_rate: float = 0.01,
        momentum: float = 0.9,
        weight_decay: float = 4e-5,
        schedule: ScheduleName = "cosine",
        decay: float = 0.98,
        warmup_steps: int = 0,
        weights: str | None = None,
        backbone_weights: str | None = None,
    ) -> None:
        super().__init__()
        self.optimizer: OptimizerName = optimizer
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.schedule: ScheduleName = schedule
        self.decay = decay
        self.warmup_steps = warmup_steps
        self.network = self.build_network().to(memory_format=torch.channels_last)
        self.fit_reports: list[FitReport] = []
        # Here and not in setup(): callbacks that average weights copy the network before setup() runs.
        if backbone_weights is not None:
            self.fit_reports.append(load_backbone(self.network, Path(backbone_weights)))
        if weights is not None:
            self.fit_reports.append(start_network(self.network, Path(weights)))

    @abstractmethod
    def build_network(self) -> ImageNetwork:
        """Build the network from the saved hyper-parameters."""

    def setup(self, stage: str) -> None:
        """Take the class names from the data, and see that their number is the network's.

        Raises:
            ValueError: The data has another number of classes than the network.
        """
        datamodule = self.trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(datamodule, ImageDataModule) or not datamodule.class_names:
            return
        names = datamodule.class_names
        if len(names) != self.network.num_classes:
            raise ValueError(
                f"the data has {len(names)} classes ({', '.join(names[:3])}, ...), the network has "
                f"{self.network.num_classes}: set model.num_classes to {len(names)}"
            )
        self.network.class_names = names

    def on_train_start(self) -> None:
        """Remember the run's seed, which the steps' seeds are made from."""
        self._seed = torch.initial_seed()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seed the step, so that dropout draws the same whether or not the run was interrupted before."""
        step = (self._seed, self.global_rank, self.current_epoch, batch_idx)
        torch.manual_seed(int(np.random.SeedSequence(step).generate_state(1)[0]))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Make the optimizer and its schedule over the whole run.

        Raises:
            ValueError: The run has no end, so that a schedule to its end cannot be made.
        """
        optimizer = make_optimizer(
            self.optimizer,
            self.network,
            learning_rate=self.learning_rate,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
        )
        total_steps = self.trainer.estimated_stepping_batches
        if math.isinf(total_steps):
            raise ValueError("trainer.max_epochs or trainer.max_steps must be set, got -1 for both")
        factor = make_schedule(
            self.schedule,
            total_steps=int(total_steps),
            steps_per_epoch=self._steps_per_epoch(),
            warmup_steps=self.warmup_steps,
            decay=self.decay,
        )
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _steps_per_epoch(self) -> int:
        # A run that is bounded in steps only has not made its loader by now.
        self.trainer.fit_loop.setup_data()
        return max(1, math.ceil(self.trainer.num_training_batches / self.trainer.accumulate_grad_batches))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Describe the network in the checkpoint, so that it can be built again from the file alone."""
        checkpoint["card"] = WeightsCard.of(self.network).to_metadata()
