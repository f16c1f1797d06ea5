"""Train and evaluate the detector."""

from dataclasses import dataclass
from typing import Any, ClassVar, cast

from torch import nn

from mobilevision.backbone.mobilenet_v2 import BackboneConfig
from mobilevision.detection.criterion import DetectionCriterion
from mobilevision.detection.evaluator import DetectionEvaluator
from mobilevision.detection.head import DetectionConfig, PresetName, SSDLite, SSDLiteHead
from mobilevision.head import Head, Selection
from mobilevision.network import Network
from mobilevision.options import split_options
from mobilevision.training.building import GivenOptions
from mobilevision.training.optimization import OptimConfig
from mobilevision.training.task import Task

EVALUATED = Selection(score_threshold=1e-8)
"""The boxes that COCO's figures are computed from."""


@dataclass(frozen=True, kw_only=True)
class DetectionOptions(BackboneConfig, DetectionConfig, OptimConfig):
    """The options of a detection task: fields of backbone, head and optimization side by side.

    Attributes:
        norm_momentum: Batch normalization's momentum in the backbone, in PyTorch's sense. The recipe's 3e-4 forgets
            over some ten thousand steps: a short run wants 0.03 or more.
    """

    norm_momentum: float = SSDLite.backbone_defaults.norm_momentum


class DetectionTask(Task):
    """Training of SSDLite, evaluated by COCO's mean average precision.

    Args:
        network: A network with a detection head, instead of one built from options.
        pretrained: Weights to start all of the network from: a weights file of any known program, or the name of
            published weights. Classes are matched by name where the file has names; those that it lacks are randomly
            initialized.
        backbone_weights: Weights to start the backbone alone from, a file or a name; the head is randomly initialized.
        preset: ``paper320`` or ``tf300``, the paper's detector or the released one, see :func:`ssdlite_mobilenet_v2`;
            what the weights have where None.
        score_threshold: Boxes that do not score more are no detections, in evaluation.
        iou_threshold: The largest intersection over union of two detections of a class.
        max_per_class: Detections of one class in an image, at most.
        max_per_image: Detections of an image, at most; COCO counts 100.
        options: Fields of :class:`DetectionOptions`. Those that are not given are the weights' or the defaults;
            ``num_classes`` and ``input_size`` are the data's.

    Raises:
        TypeError: An unknown option.
        ValueError: A value that is not allowed.
    """

    monitor: ClassVar[str] = "val/map"
    shown: ClassVar[tuple[str, ...]] = ("loss", "map", "map_50")
    networks: ClassVar = {SSDLiteHead.task: SSDLite}

    def __init__(
        self,
        network: Network | None = None,
        *,
        pretrained: str | None = None,
        backbone_weights: str | None = None,
        preset: PresetName | None = None,
        score_threshold: float = EVALUATED.score_threshold,
        iou_threshold: float = EVALUATED.iou_threshold,
        max_per_class: int = EVALUATED.max_per_class,
        max_per_image: int = EVALUATED.max_per_image,
        **options: Any,
    ) -> None:
        self.save_hyperparameters(ignore="network")
        DetectionOptions(**options)
        backbone, head, optim = split_options(options, BackboneConfig, DetectionConfig, OptimConfig)
        if preset is not None:
            head["preset"] = preset
        given = GivenOptions(pretrained, backbone_weights, backbone, {SSDLiteHead.task: head})
        super().__init__(network, given, OptimConfig(**optim))
        self.selection = Selection(score_threshold, iou_threshold, max_per_class, max_per_image)

    def make_criterion(self, name: str, head: Head) -> nn.Module:
        """Build the criterion of a head."""
        return build_criterion(cast(SSDLiteHead, head))

    def make_evaluator(self, name: str, head: Head) -> nn.Module:
        """Build the evaluator of a head."""
        criterion = cast(DetectionCriterion, self.criteria[name])
        return build_evaluator(cast(SSDLiteHead, head), criterion, self.selection)


def build_criterion(head: SSDLiteHead) -> DetectionCriterion:
    """Build the criterion of a detection head."""
    return DetectionCriterion(head.anchors, score_function=head.config.score_function)


def build_evaluator(
    head: SSDLiteHead, criterion: DetectionCriterion, selection: Selection = EVALUATED
) -> DetectionEvaluator:
    """Build the evaluator of a detection head."""
    return DetectionEvaluator(
        head.num_classes, head.names, criterion=criterion, postprocess=head.postprocess, selection=selection
    )
