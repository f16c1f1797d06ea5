"""Train and evaluate several heads on one backbone."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Self, cast

import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn

from mobilevision.backbone.padding import Padding
from mobilevision.classification.objective import ClassificationObjective
from mobilevision.detection.objective import DetectionObjective
from mobilevision.detection.ssdlite import SSDLite
from mobilevision.multitask.model import NETWORKS, MultiTaskNetwork, multitask_mobilenet_v2
from mobilevision.multitask.types import TaskName, passes_of
from mobilevision.multitask.weighting import FixedWeights, LearnedUncertainty
from mobilevision.segmentation.balance import balance_classes
from mobilevision.segmentation.objective import SegmentationObjective
from mobilevision.training.datamodule import ImageDataModule
from mobilevision.training.objective import Objective
from mobilevision.training.report import Report
from mobilevision.training.start import Start, name_classes, set_options
from mobilevision.training.task import NetworkTask, keep_classes, names_of
from mobilevision.weights.card import Weights, WeightsCard
from mobilevision.weights.file import read_weights
from mobilevision.weights.fitting import FitReport
from mobilevision.weights.joint import MODEL, heads_of, merge_heads, take_part

MAIN_FIGURES = {"classification": "top1", "detection": "map", "segmentation": "miou"}
"""What each task is judged by."""


class MultiTaskTask(NetworkTask):
    """Train a joint network on sets that each know some of the answers.

    A step has the losses of the tasks whose batches it is given, and leaves the heads of the others as they are. Each
    task is measured as it is alone, on its own set; ``score`` is the weighted mean of top-1, mAP and mIoU.

    Args:
        heads: Names of the heads, each with options of its network such as ``num_classes``, see
            :func:`multitask_mobilenet_v2`. Those of the weights that it starts from where None; without weights all
            three.
        width_mult: Channel multiplier. This and what follows it as far as ``norm_eps`` are, where they are None, as
            the weights have them that the run starts from, or as :func:`multitask_mobilenet_v2` has them by default.
        padding: ``symmetric`` or ``tf_same``.
        round_to: Channels are rounded to multiples of this.
        depth_mult: Multiplier of the blocks of every stage, see :class:`MobileNetV2`.
        fixed_ends: Whether stem and ``last`` keep their size, see :class:`MobileNetV2`.
        norm_eps: Batch normalisation's epsilon in the backbone.
        norm_momentum: Batch normalisation's momentum in the backbone, in PyTorch's sense.
        loss_weights: Factor on each task's loss; 1 where none is given.
        learned_uncertainty: Learn these factors instead, see :class:`LearnedUncertainty`.
        head_rates: Factor on each head's learning rate; 0 leaves the head as it is, its statistics included.
        score_weights: Weight of each task in ``score``; 1 where none is given.
        label_smoothing: Share of every label of the classifier that is spread over all classes.
        class_balance: How much more a pixel of a rare class weighs for the segmenter, see :class:`SegmentationTask`.
        optimization: As in :class:`NetworkTask`.

    Raises:
        ValueError: A task that there is no head for, weights that are negative, or both kinds of loss weights; or
            ``class_balance`` is negative, or there is no segmenter to balance the classes of.
    """

    monitor: ClassVar[str] = "val/score"
    shown: ClassVar[tuple[str, ...]] = ("score", *MAIN_FIGURES.values())

    network: MultiTaskNetwork

    def __init__(
        self,
        heads: dict[str, dict[str, Any]] | None = None,
        *,
        width_mult: float | None = None,
        padding: Padding | None = None,
        round_to: int | None = None,
        depth_mult: float | None = None,
        fixed_ends: bool | None = None,
        norm_eps: float | None = None,
        norm_momentum: float = 0.003,
        loss_weights: dict[str, float] | None = None,
        learned_uncertainty: bool = False,
        head_rates: dict[str, float] | None = None,
        score_weights: dict[str, float] | None = None,
        label_smoothing: float = 0.1,
        class_balance: float = 0.0,
        **optimization: Any,
    ) -> None:
        self.save_hyperparameters()
        if heads is not None and optimization.get("weights"):
            self.hparams["heads"] = merge_heads(take_part(read_weights(optimization["weights"]), MODEL), heads)
        super().__init__(**optimization)
        if loss_weights and learned_uncertainty:
            raise ValueError(f"loss_weights must be left out where they are learned, got {loss_weights}")
        self.weighting: nn.Module = (
            LearnedUncertainty(self.network.members)
            if learned_uncertainty
            else FixedWeights(self._of_every_head("loss_weights", loss_weights))
        )
        self.score_weights = self._of_every_head("score_weights", score_weights)
        if not any(self.score_weights.values()):
            raise ValueError(f"score_weights must not all be 0, got {score_weights}")
        self.head_rates = self._of_every_head("head_rates", head_rates)
        for task, rate in self.head_rates.items():
            self.network.heads[task].requires_grad_(rate > 0)
        if class_balance < 0 or (class_balance > 0 and "segmentation" not in self.network.members):
            raise ValueError(f"class_balance must be at least 0, and 0 without a segmenter, got {class_balance}")
        self.class_balance = class_balance
        self.objectives = nn.ModuleDict(_make_objectives(self.network, label_smoothing))

    def build_network(self) -> MultiTaskNetwork:
        """Build the joint network."""
        return multitask_mobilenet_v2(**set_options(multitask_mobilenet_v2, self.hparams))

    def setup(self, stage: str) -> None:
        """See that there is a set for every head, and take the names of its classes.

        Raises:
            ValueError: There is none, or one without a head, or one of other classes or sizes than the head; or every
                step trains another head, which several processes must be told.
        """
        modules = self.trainer.datamodule.members  # type: ignore[attr-defined]
        if set(modules) != set(self.network.members):
            raise ValueError(
                f"every head needs a set and every set a head, got heads for "
                f"{', '.join(self.network.members)} and sets for {', '.join(modules) or 'none of them'}"
            )
        reports = [self._name_member(task, module) for task, module in modules.items()]
        if any(reports):
            self.fit_reports += [report for report in reports if report]
            self.average_again(stage)
        self.refuse_untrained(stage)
        strategy = self.trainer.strategy
        if stage == "fit" and isinstance(strategy, DDPStrategy) and len(self.network.members) > 1:
            finds = strategy._ddp_kwargs.get("find_unused_parameters", False)
            if not finds and self.trainer.datamodule.draw != "together":  # type: ignore[attr-defined]
                raise ValueError(
                    "trainer.strategy must be ddp_find_unused_parameters_true on several processes, as a step trains "
                    "one head of several; or set data.draw to together"
                )

    def on_fit_start(self) -> None:
        """Count the classes of the training masks and weigh them."""
        if self.class_balance:
            counts = self.trainer.datamodule.members["segmentation"].count_classes()  # type: ignore[attr-defined]
            objective = cast(SegmentationObjective, self._objective("segmentation"))
            objective.class_weights = balance_classes(counts, self.class_balance).to(self.device)

    def train(self, mode: bool = True) -> Self:
        """Switch to training or evaluation; what is frozen stays in evaluation."""
        super().train(mode)
        for task, rate in self.head_rates.items():
            if rate == 0:
                self.network.heads[task].eval()
        return self

    def training_step(self, batch: Mapping[str, Any], batch_index: int) -> Tensor:
        """Give the weighted loss of the tasks that a step has batches of.

        Raises:
            ValueError: A loss is not finite; the message names its pictures.
        """
        sums: dict[str, Tensor] = {}
        counts: Counter[str] = Counter()
        for parts in passes_of(batch):
            for task, loss in self._losses(parts, batch_index).items():
                count = len(parts[task].images)
                sums[task] = sums.get(task, 0.0) + count * loss
                counts[task] += count
        losses = {task: total / counts[task] for task, total in sums.items()}
        total: Tensor = self.weighting(losses)
        for task, loss in losses.items():
            self.log(f"train/{task}_loss", loss, batch_size=counts[task])
        self.log("train/loss", total, prog_bar=True, batch_size=counts.total())
        return total

    def validation_step(self, batch: Any, batch_index: int, dataloader_idx: int = 0) -> None:
        """Take the rows of a batch of one of the sets in."""
        task = tuple(self.trainer.datamodule.members)[dataloader_idx]  # type: ignore[attr-defined]
        member = self.network.members[task]
        self._objective(task).measure(member, member.run_head(batch.images), batch)

    test_step = validation_step

    def on_validation_epoch_start(self) -> None:
        """Get ready for the sets."""
        for task in self.network.members:
            self._objective(task).begin()

    on_test_epoch_start = on_validation_epoch_start

    def make_report(self) -> Report:
        """Measure every set, and all of them in one score: the mean of the figures that there are."""
        reports = {
            task: self._objective(task).conclude(names_of(member)) for task, member in self.network.members.items()
        }
        main = {task: report.figures[MAIN_FIGURES[task]] for task, report in reports.items()}
        weights = {task: self.score_weights[task] for task, figure in main.items() if not math.isnan(figure)}
        score = sum(weight * main[task] for task, weight in weights.items()) / (sum(weights.values()) or math.nan)
        losses = {task: torch.tensor(report.figures["loss"], device=self.device) for task, report in reports.items()}
        with torch.no_grad():
            figures = {"score": score, "loss": float(self.weighting(losses))}
        for task, report in reports.items():
            figures |= {f"{task}_loss" if name == "loss" else name: each for name, each in report.figures.items()}
        per_class = {f"{task}/{name}": row for task, each in reports.items() for name, row in each.per_class.items()}
        details = {task: dict(report.details) for task, report in reports.items()}
        return Report(figures, per_class, sum(report.num_images for report in reports.values()), details)

    def trained_modules(self) -> nn.Module:
        """Give the network, and the weights of the losses if they are learned."""
        return nn.ModuleList([self.network, self.weighting])

    def part_rates(self) -> dict[nn.Module, float]:
        """Give the factors on the learning rates of the backbone and every head."""
        return super().part_rates() | {self.network.heads[task]: rate for task, rate in self.head_rates.items()}

    def _losses(self, parts: Mapping[str, Any], batch_index: int) -> dict[str, Tensor]:
        """Give the loss of each task that the images of one pass have labels for."""
        prepared = {task: self._objective(task).prepare(part) for task, part in parts.items()}
        images = next(iter(prepared.values())).images
        answers = self.network.run_heads(images, cast(Iterable[TaskName], prepared))
        losses = {}
        for task, batch in prepared.items():
            losses[task] = self._objective(task).loss(self.network.members[task], answers[task], batch).total
            if not losses[task].isfinite():
                # Places are those of the first set, if there are several.
                module = self.trainer.datamodule.members[next(iter(parts))]  # type: ignore[attr-defined]
                names = module.name_pictures(batch.positions.tolist())
                raise ValueError(self.describe_not_finite(losses[task], batch_index, names))
        return losses

    def _objective(self, task: str) -> Objective:
        return cast(Objective, self.objectives[task])

    def _of_every_head(self, name: str, given: Mapping[str, float] | None) -> dict[str, float]:
        values = dict.fromkeys(self.network.members, 1.0) | dict(given or {})
        if len(values) > len(self.network.members) or min(values.values()) < 0:
            raise ValueError(f"{name} must be at least 0, and for {', '.join(self.network.members)}, got {given}")
        return values

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take from the description what is not in the tensors.

        Raises:
            ValueError: A run would go on with other classes, or in another order, than it began with.
        """
        super().on_load_checkpoint(checkpoint)
        if "card" in checkpoint:
            for task, part in heads_of(Weights({}, WeightsCard.from_metadata(checkpoint["card"]))).items():
                keep_classes(self.network.members[task], part.card.class_names)

    def _name_member(self, task: str, module: ImageDataModule) -> FitReport | None:
        member, names = self.network.members[task], module.class_names
        if names and len(names) != member.num_classes:
            raise ValueError(
                f"the data for {task} has {len(names)} classes ({', '.join(names[:3])}, ...), the head has "
                f"{member.num_classes}: set model.heads.{task}.num_classes to {len(names)}"
            )
        if isinstance(member, SSDLite) and module.input_size not in (None, member.input_size):
            raise ValueError(
                f"data.detection.input_size must be that of the head, {member.input_size}, got {module.input_size}"
            )
        if not names or names == member.class_names:
            return None
        return name_classes(member, names, self._start_of(task), lambda: NETWORKS[task](**member.options))

    def _start_of(self, task: str) -> Start | None:
        """Give where a head's weights are from, unless it is new."""
        if self._started is None:
            return None
        given = heads_of(Weights({}, self._started.card))
        return Start(self._started.source, given[task].card) if task in given else None


def _make_objectives(network: MultiTaskNetwork, label_smoothing: float) -> dict[str, Objective]:
    objectives: dict[str, Objective] = {}
    for task, member in network.members.items():
        match task:
            case "classification":
                objectives[task] = ClassificationObjective(member.num_classes, label_smoothing=label_smoothing)
            case "detection":
                objectives[task] = DetectionObjective(member.num_classes)
            case "segmentation":
                objectives[task] = SegmentationObjective(member.num_classes, output_stride=member.output_stride)
    return objectives
