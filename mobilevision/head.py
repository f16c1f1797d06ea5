"""The part of a network that differs between tasks: the layers behind the backbone, their inputs and their answers."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from jaxtyping import Int64, UInt8
from torch import Tensor, nn

from mobilevision.backbone.mobilenet_v2 import MobileNetV2
from mobilevision.backbone.stages import OUTPUT_STRIDES

Preprocess = Callable[[UInt8[np.ndarray, "H W 3"]], UInt8[Tensor, "3 S S"]]
"""The evaluation transform: an RGB image of any size in, the network's pixels out."""


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """The plain values that a head is built from.

    Attributes:
        num_classes: Detection: without background. Segmentation: background included.
        input_size: The side of the images, in pixels.
        output_stride: The stride at which the head reads the backbone: 8, 16 or 32.

    Raises:
        ValueError: ``num_classes`` or ``input_size`` is below 1, or ``output_stride`` is not 8, 16 or 32.
    """

    num_classes: int
    input_size: int
    output_stride: int = 32

    def __post_init__(self) -> None:
        for name, value in (("num_classes", self.num_classes), ("input_size", self.input_size)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if self.output_stride not in OUTPUT_STRIDES:
            raise ValueError(f"output_stride must be 8, 16 or 32, got {self.output_stride}")


class ClassRows(NamedTuple):
    """The rows of a head's tensors that belong to its classes.

    The first axis of each tensor goes over groups (a detector's anchors), and in each over the hidden rows and then the
    classes.

    Attributes:
        tensors: Names of the tensors, within the head.
        num_hidden: Rows in front of those of the classes: a detector's background.
    """

    tensors: tuple[str, ...]
    num_hidden: int = 0


class Selection(NamedTuple):
    """Which boxes of a detector are detections.

    Attributes:
        score_threshold: Boxes that do not score more are none.
        iou_threshold: The largest intersection over union of two detections of one class.
        max_per_class: Detections of one class in an image, at most.
        max_per_image: Detections of an image, at most.
    """

    score_threshold: float = 0.3
    iou_threshold: float = 0.6
    max_per_class: int = 100
    max_per_image: int = 100


class Head(nn.Module):
    """The part of a network that answers one task.

    Args:
        backbone: Has the taps; only their shapes and the backbone's config matter.
        config: What it is built from, a ``config_class``.
    """

    task: ClassVar[str]
    taps: ClassVar[tuple[str, ...]]
    """The maps of the backbone that :meth:`forward` takes, in this order."""
    config_class: ClassVar[type[HeadConfig]]
    fixed_size: ClassVar[bool] = False
    """Whether it takes images of ``input_size`` only."""

    preprocess: Preprocess
    """The evaluation transform, used by data modules, prediction and validation alike."""

    def __init__(self, backbone: MobileNetV2, config: Any) -> None:
        super().__init__()
        self.config: Any = config
        self.class_names: tuple[str, ...] = ()
        """As many names as classes, or none."""

    @property
    def num_classes(self) -> int:
        """The classes that have a name; a segmenter counts the background among them, a detector does not."""
        return int(self.config.num_classes)

    @property
    def input_size(self) -> int:
        """The side of the images that it is made for, in pixels."""
        return int(self.config.input_size)

    @property
    def output_stride(self) -> int:
        """The stride at which it reads the backbone."""
        return int(self.config.output_stride)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the classes, or their numbers where there are no names."""
        return self.class_names or tuple(map(str, range(self.num_classes)))

    def with_output_stride(self, output_stride: int) -> Self:
        """Return a head of the same parameters that reads the backbone at another output stride.

        Raises:
            ValueError: The head reads the backbone at one output stride only.
        """
        if output_stride != self.output_stride:
            raise ValueError(f"a {self.task} head reads the backbone at output stride {self.output_stride} only")
        return self

    @abstractmethod
    def forward(self, *features: Tensor) -> Any:
        """Return what the loss takes."""

    def upsample(self, outputs: Any, size: tuple[int, int]) -> Any:
        """Return outputs at the resolution of images of ``size`` (height, width), where the task has one."""
        return outputs

    def extract(self, *features: Tensor) -> tuple[Tensor, ...]:
        """Return the feature maps for use in another project."""
        return features

    @abstractmethod
    def postprocess(
        self,
        outputs: Any,
        sizes: Int64[Tensor, "B 2"],
        selection: Selection = Selection(),
        *,
        stretched_to: int | None = None,
    ) -> Sequence[Any]:
        """Return the answers for each image, in pixels of its file.

        Args:
            outputs: Of :meth:`forward`.
            sizes: Height and width of each file, in pixels.
            selection: Which boxes are detections.
            stretched_to: Side of the square that the images were resized to whatever their aspect, as a network with
                several heads has them; None where :attr:`preprocess` made them.
        """

    @abstractmethod
    def class_rows(self) -> ClassRows:
        """Return which rows of which tensors belong to a class."""

    def match_places(self, count: int, theirs: Mapping[str, Any]) -> tuple[Sequence[int], str] | None:
        """Return which class of other weights each class is by its place, and by which rule; None without a rule.

        Args:
            count: The classes of the other weights.
            theirs: The config of the head that they are of.
        """
        return (range(count), "") if count == self.num_classes else None
