"""What the tasks share: optimizer and schedule, weights in, a description into every checkpoint, a report out."""

import math
from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import lightning as L
import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import nn

from mobilevision.backbone.image_network import ImageNetwork
from mobilevision.training.datamodule import ImageDataModule
from mobilevision.training.optimization import (
    OptimizerName,
    ScheduleName,
    make_optimizer,
    make_schedule,
    parameter_groups,
    start_later,
)
from mobilevision.training.report import Report
from mobilevision.weights.card import WeightsCard
from mobilevision.weights.file import load_backbone, start_network
from mobilevision.weights.fitting import FitReport


class NetworkTask(L.LightningModule):
    """Train and evaluate one network.

    A subclass takes scalars, calls :meth:`save_hyperparameters`, and implements :meth:`build_network` and the
    steps, and sets ``report``. It logs ``train/loss``, ``val/loss`` and the figure it is monitored by.

    Args:
        optimizer: ``sgd``, ``adamw``, ``rmsprop``, or ``rmsprop_tf``, TensorFlow's.
        learning_rate: Base rate of the optimizer, after warm-up.
        momentum: Of sgd and rmsprop.
        weight_decay: Of convolutions and linear layers; norms, biases and depthwise filters do not decay.
        schedule: ``constant``, ``cosine``, ``poly`` or ``exponential``, step by step over the whole run.
        decay: Factor per epoch of the ``exponential`` schedule.
        warmup_steps: Linear rise at the beginning.
        backbone_rate: Factor on the backbone's learning rate, for fine-tuning what already knows much. 0 leaves the
            backbone as it is, its batch normalisation's statistics included.
        frozen_epochs: Epochs at the beginning in which the backbone is left as it is, until the heads know something.
        freeze_norm: Leave the statistics of all batch normalisation as they are: a small batch's own are worse.
            ``backbone``: only its, where fresh heads have none to keep.
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
        backbone_rate: float = 1.0,
        frozen_epochs: int = 0,
        freeze_norm: bool | Literal["backbone"] = False,
        weights: str | None = None,
        backbone_weights: str | None = None,
    ) -> None:
        super().__init__()
        if backbone_rate < 0:
            raise ValueError(f"backbone_rate must be at least 0, got {backbone_rate}")
        self.optimizer: OptimizerName = optimizer
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.schedule: ScheduleName = schedule
        self.decay = decay
        self.warmup_steps = warmup_steps
        self.backbone_rate = backbone_rate
        self.frozen_epochs = frozen_epochs
        self.freeze_norm = freeze_norm
        self.network = self.build_network().to(memory_format=torch.channels_last)
        self.fit_reports: list[FitReport] = []
        # Here and not in setup(): callbacks that average weights copy the network before setup() runs.
        if backbone_weights is not None:
            self.fit_reports.append(load_backbone(self.network, Path(backbone_weights)))
        if weights is not None:
            self.fit_reports.append(start_network(self.network, Path(weights)))
        self.network.backbone.requires_grad_(backbone_rate > 0)

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
        """Remember the run's seed, which the steps' seeds are made from, and freeze what is frozen."""
        self._seed = torch.initial_seed()
        # A run that goes on in the middle of an epoch does not start that epoch.
        self.on_train_epoch_start()

    def train(self, mode: bool = True) -> Self:
        """Switch to training or evaluation; what is frozen stays in evaluation."""
        super().train(mode)
        if self.freeze_norm is True:
            frozen: nn.Module | None = self.network
        else:
            frozen = self.network.backbone if self.freeze_norm or self._backbone_is_frozen() else None
        if frozen is not None:
            for module in frozen.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def on_train_epoch_start(self) -> None:
        """Freeze or free the backbone."""
        self.train()
        # Several processes wait for every gradient that they began with; one alone saves those that move nothing.
        if self.trainer.world_size == 1:
            self.network.backbone.requires_grad_(not self._backbone_is_frozen())

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seed the step, so that dropout draws the same whether or not the run was interrupted before."""
        step = (self._seed, self.global_rank, self.current_epoch, batch_idx)
        torch.manual_seed(int(np.random.SeedSequence(step).generate_state(1)[0]))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Make the optimizer and its schedule over the whole run.

        Raises:
            ValueError: The run has no end, so that a schedule to its end cannot be made.
        """
        backbone = self.network.backbone if self.backbone_rate != 1.0 or self.frozen_epochs else None
        optimizer = make_optimizer(
            self.optimizer,
            parameter_groups(self.network, self.weight_decay, apart=backbone),
            learning_rate=self.learning_rate,
            momentum=self.momentum,
            apart_rate=self.backbone_rate,
        )
        total_steps = self.trainer.estimated_stepping_batches
        if math.isinf(total_steps):
            raise ValueError("trainer.max_epochs or trainer.max_steps must be set, got -1 for both")
        steps_per_epoch = self._steps_per_epoch()
        factor = make_schedule(
            self.schedule,
            total_steps=int(total_steps),
            steps_per_epoch=steps_per_epoch,
            warmup_steps=self.warmup_steps,
            decay=self.decay,
        )
        later = start_later(factor, self.frozen_epochs * steps_per_epoch)
        factors = [later if group["apart"] else factor for group in optimizer.param_groups]
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factors)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _backbone_is_frozen(self) -> bool:
        return self.backbone_rate == 0 or self.current_epoch < self.frozen_epochs

    def _steps_per_epoch(self) -> int:
        # A run that is bounded in steps only has not made its loader by now.
        self.trainer.fit_loop.setup_data()
        return max(1, math.ceil(self.trainer.num_training_batches / self.trainer.accumulate_grad_batches))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Describe the network in the checkpoint, so that it can be built again from the file alone."""
        checkpoint["card"] = WeightsCard.of(self.network).to_metadata()
