"""The MobileNetV2 classifier: one linear layer on the pooled map.

Reference: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018, Table 2.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from mobilevision.backbone.mobilenet_v2 import INIT_STD, MobileNetV2
from mobilevision.classification.preprocess import CropTransform
from mobilevision.classification.types import CROP_SHARE, Background, EvalCrop
from mobilevision.head import ClassRows, Head, HeadConfig, Selection
from mobilevision.network import Network


@dataclass(frozen=True, kw_only=True)
class ClassificationConfig(HeadConfig):
    """The plain values that a classification head is built from.

    Attributes:
        num_classes: Outputs; ImageNet has 1000.
        input_size: The side of the images it is made for, in pixels; it takes others as well.
        output_stride: 8, 16 or 32.
        dropout: Share of the pooled features dropped in training.
        background: Where a class for everything else is among the ``num_classes``: ``first``, ``last``, or nowhere. It
            matters where the weights go into a network without it.
        eval_crop: The evaluation transform: ``short_side`` resizes the short side and crops a square out of the center,
            as torchvision does; ``central`` crops the central part, whatever its aspect, and resizes it to a square, as
            TensorFlow's slim does.
        crop_share: The crop's share of the resized short side, or of each side: 224 of 256.

    Raises:
        ValueError: A value outside what is said above.
    """

    num_classes: int = 1000
    input_size: int = 224
    dropout: float = 0.2
    background: Background | None = None
    eval_crop: EvalCrop = "short_side"
    crop_share: float = CROP_SHARE

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, got {self.dropout}")
        if self.background not in (None, *get_args(Background)):
            raise ValueError(
                f"background must be one of {', '.join(get_args(Background))} or None, got {self.background!r}"
            )


class ClassificationHead(Head):
    """Classification head: average the last map, drop out, one linear layer.

    Args:
        backbone: Has the tap ``last``; only its channels matter.
        config: What it is built from.
    """

    task = "classification"
    taps = ("last",)
    config_class = ClassificationConfig
    config: ClassificationConfig

    def __init__(self, backbone: MobileNetV2, config: ClassificationConfig = ClassificationConfig()) -> None:
        super().__init__(backbone, config)
        self.dropout = nn.Dropout(config.dropout)
        self.linear = nn.Linear(backbone.feature_info["last"].channels, config.num_classes)
        nn.init.trunc_normal_(self.linear.weight, std=INIT_STD, a=-2 * INIT_STD, b=2 * INIT_STD)
        nn.init.zeros_(self.linear.bias)
        self.preprocess = CropTransform(config.input_size, crop=config.eval_crop, share=config.crop_share)

    def forward(self, last: Float[Tensor, "B D h w"]) -> Float[Tensor, "B C"]:  # type: ignore[override]
        """Return the logits."""
        (pooled,) = self.extract(last)
        logits: Tensor = self.linear(self.dropout(pooled))
        return logits

    def extract(self, last: Float[Tensor, "B D h w"]) -> tuple[Float[Tensor, "B D"]]:  # type: ignore[override]
        """Return the pooled features that the linear layer reads, 1280 at width 1, as a tuple of one."""
        return (torch.mean(last, dim=(2, 3)),)

    def postprocess(
        self,
        outputs: Float[Tensor, "B C"],
        sizes: Int64[Tensor, "B 2"],
        selection: Selection = Selection(),
        *,
        stretched_to: int | None = None,
    ) -> Sequence[Float[Tensor, " C"]]:
        """Return the scores of each image's classes, which sum to 1."""
        return tuple(outputs.float().softmax(dim=1))

    def class_rows(self) -> ClassRows:
        """Return which rows of which tensors belong to a class."""
        return ClassRows(("linear.weight", "linear.bias"))

    def match_places(self, count: int, theirs: Mapping[str, Any]) -> tuple[Sequence[int], str] | None:
        """Return which class of other weights each class is by its place: of one more, all but their background."""
        background = theirs.get("background")
        if background and count == self.num_classes + 1:
            return without_background(count, background), "without the background"
        return super().match_places(count, theirs)


def without_background(num_classes: int, place: Background | None) -> range:
    """Return the classes beside the background, which is the first where no ``place`` is stated."""
    return range(num_classes - 1) if place == "last" else range(1, num_classes)


class Classifier(Network):
    """MobileNetV2 classifier: RGB images in, logits ``[B, C]`` out."""

    head_class = ClassificationHead


def mobilenet_v2(num_classes: int = 1000, **options: Any) -> Classifier:
    """Build the paper's classifier with randomly initialized weights.

    Args:
        num_classes: Outputs; ImageNet has 1000.
        options: ``mean`` and ``std`` of the pixels, and fields of :class:`BackboneConfig` and
            :class:`ClassificationConfig`.

    Raises:
        ValueError: An unknown option, or a value outside what these say.
    """
    return Classifier.from_options(num_classes=num_classes, **options)
