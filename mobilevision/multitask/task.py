"""Train and evaluate a network with several heads."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Self, cast

import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn

from mobilevision.backbone.mobilenet_v2 import BackboneConfig
from mobilevision.classification.criterion import ClassificationCriterion
from mobilevision.classification.evaluator import ClassificationEvaluator
from mobilevision.detection import task as detection
from mobilevision.head import Head
from mobilevision.multitask.heads import NETWORKS
from mobilevision.multitask.pairing import split_passes
from mobilevision.multitask.weighting import FixedWeights, LearnedUncertainty
from mobilevision.network import Network
from mobilevision.options import split_options
from mobilevision.segmentation import task as segmentation
from mobilevision.segmentation.balance import balance_classes
from mobilevision.training.building import GivenOptions
from mobilevision.training.evaluation import Report
from mobilevision.training.optimization import OptimConfig
from mobilevision.training.task import Task, sum_parts

MAIN_FIGURES = {"classification": "top1", "detection": "map", "segmentation": "miou"}
"""The figure of each task that goes into the score."""


@dataclass(frozen=True, kw_only=True)
class MultiTaskOptions(BackboneConfig, OptimConfig):
    """The options of a multi-task training: fields of backbone and optimization side by side."""


class MultiTaskTask(Task):
    """Training of several heads on one backbone, from datasets with labels for one head each.

    A step has the losses of the heads whose batches it is given, and leaves the others as they are. Each head is
    evaluated as it is alone, on its own dataset; ``score`` is the weighted mean of top-1, mAP and mIoU.

    Args:
        network: A network with several heads, instead of one built from options.
        heads: The heads by name, each with options such as ``num_classes``, and ``task`` where the name is none; see
            :func:`multitask_mobilenet_v2`. Those of the weights or, without weights, of the data where None.
        pretrained: Weights to start all of the network from: a weights file of any known program, or the name of
            published weights. Heads are matched by name and task, classes by name where the file has names; those that
            it lacks are randomly initialized.
        backbone_weights: Weights to start the backbone alone from, a file or a name; the heads are randomly
            initialized.
        loss_weights: Factor on each head's loss; 1 where none is given.
        learned_uncertainty: Whether these factors are learned instead, see :class:`LearnedUncertainty`.
        head_rates: Factor on each head's learning rate; 0 freezes the head, its statistics included.
        score_weights: Weight of each head in ``score``; 1 where none is given.
        label_smoothing: Share of every label of the classifiers that is spread over all classes.
        class_balance: How much more a pixel of a rare class weighs for the segmenters, see :class:`SegmentationTask`.
        options: Fields of :class:`MultiTaskOptions`. Those that are not given are the weights' or the defaults.

    Raises:
        TypeError: An unknown option.
        ValueError: Weights or rates that are negative or of no head, both kinds of loss weights, or a
            ``class_balance`` that is negative or without a segmenter.
    """

    monitor: ClassVar[str] = "val/score"
    shown: ClassVar[tuple[str, ...]] = ("score", *MAIN_FIGURES.values())
    networks: ClassVar = NETWORKS

    def __init__(
        self,
        network: Network | None = None,
        heads: dict[str, dict[str, Any]] | None = None,
        *,
        pretrained: str | None = None,
        backbone_weights: str | None = None,
        loss_weights: dict[str, float] | None = None,
        learned_uncertainty: bool = False,
        head_rates: dict[str, float] | None = None,
        score_weights: dict[str, float] | None = None,
        label_smoothing: float = 0.1,
        class_balance: float = 0.0,
        **options: Any,
    ) -> None:
        self.save_hyperparameters(ignore="network")
        MultiTaskOptions(**options)
        backbone, optim = split_options(options, BackboneConfig, OptimConfig)
        if loss_weights and learned_uncertainty:
            raise ValueError(f"loss_weights must be left out where they are learned, got {loss_weights}")
        if class_balance < 0:
            raise ValueError(f"class_balance must be at least 0, got {class_balance}")
        self.learned_uncertainty = learned_uncertainty
        self.stated = {"loss_weights": loss_weights, "head_rates": head_rates, "score_weights": score_weights}
        self.label_smoothing = label_smoothing
        self.class_balance = class_balance
        given = GivenOptions(pretrained, backbone_weights, backbone, heads or {})
        super().__init__(network, given, OptimConfig(**optim))

    def make_criterion(self, name: str, head: Head) -> nn.Module:
        """Build the criterion of a head."""
        builders: dict[str, Any] = {
            "classification": lambda _: ClassificationCriterion(label_smoothing=self.label_smoothing),
            "detection": detection.build_criterion,
            "segmentation": segmentation.build_criterion,
        }
        criterion: nn.Module = builders[head.task](head)
        return criterion

    def make_evaluator(self, name: str, head: Head) -> nn.Module:
        """Build the evaluator of a head."""
        builders: dict[str, Any] = {
            "classification": lambda: ClassificationEvaluator(
                head.num_classes, head.names, label_smoothing=self.label_smoothing
            ),
            "detection": lambda: detection.build_evaluator(cast(Any, head), cast(Any, self.criteria[name])),
            "segmentation": lambda: segmentation.build_evaluator(cast(Any, head)),
        }
        evaluator: nn.Module = builders[head.task]()
        return evaluator

    def configure_model(self) -> None:
        """Build the network for the data, and compare its heads with the datasets.

        Raises:
            FileNotFoundError: There is no such weights file.
            ValueError: A dataset has no head or a head no dataset, or as :meth:`Task.configure_model`.
        """
        super().configure_model()
        data = self._attached_data()
        if data is not None and set(data.by_head) != set(self.network.heads):
            raise ValueError(
                f"every head needs a dataset and every dataset a head, got heads {', '.join(self.network.heads)} and "
                f"datasets {', '.join(data.by_head) or 'for none of them'}"
            )
        if "weighting" in self._modules:
            return
        self.weighting: nn.Module = (
            LearnedUncertainty(self.network.heads)
            if self.learned_uncertainty
            else FixedWeights(self._by_head("loss_weights"))
        )
        self.score_weights, self.head_rates = self._by_head("score_weights"), self._by_head("head_rates")
        if not any(self.score_weights.values()):
            raise ValueError(f"score_weights must not all be 0, got {self.score_weights}")
        for name, rate in self.head_rates.items():
            self.network.heads[name].requires_grad_(rate > 0)
        if self.class_balance and not self._heads_of("segmentation"):
            raise ValueError(f"class_balance must be 0 without a segmentation head, got {self.class_balance}")

    def describe_options(self, network: Network) -> dict[str, Any]:
        """Return the hyper-parameters that describe a network that was built."""
        heads = {
            name: {"task": head.task, **asdict(head.config), "class_names": list(head.class_names)}
            for name, head in network.named_heads.items()
        }
        return {"heads": heads, **asdict(network.backbone.config)}

    def setup(self, stage: str) -> None:
        """Refuse a strategy that waits for gradients that a step does not have.

        Raises:
            ValueError: Every step trains another head, which several processes must be told.
        """
        strategy = self.trainer.strategy
        waits = isinstance(strategy, DDPStrategy) and not strategy._ddp_kwargs.get("find_unused_parameters", False)
        if stage == "fit" and waits and self.trainer.datamodule.draw != "together":  # type: ignore[attr-defined]
            raise ValueError(
                "trainer.strategy must be ddp_find_unused_parameters_true on several processes, as a step trains one "
                "head of several; or set data.draw to together"
            )

    def on_fit_start(self) -> None:
        """Count the classes of the training masks and weigh them."""
        if not self.class_balance:
            return
        for name in self._heads_of("segmentation"):
            counts = self.trainer.datamodule.for_head(name).count_classes()  # type: ignore[attr-defined]
            weights = balance_classes(counts, self.class_balance).to(self.device)
            self.criteria[name].class_weights = weights

    def train(self, mode: bool = True) -> Self:
        """Switch to training or evaluation; parts that are frozen stay in evaluation."""
        super().train(mode)
        for name, rate in getattr(self, "head_rates", {}).items():
            if rate == 0:
                self.network.heads[name].eval()
        return self

    def training_step(self, batch: Mapping[str, Any], batch_index: int) -> Tensor:
        """Return the weighted loss of the heads that a step has batches of.

        Raises:
            ValueError: A loss is not finite; the message names its images.
        """
        sums: dict[str, Tensor] = {}
        counts: Counter[str] = Counter()
        for batches in split_passes(batch):
            for name, parts in self.compute_losses(batches, batch_index).items():
                count = len(batches[name].images)
                sums[name] = sums.get(name, 0.0) + count * sum_parts(parts)
                counts[name] += count
        losses = {name: total / counts[name] for name, total in sums.items()}
        total: Tensor = self.weighting(losses)
        for name, loss in losses.items():
            self.log(f"train/{name}_loss", loss, batch_size=counts[name])
        self.log("train/loss", total, prog_bar=True, batch_size=counts.total())
        return total

    def evaluated_heads(self) -> tuple[str, ...]:
        """Return the heads in the order of the evaluation loaders."""
        return tuple(self.trainer.datamodule.by_head)  # type: ignore[attr-defined]

    def make_report(self) -> Report:
        """Compute the figures of every dataset, and one score: the weighted mean of the main figures that there are."""
        heads = self.network.named_heads
        reports = {name: self.report_head(name) for name in heads}
        main = {name: report.figures[MAIN_FIGURES[heads[name].task]] for name, report in reports.items()}
        weights = {name: self.score_weights[name] for name, figure in main.items() if not math.isnan(figure)}
        score = sum(weight * main[name] for name, weight in weights.items()) / (sum(weights.values()) or math.nan)
        losses = {name: torch.tensor(report.figures["loss"], device=self.device) for name, report in reports.items()}
        with torch.no_grad():
            figures = {"score": score, "loss": float(self.weighting(losses))}
        counts = Counter(head.task for head in heads.values())
        for name, report in reports.items():
            # A figure is called as it is alone, unless two heads have it.
            prefix = f"{name}_" if counts[heads[name].task] > 1 else ""
            figures |= {
                f"{name}_loss" if figure == "loss" else f"{prefix}{figure}": value
                for figure, value in report.figures.items()
            }
        per_class = {f"{name}/{label}": row for name, each in reports.items() for label, row in each.per_class.items()}
        details = {name: dict(report.details) for name, report in reports.items()}
        return Report(figures, per_class, sum(report.num_images for report in reports.values()), details)

    def trained_modules(self) -> nn.Module:
        """Return the network, and the weights of the losses if they are learned."""
        return nn.ModuleList([self.network, self.weighting])

    def part_rates(self) -> dict[nn.Module, float]:
        """Return the factors on the learning rates of the backbone and every head."""
        return super().part_rates() | {self.network.heads[name]: rate for name, rate in self.head_rates.items()}

    def _heads_of(self, task: str) -> list[str]:
        return [name for name, head in self.network.named_heads.items() if head.task == task]

    def _by_head(self, option: str) -> dict[str, float]:
        given = self.stated[option]
        values = dict.fromkeys(self.network.heads, 1.0) | dict(given or {})
        if len(values) > len(self.network.heads) or min(values.values()) < 0:
            raise ValueError(f"{option} must be at least 0, and for {', '.join(self.network.heads)}, got {given}")
        return values
