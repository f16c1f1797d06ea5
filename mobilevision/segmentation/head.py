"""Mobile DeepLabv3: the backbone without its last convolution, and a head that sees the whole image.

Reference: Sandler et al., "MobileNetV2", CVPR 2018, section 6.3; Chen et al., "Rethinking Atrous Convolution for
Semantic Image Segmentation", 2017, section 3.3.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self, get_args

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

from mobilevision.backbone.inverted_residual import ConvNorm, NormOptions
from mobilevision.backbone.mobilenet_v2 import MobileNetV2
from mobilevision.backbone.stages import BlockPlan
from mobilevision.head import ClassRows, Head, HeadConfig, Selection
from mobilevision.network import Network
from mobilevision.options import check_names, trained
from mobilevision.segmentation.geometry import pick_classes, place_logits, restore_logits
from mobilevision.segmentation.preprocess import FitTransform

HeadKind = Literal["light", "atrous"]

HEAD_CHANNELS = 256
LOGITS_INIT_STD = 0.01

ATROUS_RATES = (6, 12, 18)
"""Dilations at output stride 16; they keep their reach in pixels at every other."""

MAX_CLASSES = 255
"""Above them a class would be ``IGNORE_INDEX``."""


@dataclass(frozen=True, kw_only=True)
class SegmentationConfig(HeadConfig):
    """The plain values that a DeepLabv3 head is built from.

    Attributes:
        num_classes: Classes of the mask, background included; VOC has 21.
        input_size: The side of the images it is made for, in pixels; it takes others as well. One more than a multiple
            of the output stride keeps the corners of image and map together.
        output_stride: 8, 16 or 32: 8 is finer, 32 is faster. It may be changed after training.
        head: ``light`` (the pooled map and each pixel: the paper's choice, 2.11M parameters in all) or ``atrous`` (and
            three dilated 3x3 convolutions, 4.52M).
        dropout: Share of the head's values dropped in training.
        head_norm_eps: Batch normalization's epsilon in the head.
        head_norm_momentum: Batch normalization's momentum in the head, in PyTorch's sense. The recipe's 3e-4 forgets
            over thousands of steps: a short run wants 0.03 or more.

    Raises:
        ValueError: A value outside what is said above.
    """

    num_classes: int = 21
    input_size: int = 513
    output_stride: int = 16
    head: HeadKind = "light"
    dropout: float = 0.1
    head_norm_eps: float = trained(1e-5)
    head_norm_momentum: float = 3e-4

    def __post_init__(self) -> None:
        if not 1 <= self.num_classes <= MAX_CLASSES:
            raise ValueError(f"num_classes must be 1 to {MAX_CLASSES}, got {self.num_classes}")
        super().__post_init__()
        check_names("head", [self.head], get_args(HeadKind))
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, got {self.dropout}")


class DeepLabHead(Head):
    """DeepLabv3 segmentation head: parallel branches - the pooled map, each pixel, dilated neighborhoods - then logits.

    Args:
        backbone: Its ``stage7``, which ends linearly, is read; only its channels and padding matter.
        config: What it is built from.
    """

    task = "segmentation"
    taps = ("stage7",)
    config_class = SegmentationConfig
    config: SegmentationConfig

    def __init__(self, backbone: MobileNetV2, config: SegmentationConfig = SegmentationConfig()) -> None:
        super().__init__(backbone, config)
        self.padding = backbone.config.padding
        in_channels = backbone.feature_info["stage7"].channels
        norm = NormOptions(config.head_norm_eps, config.head_norm_momentum)

        def branch(channels: int, kernel_size: int = 1) -> ConvNorm:
            return ConvNorm(channels, HEAD_CHANNELS, kernel_size, activation=nn.ReLU, norm=norm)

        self.pool = branch(in_channels)
        self.pixel = branch(in_channels)
        rates = ATROUS_RATES if config.head == "atrous" else ()
        self.atrous = nn.ModuleList(branch(in_channels, 3) for _ in rates)
        self.project = branch((2 + len(rates)) * HEAD_CHANNELS)
        self.dropout = nn.Dropout(config.dropout)
        self.logits = nn.Conv2d(HEAD_CHANNELS, config.num_classes, 1)
        self.reset_parameters()
        self.preprocess = FitTransform(config.input_size)

    def reset_parameters(self) -> None:
        """Draw the branches as TensorFlow does by default, and the logits close to 0."""
        for module in self.modules():
            if isinstance(module, ConvNorm):
                nn.init.xavier_uniform_(module.conv.weight)
        nn.init.trunc_normal_(self.logits.weight, std=LOGITS_INIT_STD, a=-2 * LOGITS_INIT_STD, b=2 * LOGITS_INIT_STD)
        assert self.logits.bias is not None
        nn.init.zeros_(self.logits.bias)

    def with_output_stride(self, output_stride: int) -> Self:
        """Return a head of the same parameters that reads the backbone at another output stride.

        Raises:
            ValueError: ``output_stride`` is not 8, 16 or 32.
        """
        other = copy.copy(self)
        other.config = replace(self.config, output_stride=output_stride)
        return other

    def forward(self, features: Float[Tensor, "B D h w"]) -> Float[Tensor, "B C h w"]:  # type: ignore[override]
        """Return the logits of every cell of the map."""
        pooled = self.pool(features.mean(dim=(2, 3), keepdim=True)).expand(-1, -1, *features.shape[-2:])
        rates = [rate * 16 // self.output_stride for rate in ATROUS_RATES]
        dilated = [branch(features, BlockPlan(1, rate)) for branch, rate in zip(self.atrous, rates, strict=False)]
        branches = [pooled, self.pixel(features), *dilated]
        logits: Tensor = self.logits(self.dropout(self.project(torch.cat(branches, dim=1))))
        return logits

    def upsample(self, outputs: Float[Tensor, "B C h w"], size: tuple[int, int]) -> Float[Tensor, "B C H W"]:
        """Return logits at the output stride as those of every pixel of the images that they were made of."""
        return place_logits(outputs, size, output_stride=self.output_stride, padding=self.padding)

    def postprocess(
        self,
        outputs: Float[Tensor, "B C h w"],
        sizes: Int64[Tensor, "B 2"],
        selection: Selection = Selection(),
        *,
        stretched_to: int | None = None,
    ) -> Sequence[UInt8[Tensor, "H W"]]:
        """Return the class of every pixel of each file."""
        masks = []
        for coarse, (height, width) in zip(outputs, sizes.tolist(), strict=True):
            logits = restore_logits(
                coarse,
                stretched_to or self.input_size,
                (height, width),
                output_stride=self.output_stride,
                padding=self.padding,
                stretched=stretched_to is not None,
            )
            masks.append(pick_classes(logits).to(torch.uint8))
        return masks

    def class_rows(self) -> ClassRows:
        """Return which rows of which tensors belong to a class."""
        return ClassRows(("logits.weight", "logits.bias"))


class DeepLabV3(Network):
    """Mobile DeepLabv3 segmenter: RGB images in, logits ``[B, C, H, W]`` of every pixel out."""

    head_class = DeepLabHead


def deeplabv3_mobilenet_v2(num_classes: int = 21, **options: Any) -> DeepLabV3:
    """Build the paper's segmenter with randomly initialized weights.

    Args:
        num_classes: Classes of the mask, background included; VOC has 21.
        options: ``mean`` and ``std`` of the pixels, and fields of :class:`BackboneConfig` and
            :class:`SegmentationConfig`.

    Raises:
        ValueError: An unknown option, or a value outside what these say.

    Reference: Sandler et al., "MobileNetV2", CVPR 2018, section 6.3 and Table 7.
    """
    return DeepLabV3.from_options(num_classes=num_classes, **options)
