"""The base of all tasks: a network built for the data, training and validation steps, optimization."""

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, ClassVar, Self, cast

import lightning as L
import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from mobilevision.head import Head
from mobilevision.network import Network
from mobilevision.training.building import GivenOptions, build_for_data
from mobilevision.training.datamodule import ImageDataModule
from mobilevision.training.evaluation import Report
from mobilevision.training.optimization import OptimConfig, make_optimization
from mobilevision.weights.build import Networks
from mobilevision.weights.card import Weights, WeightsCard
from mobilevision.weights.classes import remap_head_by_class_name
from mobilevision.weights.file import NETWORK_PREFIX
from mobilevision.weights.legacy import is_legacy, rename_tensors, upgrade_card
from mobilevision.weights.loading import LoadReport

SOURCES = ("pretrained", "backbone_weights")
"""The hyper-parameters that name files to start from."""

STATES = ("state_dict", "current_model_state")
"""The tensors in a checkpoint; where weights are averaged the first are the average, and the second the model."""


class Task(L.LightningModule):
    """Training and evaluation of a network: a criterion and an evaluator for each of its heads.

    The network is built when the data has named its classes, or when it is first asked for, see
    :func:`~mobilevision.training.building.build_for_data`. A checkpoint describes the network, and is read without the
    files that its run started from.

    Args:
        network: A network to train, instead of one built from options; it gets the mode of the task, training.
        given: Options and weights to build the network from.
        optim: The optimization.

    Raises:
        ValueError: A network is given with options or weights.
    """

    monitor: ClassVar[str]
    """The logged figure that says which checkpoint is best; larger is better."""
    shown: ClassVar[tuple[str, ...]] = ("loss",)
    """The figures that a progress bar has room for."""
    networks: ClassVar[Networks]
    """The networks for one task that may be built, by task."""

    report: Report | None = None
    """The outcome of the last validation or test."""
    details: bool = False
    """Whether reports include the analysis of errors."""

    def __init__(
        self,
        network: Network | None = None,
        given: GivenOptions = GivenOptions(),
        optim: OptimConfig = OptimConfig(),
    ) -> None:
        super().__init__()
        if network is not None and (any(given[:3]) or any(given.heads.values())):
            raise ValueError("network must be given without weights and without options of backbone and head")
        self.optim = optim
        self.load_reports: list[LoadReport] = []
        """The outcome of loading weights, known once the network is built."""
        self._untrained: LoadReport | None = None
        self._backbone_weights: Weights | None = None
        self._given = given
        self.criteria = nn.ModuleDict()
        self.evaluators = nn.ModuleDict()
        if network is not None:
            self._take(network)

    @property
    def network(self) -> Network:
        """The network, built when it is first asked for."""
        if "network" not in self._modules:
            self.configure_model()
        return cast(Network, self._modules["network"])

    @abstractmethod
    def make_criterion(self, name: str, head: Head) -> nn.Module:
        """Build the criterion of a head."""

    @abstractmethod
    def make_evaluator(self, name: str, head: Head) -> nn.Module:
        """Build the evaluator of a head, whose criterion is in ``criteria``."""

    def configure_model(self) -> None:
        """Build the network for the data, if there is some, and tell the data what the heads take.

        Raises:
            FileNotFoundError: There is no such weights file.
            ValueError: The data has other classes or another size than what is given, or classes that were never
                trained are to be evaluated.
        """
        data = self._attached_data()
        if "network" not in self._modules:
            built = build_for_data(self._given, self.networks, data)
            network, self._untrained, backbone_report, self._backbone_weights = built
            self.load_reports = [report for report in (backbone_report, self._untrained) if report is not None]
            self._take(network)
            self.hparams.update(self.describe_options(network))
        heads = self.network.named_heads
        for name, head in heads.items():
            if data is not None and data.for_head(name).class_names not in ((), head.class_names):
                remap_head_by_class_name(head, data.for_head(name).class_names)
            if name not in self.criteria:
                self.criteria[name] = self.make_criterion(name, head)
                self.evaluators[name] = self.make_evaluator(name, head)
            self.evaluators[name].class_names = head.names  # type: ignore[assignment]
            if data is not None:
                data.for_head(name).attach(head)
        if data is not None and self._untrained is not None and self._untrained.missing and not self.trainer.training:
            raise ValueError(f"{self._untrained}: classes that were never trained cannot be evaluated")

    def forward(self, images: Tensor) -> Any:
        """Return what the network returns."""
        return self.network(images)

    def predict_step(self, batch: Any, batch_index: int = 0) -> Any:
        """Return the answers for a batch of images: those of the only head, or by head.

        Args:
            batch: Square images, or a batch with ``images`` and, if the answers are to be in pixels of the files,
                ``sizes``.
            batch_index: Its number.
        """
        images = getattr(batch, "images", batch)
        side = images.shape[-1]
        sizes = getattr(batch, "sizes", torch.tensor([[side, side]] * len(images), device=images.device))
        outputs = self.network.compute(images)
        heads = self.network.named_heads
        answers = {name: heads[name].postprocess(outputs[name], sizes, stretched_to=side) for name in heads}
        return answers if len(answers) > 1 else next(iter(answers.values()))

    def on_train_start(self) -> None:
        """Remember the run's seed, which the steps' seeds are made from, and freeze the parts that are frozen."""
        self._seed = torch.initial_seed()
        self._untrained = self._backbone_weights = None
        # A run that is resumed in the middle of an epoch does not start that epoch.
        self.on_train_epoch_start()

    def train(self, mode: bool = True) -> Self:
        """Switch to training or evaluation; parts that are frozen stay in evaluation."""
        super().train(mode)
        if "network" in self._modules:
            for module in self.optim.find_frozen_norms(self.network, self.current_epoch):
                module.eval()
        return self

    def on_train_epoch_start(self) -> None:
        """Freeze or unfreeze the backbone, and the statistics that are frozen from here on."""
        self.train()
        # Several processes wait for every gradient that they began with; a single one saves those that change nothing.
        if self.trainer.world_size == 1:
            self.network.backbone.requires_grad_(not self.optim.backbone_frozen(self.current_epoch))

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seed the step, so that dropout draws the same whether or not the run was interrupted before."""
        step = (self._seed, self.global_rank, self.current_epoch, batch_idx)
        torch.manual_seed(int(np.random.SeedSequence(step).generate_state(1)[0]))

    def prepare_batch(self, name: str, batch: Any) -> Any:
        """Return a batch as the head called ``name`` is trained on it."""
        return batch

    def training_step(self, batch: Any, batch_index: int) -> Tensor:
        """Return the loss of a batch.

        Raises:
            ValueError: It is not finite; the message names the batch's images.
        """
        (parts,) = self.compute_losses({next(iter(self.network.heads)): batch}, batch_index).values()
        total = sum_parts(parts)
        self.log("train/loss", total, prog_bar=True, batch_size=len(batch.images))
        if len(parts) > 1:
            self.log_dict({f"train/{name}": part for name, part in parts.items()}, batch_size=len(batch.images))
        return total

    def compute_losses(self, batches: Mapping[str, Any], batch_index: int) -> dict[str, dict[str, Tensor]]:
        """Return the parts of the loss of each head that the images of one pass have labels for.

        Args:
            batches: By head; their images are the same.
            batch_index: Its number, for messages.

        Raises:
            ValueError: A loss is not finite; the message names the images.
        """
        prepared = {name: self.prepare_batch(name, batch) for name, batch in batches.items()}
        outputs = self.network.compute(next(iter(prepared.values())).images, prepared)
        losses = {}
        for name, batch in prepared.items():
            losses[name] = self.criteria[name](outputs[name], batch)
            total = sum_parts(losses[name])
            # Nobody waits for it: the step has asked the device before, or is about to.
            if not total.isfinite():
                # Positions are those of the first dataset, where images stand in several.
                data = self.trainer.datamodule.for_head(next(iter(batches)))  # type: ignore[attr-defined]
                names = ", ".join(data.name_images(batch.positions.tolist()))
                raise ValueError(
                    f"train/loss must be finite, got {total.item()} in batch {batch_index} of epoch "
                    f"{self.current_epoch}, images {names}"
                )
        return losses

    def validation_step(self, batch: Any, batch_index: int, dataloader_idx: int = 0) -> None:
        """Evaluate a batch: loss and figures from the same pass."""
        name = self.evaluated_heads()[dataloader_idx]
        self.evaluators[name].update(self.compute_for_evaluation(name, batch.images), batch)  # type: ignore[operator]

    test_step = validation_step

    def evaluated_heads(self) -> tuple[str, ...]:
        """Return the heads in the order of the evaluation loaders."""
        return tuple(self.network.heads)

    def compute_for_evaluation(self, name: str, images: Tensor) -> Any:
        """Return the outputs of a head that its evaluator takes."""
        return self.network.compute(images, (name,))[name]

    def on_validation_epoch_start(self) -> None:
        """Reset the evaluators."""
        for evaluator in self.evaluators.values():
            evaluator.reset()  # type: ignore[operator]

    on_test_epoch_start = on_validation_epoch_start

    def on_validation_epoch_end(self) -> None:
        """Compute and log the figures of the whole dataset."""
        self._log_report("val")

    def on_test_epoch_end(self) -> None:
        """Compute and log the figures of the whole dataset."""
        self._log_report("test")

    def make_report(self) -> Report:
        """Compute the figures of the whole dataset."""
        (name,) = self.evaluators
        return self.report_head(name)

    def report_head(self, name: str) -> Report:
        """Compute the figures of one head, and the analysis of its errors if that is asked for."""
        evaluator = cast(Any, self.evaluators[name])
        report: Report = evaluator.compute()
        return report._replace(details={**report.details, **evaluator.analyze()}) if self.details else report

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build the optimizer and its schedule over the whole run.

        Raises:
            ValueError: The run has no end, so that a schedule to its end cannot be made.
        """
        total_steps = self.trainer.estimated_stepping_batches
        if math.isinf(total_steps):
            raise ValueError("trainer.max_epochs or trainer.max_steps must be set, got -1 for both")
        # A run that is bounded in steps only has not made its loader by now.
        self.trainer.fit_loop.setup_data()
        optimizer, scheduler = make_optimization(
            self.optim,
            self.trained_modules(),
            self.network.backbone,
            rates=self.part_rates(),
            total_steps=int(total_steps),
            steps_per_epoch=math.ceil(self.trainer.num_training_batches / self.trainer.accumulate_grad_batches),
            # Lightning clips no gradients for optimizers that could unscale them.
            fused=self.device.type == "cpu" and not self.trainer.gradient_clip_val,
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def trained_modules(self) -> nn.Module:
        """Return everything that has parameters to train."""
        return self.network

    def part_rates(self) -> dict[nn.Module, float]:
        """Return the factors on the learning rate of parts that have one of their own."""
        return {self.network.backbone: self.optim.backbone_rate}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Describe the network in the checkpoint, so that it can be built from the file alone."""
        checkpoint["card"] = WeightsCard.of(self.network).to_metadata()
        # Everything that was loaded from them is in the tensors and the options.
        given = checkpoint.get(self.CHECKPOINT_HYPER_PARAMS_KEY, {})
        given.update(dict.fromkeys(given.keys() & set(SOURCES)))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Read the description, and rename the tensors of an old checkpoint.

        Raises:
            ValueError: A run would be resumed with other classes, or in another order, than it began with.
        """
        if "card" not in checkpoint:
            return
        legacy = is_legacy(checkpoint["card"])
        card = upgrade_card(checkpoint["card"]) if legacy else WeightsCard.from_metadata(checkpoint["card"])
        for key in STATES if legacy else ():
            if key in checkpoint:
                checkpoint[key] = rename_tensors(checkpoint[key], card, NETWORK_PREFIX)
        for name, head in self.network.named_heads.items():
            theirs = card.heads[name].class_names if name in card.heads else ()
            if theirs and head.class_names and theirs != head.class_names:
                raise ValueError(
                    f"a run is resumed with the classes it began with: the checkpoint has {', '.join(theirs[:3])}, "
                    f"..., the data has {', '.join(head.class_names[:3])}, ..."
                )
            head.class_names = theirs or head.class_names
        self._untrained = None

    def describe_options(self, network: Network) -> dict[str, Any]:
        """Return the hyper-parameters that describe a network that was built."""
        return asdict(network.backbone.config) | asdict(network.head.config)

    def _take(self, network: Network) -> None:
        # The property of this name reads it; add_module would ask the property first.
        self._modules["network"] = network.train(self.training)
        network.backbone.requires_grad_(self.optim.backbone_rate > 0)

    def _attached_data(self) -> ImageDataModule | None:
        data = None if self._trainer is None else self._trainer.datamodule  # type: ignore[attr-defined]
        return data if isinstance(data, ImageDataModule) else None

    def _log_report(self, split: str) -> None:
        self.report = self.make_report()
        for name, figure in self.report.figures.items():
            # Every process has the same figures; their maximum is exact, which their mean is not.
            self.log(f"{split}/{name}", figure, prog_bar=name in self.shown, sync_dist=True, reduce_fx="max")


def sum_parts(parts: Mapping[str, Tensor]) -> Tensor:
    """Return the sum of the parts of a loss."""
    return torch.stack(list(parts.values())).sum()
