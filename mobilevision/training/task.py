"""What the tasks share: optimizer and schedule, weights in, a description into every checkpoint, a report out."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Self

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from mobilevision.backbone.image_network import ImageNetwork
from mobilevision.training.datamodule import ImageDataModule
from mobilevision.training.freezing import Freezing
from mobilevision.training.objective import Objective
from mobilevision.training.optimization import (
    OptimizerName,
    ScheduleName,
    make_optimizer,
    make_schedule,
    parameter_groups,
    start_later,
)
from mobilevision.training.report import Report
from mobilevision.training.start import Start, name_classes, take_options
from mobilevision.weights.card import WeightsCard
from mobilevision.weights.file import read_weights
from mobilevision.weights.fitting import FitReport, fit_backbone, fit_network, take_pixel_options

SOURCES = frozenset({"weights", "backbone_weights"})
"""The hyper-parameters that name files to start from."""


class NetworkTask(L.LightningModule):
    """Train and evaluate one network.

    A subclass takes scalars, calls :meth:`save_hyperparameters`, implements :meth:`build_network` and sets the
    ``objective``, which says what the loss is and what is measured.

    Options of the network that are None are those of the weights that it starts from, and without weights those that
    its function has by default. The saved hyper-parameters say what was built, and a checkpoint is read without the
    files that its run started from.

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
        freeze_norm_from: The first epoch, counted from 0, in which ``freeze_norm`` holds: until then the statistics
            follow the training set, and then everything gets used to what they have become.
        weights: What to start all of the network from: a weights file of any program that is known, or a name of the
            zoo. Classes are found by name once the data has said its own, where the file has names; those that it does
            not have stay as initialised.
        backbone_weights: Likewise, but for the backbone alone; the heads stay as initialised.
    """

    monitor: ClassVar[str]
    """The logged figure that says which checkpoint is best; larger is better."""

    shown: ClassVar[tuple[str, ...]] = ("loss",)
    """The figures that a progress bar has room for."""

    network: ImageNetwork
    objective: Objective
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
        freeze_norm_from: int = 0,
        weights: str | None = None,
        backbone_weights: str | None = None,
    ) -> None:
        super().__init__()
        if backbone_rate < 0:
            raise ValueError(f"backbone_rate must be at least 0, got {backbone_rate}")
        if freeze_norm_from < 0 or (freeze_norm_from > 0 and not freeze_norm):
            raise ValueError(f"freeze_norm_from must be at least 0, and 0 without freeze_norm, got {freeze_norm_from}")
        self.optimizer: OptimizerName = optimizer
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.schedule: ScheduleName = schedule
        self.decay = decay
        self.warmup_steps = warmup_steps
        self.backbone_rate = backbone_rate
        self.freezing = Freezing(frozen_epochs if backbone_rate > 0 else math.inf, freeze_norm, freeze_norm_from)
        known = None if weights is None else read_weights(weights)
        known_backbone = None if backbone_weights is None else read_weights(backbone_weights)
        take_options(self.hparams, known, known_backbone)
        self.network = self.build_network().to(memory_format=torch.channels_last)
        self.hparams.update({name: value for name, value in self.network.options.items() if name in self.hparams})
        self.fit_reports: list[FitReport] = []
        """What became of the weights that it started from; settled once the data has named its classes."""
        self._started: Start | None = None
        self._untrained: FitReport | None = None
        # Here and not in setup(): the network is whole without a trainer.
        if known_backbone is not None:
            self.fit_reports.append(fit_backbone(self.network, known_backbone, str(backbone_weights)))
        if known is not None:
            self._started = Start(str(weights), known.card)
            self._take_report(fit_network(self.network, known, str(weights)))
        self.network.backbone.requires_grad_(backbone_rate > 0)

    @abstractmethod
    def build_network(self) -> ImageNetwork:
        """Build the network from the saved hyper-parameters."""

    def setup(self, stage: str) -> None:
        """Take the class names from the data, and for every class its rows of the weights by its name.

        Raises:
            ValueError: The data has another number of classes than the network, or some of them were never trained
                and are to be measured.
        """
        datamodule = self.trainer.datamodule  # type: ignore[attr-defined]
        names = datamodule.class_names if isinstance(datamodule, ImageDataModule) else ()
        if names and len(names) != self.network.num_classes:
            raise ValueError(
                f"the data has {len(names)} classes ({', '.join(names[:3])}, ...), the network has "
                f"{self.network.num_classes}: set model.num_classes to {len(names)}"
            )
        if names and names != self.network.class_names:
            self._name_classes(names, stage)
        self.refuse_untrained(stage)

    def refuse_untrained(self, stage: str) -> None:
        """See that what is to be measured has been trained.

        Raises:
            ValueError: The weights had nothing for some of it.
        """
        if stage != "fit" and self._untrained is not None:
            raise ValueError(f"{self._untrained}: there is nothing to measure in classes that were never trained")

    def average_again(self, stage: str) -> None:
        """Let callbacks that average weights begin with those that there are: they have copied the network by now."""
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, WeightAveraging):
                callback.setup(self.trainer, self, stage)

    def _name_classes(self, names: tuple[str, ...], stage: str) -> None:
        report = name_classes(self.network, names, self._started, self.build_network)
        if report is None:
            return
        if self._started is not None:
            self.fit_reports.pop()
        self._started = None
        self._take_report(report)
        self.average_again(stage)

    def _take_report(self, report: FitReport) -> None:
        self.fit_reports.append(report)
        self._untrained = report if report.new else None

    def on_train_start(self) -> None:
        """Remember the run's seed, which the steps' seeds are made from, and freeze what is frozen."""
        self._seed = torch.initial_seed()
        self._started = self._untrained = None
        # A run that goes on in the middle of an epoch does not start that epoch.
        self.on_train_epoch_start()

    def train(self, mode: bool = True) -> Self:
        """Switch to training or evaluation; what is frozen stays in evaluation."""
        super().train(mode)
        for module in self.freezing.find_still_norms(self.network, self.current_epoch):
            module.eval()
        return self

    def on_train_epoch_start(self) -> None:
        """Freeze or free the backbone, and freeze what is frozen from here on."""
        self.train()
        # Several processes wait for every gradient that they began with; one alone saves those that move nothing.
        if self.trainer.world_size == 1:
            self.network.backbone.requires_grad_(not self.freezing.holds_backbone(self.current_epoch))

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seed the step, so that dropout draws the same whether or not the run was interrupted before."""
        step = (self._seed, self.global_rank, self.current_epoch, batch_idx)
        torch.manual_seed(int(np.random.SeedSequence(step).generate_state(1)[0]))

    def training_step(self, batch: Any, batch_index: int) -> Tensor:
        """Give the loss of a batch.

        Raises:
            ValueError: It is not finite; the message names the batch's pictures.
        """
        batch = self.objective.prepare(batch)
        loss = self.objective.loss(self.network, self.network.run_head(batch.images), batch)
        # Nobody waits for it: the step has asked the device before, or is about to.
        if not loss.total.isfinite():
            names = self.trainer.datamodule.name_pictures(batch.positions.tolist())  # type: ignore[attr-defined]
            raise ValueError(self.describe_not_finite(loss.total, batch_index, names))
        self.log("train/loss", loss.total, prog_bar=True, batch_size=len(batch.images))
        self.log_dict({f"train/{name}": part for name, part in loss.parts.items()}, batch_size=len(batch.images))
        return loss.total

    def validation_step(self, batch: Any, batch_index: int) -> None:
        """Take the rows of a batch in: loss and metrics from the same pass."""
        self.objective.measure(self.network, self.predict_for_measurement(batch.images), batch)

    test_step = validation_step

    def predict_for_measurement(self, images: Tensor) -> Any:
        """Give what the objective measures."""
        return self.network.run_head(images)

    def on_validation_epoch_start(self) -> None:
        """Get ready for the set."""
        self.objective.begin()

    on_test_epoch_start = on_validation_epoch_start

    def on_validation_epoch_end(self) -> None:
        """Measure and log the whole set."""
        self._conclude("val")

    def on_test_epoch_end(self) -> None:
        """Measure and log the whole set."""
        self._conclude("test")

    def make_report(self) -> Report:
        """Measure the whole set."""
        return self.objective.conclude(names_of(self.network))

    def describe_not_finite(self, loss: Tensor, batch_index: int, names: Sequence[str]) -> str:
        """Say which step had a loss that is not finite, and which pictures were in it."""
        return (
            f"train/loss must be finite, got {loss.item()} in batch {batch_index} of epoch {self.current_epoch}, "
            f"images {', '.join(names)}"
        )

    def _conclude(self, split: str) -> None:
        self.report = self.make_report()
        for name, figure in self.report.figures.items():
            # Every process has the same figures; their maximum is exact, which their mean is not.
            self.log(f"{split}/{name}", figure, prog_bar=name in self.shown, sync_dist=True, reduce_fx="max")

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Make the optimizer and its schedule over the whole run.

        Raises:
            ValueError: The run has no end, so that a schedule to its end cannot be made.
        """
        rates = self.part_rates()
        optimizer = make_optimizer(
            self.optimizer,
            parameter_groups(self.trained_modules(), self.weight_decay, rates=rates),
            learning_rate=self.learning_rate,
            momentum=self.momentum,
            # Lightning clips no gradients for optimizers that could unscale them.
            fused=self.device.type == "cpu" and not self.trainer.gradient_clip_val,
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
        later = start_later(factor, self.freezing.backbone_epochs * steps_per_epoch)
        backbone = set(self.network.backbone.parameters())
        factors = [later if group["params"][0] in backbone else factor for group in optimizer.param_groups]
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factors)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def trained_modules(self) -> nn.Module:
        """Give all that has parameters to train."""
        return self.network

    def part_rates(self) -> dict[nn.Module, float]:
        """Give the factors on the learning rate of parts that have one of their own."""
        return {self.network.backbone: self.backbone_rate}

    def _steps_per_epoch(self) -> int:
        # A run that is bounded in steps only has not made its loader by now.
        self.trainer.fit_loop.setup_data()
        return max(1, math.ceil(self.trainer.num_training_batches / self.trainer.accumulate_grad_batches))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Describe the network in the checkpoint, so that it can be built again from the file alone."""
        checkpoint["card"] = WeightsCard.of(self.network).to_metadata()
        # What was taken from them is in the tensors and the options.
        given = checkpoint.get(self.CHECKPOINT_HYPER_PARAMS_KEY, {})
        given.update(dict.fromkeys(given.keys() & SOURCES))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take from the description what is not in the tensors.

        Raises:
            ValueError: A run would go on with other classes, or in another order, than it began with.
        """
        if "card" not in checkpoint:
            return
        card = WeightsCard.from_metadata(checkpoint["card"])
        keep_classes(self.network, card.class_names)
        take_pixel_options(self.network, card)
        self._started = self._untrained = None


def keep_classes(network: ImageNetwork, names: tuple[str, ...]) -> None:
    """Let a network have the classes of its checkpoint.

    Raises:
        ValueError: The data has given it others, or another order.
    """
    if names and network.class_names and names != network.class_names:
        raise ValueError(
            f"a run goes on with the classes it began with: the checkpoint has {', '.join(names[:3])}, ..., the data "
            f"has {', '.join(network.class_names[:3])}, ..."
        )
    network.class_names = names


def names_of(network: ImageNetwork) -> tuple[str, ...]:
    """Give the names of a network's classes, or their numbers where it has none."""
    return network.class_names or tuple(map(str, range(network.num_classes)))
