"""Mobile DeepLabv3: the backbone without its last convolution, and a head that sees the whole image.

Reference: Sandler et al., "MobileNetV2", CVPR 2018, section 6.3; Chen et al., "Rethinking Atrous Convolution for
Semantic Image Segmentation", 2017, section 3.3.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor, nn

from mobilevision.backbone.image_network import ImageNetwork, Scalar
from mobilevision.backbone.inverted_residual import ConvNorm, NormOptions
from mobilevision.backbone.mobilenet_v2 import MobileNetV2
from mobilevision.backbone.normalization import SYMMETRIC_MEAN, SYMMETRIC_STD, Normalization
from mobilevision.backbone.padding import Padding
from mobilevision.backbone.stages import OUTPUT_STRIDES
from mobilevision.segmentation.geometry import place_logits

Head = Literal["light", "atrous"]

HEAD_CHANNELS = 256
HEAD_NORM = NormOptions(eps=1e-5, momentum=3e-4)
LOGITS_INIT_STD = 0.01

ATROUS_RATES = (6, 12, 18)
"""At output stride 16; they keep their reach in pixels at every other."""

MAX_CLASSES = 255
"""Above them a class would be ``IGNORE_INDEX``."""


class DeepLabHead(nn.Module):
    """Branches side by side - the pooled map, each pixel, its surroundings at several rates - then the logits.

    Args:
        in_channels: Of the features.
        num_classes: Classes of the mask, background included.
        rates: Dilations of the 3x3 branches. The light head has none.
        dropout: Share of the projected values dropped in training.
        norm: Batch normalisation of the branches.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        rates: Sequence[int],
        dropout: float,
        norm: NormOptions = HEAD_NORM,
    ) -> None:
        super().__init__()

        def branch(channels: int, kernel_size: int = 1, dilation: int = 1) -> ConvNorm:
            return ConvNorm(channels, HEAD_CHANNELS, kernel_size, dilation=dilation, activation=nn.ReLU, norm=norm)

        self.pool = branch(in_channels)
        self.pixel = branch(in_channels)
        self.atrous = nn.ModuleList(branch(in_channels, 3, rate) for rate in rates)
        self.project = branch((2 + len(rates)) * HEAD_CHANNELS)
        self.dropout = nn.Dropout(dropout)
        self.logits = nn.Conv2d(HEAD_CHANNELS, num_classes, 1)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the branches as TensorFlow does by default, and the logits close to 0."""
        for module in self.modules():
            if isinstance(module, ConvNorm):
                nn.init.xavier_uniform_(module.conv.weight)
        nn.init.trunc_normal_(self.logits.weight, std=LOGITS_INIT_STD, a=-2 * LOGITS_INIT_STD, b=2 * LOGITS_INIT_STD)
        assert self.logits.bias is not None
        nn.init.zeros_(self.logits.bias)

    def set_rates(self, rates: Sequence[int]) -> None:
        """Run the same weights at other dilations."""
        for branch, rate in zip(self.atrous, rates, strict=True):
            assert isinstance(branch, ConvNorm)
            branch.conv.dilation = branch.conv.padding = (rate, rate)

    def forward(self, features: Float[Tensor, "B D h w"]) -> Float[Tensor, "B C h w"]:
        """Give the logits of every cell of the map."""
        pooled = self.pool(features.mean(dim=(2, 3), keepdim=True)).expand(-1, -1, *features.shape[-2:])
        branches = [pooled, self.pixel(features), *(branch(features) for branch in self.atrous)]
        logits: Tensor = self.logits(self.dropout(self.project(torch.cat(branches, dim=1))))
        return logits


class DeepLabV3(ImageNetwork):
    """Give every pixel's class.

    Args:
        backbone: Its ``stage7``, which ends linearly, is what the head reads.
        normalization: Applied to the images first.
        head: ``light`` (the paper's choice: the pooled map and each pixel) or ``atrous`` (and three 3x3 convolutions).
        dropout: Share of the head's values dropped in training.
        input_size: The side of the images it is made for, in pixels.
        model_name: The name under which ``get_model`` builds it.
        options: The scalars to build it with, ``num_classes`` among them.
        norm: Batch normalisation of the head.

    Raises:
        ValueError: ``num_classes`` is not in 1 to 255, ``head`` is unknown, or ``dropout`` is not in [0, 1).
    """

    taps = ("stage7",)
    head: DeepLabHead

    def __init__(
        self,
        backbone: MobileNetV2,
        normalization: Normalization,
        *,
        head: Head,
        dropout: float,
        input_size: int,
        model_name: str,
        options: Mapping[str, Scalar],
        norm: NormOptions = HEAD_NORM,
    ) -> None:
        super().__init__(backbone, normalization, input_size=input_size, model_name=model_name, options=options)
        if not 1 <= self.num_classes <= MAX_CLASSES:
            raise ValueError(f"num_classes must be 1 to {MAX_CLASSES}, got {self.num_classes}")
        if head not in get_args(Head):
            raise ValueError(f"head must be one of {', '.join(get_args(Head))}, got {head!r}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, got {dropout}")
        self.head = DeepLabHead(
            backbone.feature_info["stage7"].channels,
            self.num_classes,
            rates=_rates(backbone.output_stride) if head == "atrous" else (),
            dropout=dropout,
            norm=norm,
        )

    def set_output_stride(self, output_stride: int) -> None:
        """Run the same weights at another output stride: 8 is finer, 32 is faster.

        Raises:
            ValueError: ``output_stride`` is not 8, 16 or 32.
        """
        if output_stride not in OUTPUT_STRIDES:
            raise ValueError(f"output_stride must be 8, 16 or 32, got {output_stride}")
        if self.own_output_stride is None:
            self.backbone.set_output_stride(output_stride)
        else:
            self.own_output_stride = output_stride
        if self.head.atrous:
            self.head.set_rates(_rates(output_stride))
        self.take_options({"output_stride": output_stride})

    def forward(self, images: UInt8[Tensor, "B 3 H W"] | Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C H W"]:
        """Give every pixel's logits for RGB ``images``, uint8 in [0, 255] or floats in [0, 1]."""
        return self.place(self.predict_coarse(images), images)

    def place(self, logits: Float[Tensor, "B C h w"], images: Shaped[Tensor, "B 3 H W"]) -> Float[Tensor, "B C H W"]:
        """Bring logits at the output stride to the pixels of the images that they were made of."""
        height, width = images.shape[-2:]
        stride, padding = self.output_stride, self.backbone.padding
        return place_logits(logits, (height, width), output_stride=stride, padding=padding)

    def predict_coarse(self, images: UInt8[Tensor, "B 3 H W"] | Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C h w"]:
        """Give the logits at the output stride, for those who interpolate them to a size of their own."""
        logits: Tensor = self.run_head(images)
        return logits

    def extract_feat(
        self, images: UInt8[Tensor, "B 3 H W"] | Float[Tensor, "B 3 H W"]
    ) -> tuple[Float[Tensor, "B D h w"], ...]:
        """Give the map that the head reads, 320 channels at width 1, as a tuple of one."""
        return self.compute_taps(images)


def deeplabv3_mobilenet_v2(
    num_classes: int = 21,
    *,
    head: Head = "light",
    output_stride: int = 16,
    input_size: int = 513,
    width_mult: float = 1.0,
    padding: Padding = "symmetric",
    round_to: int = 8,
    depth_mult: float = 1.0,
    fixed_ends: bool = False,
    dropout: float = 0.1,
    norm_eps: float = 1e-3,
    norm_momentum: float = 0.003,
    head_norm_eps: float = 1e-5,
    head_norm_momentum: float = 3e-4,
    mean: Sequence[float] = SYMMETRIC_MEAN,
    std: Sequence[float] = SYMMETRIC_STD,
) -> DeepLabV3:
    """Build the paper's segmenter, with fresh weights.

    Args:
        num_classes: Classes of the mask, background included: VOC has 21.
        head: ``light`` (2.11M parameters in all, the paper's choice) or ``atrous`` (4.52M).
        output_stride: 8, 16 or 32; it can be changed on the same weights.
        input_size: The side of the images it is made for, in pixels; it takes others as well. One more than a multiple
            of the output stride keeps the corners of image and map together.
        width_mult: Channel multiplier of the backbone; the head keeps its 256 channels.
        padding: ``symmetric`` (weights trained in PyTorch) or ``tf_same`` (weights trained in TensorFlow).
        round_to: Channels are rounded to multiples of this.
        depth_mult: Multiplier of the blocks of every stage, see :class:`MobileNetV2`.
        fixed_ends: Whether stem and ``last`` keep their size, see :class:`MobileNetV2`.
        dropout: Share of the head's values dropped in training.
        norm_eps: Batch normalisation's epsilon in the backbone.
        norm_momentum: Batch normalisation's momentum in the backbone, in PyTorch's sense.
        head_norm_eps: As ``norm_eps``, in the head.
        head_norm_momentum: As ``norm_momentum``, in the head. The recipe's 3e-4 forgets over thousands of steps: a
            short run wants more.
        mean: Of the pixels, for red, green and blue in [0, 1].
        std: Likewise.

    Raises:
        ValueError: An argument outside what is said above.

    Reference: Sandler et al., "MobileNetV2", CVPR 2018, section 6.3 and Table 7.
    """
    options = dict(locals())
    backbone = MobileNetV2(
        width_mult=width_mult,
        output_stride=output_stride,
        padding=padding,
        round_to=round_to,
        depth_mult=depth_mult,
        fixed_ends=fixed_ends,
        last=False,
        norm_eps=norm_eps,
        norm_momentum=norm_momentum,
    )
    return DeepLabV3(
        backbone,
        Normalization(mean, std),
        head=head,
        dropout=dropout,
        input_size=input_size,
        model_name="deeplabv3_mobilenet_v2",
        options=options,
        norm=NormOptions(head_norm_eps, head_norm_momentum),
    )


def _rates(output_stride: int) -> tuple[int, ...]:
    return tuple(rate * 16 // output_stride for rate in ATROUS_RATES)
