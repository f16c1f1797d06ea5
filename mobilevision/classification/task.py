"""Train and evaluate the classifier."""

from dataclasses import dataclass
from typing import Any, ClassVar, cast

from torch import nn

from mobilevision.backbone.mobilenet_v2 import BackboneConfig
from mobilevision.classification.criterion import ClassificationCriterion
from mobilevision.classification.evaluator import ClassificationEvaluator
from mobilevision.classification.head import ClassificationConfig, ClassificationHead, Classifier
from mobilevision.classification.linear_probe import LinearLayer, compute_features, fit_layer, nearest_rows
from mobilevision.classification.mixing import Mixing
from mobilevision.classification.types import ClassificationBatch
from mobilevision.head import Head
from mobilevision.network import Network
from mobilevision.options import split_options
from mobilevision.training.building import GivenOptions
from mobilevision.training.optimization import OptimConfig
from mobilevision.training.task import Task


@dataclass(frozen=True, kw_only=True)
class ClassificationOptions(BackboneConfig, ClassificationConfig, OptimConfig):
    """The options of a classification task: fields of backbone, head and optimization side by side."""


class ClassificationTask(Task):
    """Training of MobileNetV2 as a classifier, evaluated by top-1, top-5 and calibration.

    Args:
        network: A network with a classification head, instead of one built from options.
        pretrained: Weights to start all of the network from: a weights file of any known program, or the name of
            published weights. Classes are matched by name where the file has names; those that it lacks are randomly
            initialized.
        backbone_weights: Weights to start the backbone alone from, a file or a name; the head is randomly initialized.
        label_smoothing: Share of every label that is spread over all classes, in training and in the validation loss.
        mixup_alpha: Parameter of the Beta distribution of Mixup's shares, 0.2 for instance; 0 turns Mixup off.
        cutmix_alpha: Parameter of the Beta distribution of CutMix's shares, 1.0 for instance; 0 turns CutMix off. With
            both, every batch gets one of them.
        fit_head: Whether to compute the features of all training images once before the first step, as validation has
            them, and fit the linear layer to them. A randomly initialized head would spoil what ``backbone_weights``
            have learned. Its rows start from those classes of the file that the images look most like.
        options: Fields of :class:`ClassificationOptions`. Those that are not given are the weights' or the defaults;
            ``num_classes`` and ``input_size`` are the data's.

    Raises:
        TypeError: An unknown option.
        ValueError: A value that is not allowed.
    """

    monitor: ClassVar[str] = "val/top1"
    shown: ClassVar[tuple[str, ...]] = ("loss", "top1", "top5", "ece")
    networks: ClassVar = {ClassificationHead.task: Classifier}

    def __init__(
        self,
        network: Network | None = None,
        *,
        pretrained: str | None = None,
        backbone_weights: str | None = None,
        label_smoothing: float = 0.1,
        mixup_alpha: float = 0.0,
        cutmix_alpha: float = 0.0,
        fit_head: bool = False,
        **options: Any,
    ) -> None:
        self.save_hyperparameters(ignore="network")
        ClassificationOptions(**options)
        backbone, head, optim = split_options(options, BackboneConfig, ClassificationConfig, OptimConfig)
        given = GivenOptions(pretrained, backbone_weights, backbone, {ClassificationHead.task: head})
        super().__init__(network, given, OptimConfig(**optim))
        self.label_smoothing = label_smoothing
        self.mixing = Mixing(mixup_alpha=mixup_alpha, cutmix_alpha=cutmix_alpha)
        self.fit_head = fit_head

    def make_criterion(self, name: str, head: Head) -> nn.Module:
        """Build the criterion of a head."""
        return ClassificationCriterion(label_smoothing=self.label_smoothing)

    def make_evaluator(self, name: str, head: Head) -> nn.Module:
        """Build the evaluator of a head."""
        return ClassificationEvaluator(head.num_classes, head.names, label_smoothing=self.label_smoothing)

    def prepare_batch(self, name: str, batch: ClassificationBatch) -> ClassificationBatch:
        """Mix the images of a batch and their labels, if that is on."""
        images, labels = self.mixing(batch.images, batch.labels, self.network.named_heads[name].num_classes)
        return batch._replace(images=images, labels=labels)

    def on_fit_start(self) -> None:
        """Fit the head to the features, unless the run is resumed from a checkpoint."""
        if not self.fit_head or self.trainer.ckpt_path is not None:
            return
        linear = cast(ClassificationHead, self.network.head).linear
        data = compute_features(self.network, self.trainer.datamodule.feature_dataloader())  # type: ignore[attr-defined]
        start = LinearLayer(linear.weight.detach().cpu(), linear.bias.detach().cpu())
        if self._given.pretrained is None:
            start = nearest_rows(data, linear.out_features, self._backbone_weights)
        layer = fit_layer(data, start, label_smoothing=self.label_smoothing)
        # Every process has fitted its own: they differ in the order of sums only.
        linear.load_state_dict(self.trainer.strategy.broadcast(layer)._asdict())
