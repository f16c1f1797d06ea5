"""Train and evaluate the segmenter."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from mobilevision.backbone.mobilenet_v2 import BackboneConfig
from mobilevision.backbone.stages import OUTPUT_STRIDES
from mobilevision.head import Head
from mobilevision.network import Network
from mobilevision.options import split_options
from mobilevision.segmentation.balance import balance_classes
from mobilevision.segmentation.criterion import SegmentationCriterion
from mobilevision.segmentation.evaluator import SegmentationEvaluator
from mobilevision.segmentation.head import DeepLabHead, DeepLabV3, SegmentationConfig
from mobilevision.segmentation.multi_scale import average_probabilities
from mobilevision.training.building import GivenOptions
from mobilevision.training.optimization import OptimConfig
from mobilevision.training.task import Task


@dataclass(frozen=True, kw_only=True)
class SegmentationOptions(BackboneConfig, SegmentationConfig, OptimConfig):
    """The options of a segmentation task: fields of backbone, head and optimization side by side."""


class SegmentationTask(Task):
    """Training of Mobile DeepLabv3, evaluated by the mean IoU.

    The data's ``eval_protocol`` decides which pixels are evaluated; the report's details name it.

    Args:
        network: A network with a segmentation head, instead of one built from options.
        pretrained: Weights to start all of the network from: a weights file of any known program, or the name of
            published weights. Classes are matched by name where the file has names; those that it lacks are randomly
            initialized.
        backbone_weights: Weights to start the backbone alone from, a file or a name; the head is randomly initialized.
        class_balance: How much more a pixel of a rare class weighs in training: the power of the inverse of the class's
            share of the training masks' pixels, which are counted before the first step. 0: all pixels weigh the same;
            0.5: in between; 1: all classes do. The validation loss is never weighted.
        eval_output_stride: 8, 16 or 32, in evaluation, with the same weights; ``output_stride`` where None.
        eval_scales: Factors on an image's side at which evaluation runs the network, averaging the probabilities; 1
            where None. The paper's are 0.5, 0.75, 1, 1.25, 1.5 and 1.75, mirrored, at output stride 8.
        eval_flip: Whether evaluation runs the network on each scale mirrored as well.
        options: Fields of :class:`SegmentationOptions`. Those that are not given are the weights' or the defaults;
            ``num_classes`` and ``input_size`` are the data's.

    Raises:
        TypeError: An unknown option.
        ValueError: ``class_balance`` is negative, ``eval_scales`` is empty or not above 0, ``eval_output_stride`` is
            not 8, 16 or 32, or another value is not allowed.
    """

    monitor: ClassVar[str] = "val/miou"
    shown: ClassVar[tuple[str, ...]] = ("miou",)
    networks: ClassVar = {DeepLabHead.task: DeepLabV3}

    def __init__(
        self,
        network: Network | None = None,
        *,
        pretrained: str | None = None,
        backbone_weights: str | None = None,
        class_balance: float = 0.0,
        eval_output_stride: int | None = None,
        eval_scales: list[float] | None = None,
        eval_flip: bool = False,
        **options: Any,
    ) -> None:
        self.save_hyperparameters(ignore="network")
        SegmentationOptions(**options)
        backbone, head, optim = split_options(options, BackboneConfig, SegmentationConfig, OptimConfig)
        given = GivenOptions(pretrained, backbone_weights, backbone, {DeepLabHead.task: head})
        super().__init__(network, given, OptimConfig(**optim))
        if class_balance < 0:
            raise ValueError(f"class_balance must be at least 0, got {class_balance}")
        if eval_output_stride not in (None, *OUTPUT_STRIDES):
            raise ValueError(f"eval_output_stride must be 8, 16 or 32, got {eval_output_stride}")
        self.class_balance = class_balance
        self.eval_output_stride = eval_output_stride
        self.eval_scales: Sequence[float] = (1.0,) if eval_scales is None else tuple(eval_scales)
        if not self.eval_scales or min(self.eval_scales) <= 0:
            raise ValueError(f"eval_scales must be one or more factors above 0, got {eval_scales}")
        self.eval_flip = eval_flip

    def make_criterion(self, name: str, head: Head) -> nn.Module:
        """Build the criterion of a head."""
        return build_criterion(cast(DeepLabHead, head))

    def make_evaluator(self, name: str, head: Head) -> nn.Module:
        """Build the evaluator of a head."""
        evaluated = head.with_output_stride(self.eval_output_stride or head.output_stride)
        return build_evaluator(cast(DeepLabHead, evaluated), scales=self.eval_scales, flip=self.eval_flip)

    def on_fit_start(self) -> None:
        """Count the classes of the training masks and weigh them."""
        if self.class_balance:
            counts = self.trainer.datamodule.count_classes()  # type: ignore[attr-defined]
            (criterion,) = self.criteria.values()
            criterion.class_weights = balance_classes(counts, self.class_balance).to(self.device)

    def compute_for_evaluation(self, name: str, images: UInt8[Tensor, "B 3 S S"]) -> Float[Tensor, "B C h w"]:
        """Return logits at the output stride, or those of the mean over several passes at the size of the images."""
        network = self.network
        if self.eval_output_stride is not None:
            network = network.with_output_stride(self.eval_output_stride)
        if self.eval_scales == (1.0,) and not self.eval_flip:
            logits: Tensor = network.compute(images, (name,))[name]
            return logits
        means = [average_probabilities(network, image[None], self.eval_scales, flip=self.eval_flip) for image in images]
        # Their softmax gives the probabilities back.
        return torch.cat(means).clamp_(min=torch.finfo(torch.float32).tiny).log_()


def build_criterion(head: DeepLabHead) -> SegmentationCriterion:
    """Build the criterion of a segmentation head."""
    return SegmentationCriterion(output_stride=head.output_stride, padding=head.padding)


def build_evaluator(
    head: DeepLabHead, *, scales: Sequence[float] = (1.0,), flip: bool = False
) -> SegmentationEvaluator:
    """Build the evaluator of a segmentation head.

    Args:
        head: At the output stride of the evaluation.
        scales: Of the evaluation, for the report.
        flip: Whether the evaluation runs mirrored as well, for the report.
    """
    return SegmentationEvaluator(
        head.num_classes,
        head.names,
        output_stride=head.output_stride,
        padding=head.padding,
        scales=scales,
        flip=flip,
    )
