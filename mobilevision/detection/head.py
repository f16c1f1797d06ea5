"""SSDLite's head: extra layers behind the backbone, and two depthwise separable predictors on each of six maps.

Reference: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018, section 6.2, as the
TensorFlow Object Detection API builds it.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mobilevision.backbone.inverted_residual import ConvNorm, NormOptions
from mobilevision.backbone.mobilenet_v2 import FeatureInfo
from mobilevision.backbone.padding import Padding, conv2d
from mobilevision.detection.anchors import anchor_shapes, make_anchors
from mobilevision.detection.types import RawPredictions

EXTRA_CHANNELS = (512, 256, 256, 128)
MIN_EXTRA_CHANNELS = 16
INIT_STD = 0.03


class ExtraLayer(nn.Sequential):
    """Squeeze to half of ``out_channels``, halve the side depthwise, widen."""

    def __init__(
        self, in_channels: int, squeezed_channels: int, out_channels: int, *, padding: Padding, norm: NormOptions
    ) -> None:
        super().__init__()
        self.squeeze = ConvNorm(in_channels, squeezed_channels, norm=norm)
        self.depthwise = ConvNorm(
            squeezed_channels, squeezed_channels, 3, stride=2, groups=squeezed_channels, padding=padding, norm=norm
        )
        self.widen = ConvNorm(squeezed_channels, out_channels, norm=norm)


class Predictor(nn.Module):
    """Predict ``num_outputs`` values for every anchor of one map: a 3x3 depthwise convolution, then a 1x1 with bias."""

    def __init__(
        self, in_channels: int, num_anchors: int, num_outputs: int, *, padding: Padding, norm: NormOptions
    ) -> None:
        super().__init__()
        self.depthwise = ConvNorm(in_channels, in_channels, 3, groups=in_channels, padding=padding, norm=norm)
        self.pointwise = conv2d(in_channels, num_anchors * num_outputs, bias=True)
        self.num_outputs = num_outputs

    def forward(self, feature: Float[Tensor, "B D h w"]) -> Float[Tensor, "B h*w*num_anchors num_outputs"]:
        """Predict, anchor by anchor in the order of :func:`make_anchors`."""
        maps: Tensor = self.pointwise(self.depthwise(feature))
        return maps.permute(0, 2, 3, 1).reshape(len(maps), -1, self.num_outputs)


class SSDLiteHead(nn.Module):
    """Say of every anchor what is there and where.

    :attr:`anchors` are cxcywh in pixels of the input; they follow from the input's size and are not saved.

    Args:
        taps: Channels and strides of the two maps that it takes.
        num_classes: Classes of objects, without background.
        input_size: The side of the images, in pixels.
        width_mult: Channel multiplier of the extra layers.
        padding: ``symmetric`` or ``tf_same``.
        norm: Batch normalisation of the extra layers and the predictors.
    """

    anchors: Tensor

    def __init__(
        self,
        taps: Sequence[FeatureInfo],
        num_classes: int,
        *,
        input_size: int,
        width_mult: float,
        padding: Padding,
        norm: NormOptions,
    ) -> None:
        super().__init__()
        channels = [tap.channels for tap in taps]
        extras = make_extras(channels[-1], width_mult, padding=padding, norm=norm)
        channels += [extra.widen.conv.out_channels for extra in extras]
        shapes = anchor_shapes(len(channels))

        def make_predictors(num_outputs: int) -> nn.ModuleList:
            return nn.ModuleList(
                Predictor(width, len(anchors), num_outputs, padding=padding, norm=norm)
                for width, anchors in zip(channels, shapes, strict=True)
            )

        self.extras = nn.ModuleList(extras)
        self.class_predictors = make_predictors(num_classes + 1)
        self.box_predictors = make_predictors(4)
        self.reset_parameters()
        sides = [math.ceil(input_size / tap.stride) for tap in taps]
        for _ in extras:
            sides.append(math.ceil(sides[-1] / 2))
        self.map_sizes = [(side, side) for side in sides]
        """Height and width of the six maps, finest first; on a small input the last ones are all 1x1."""
        # They are computed even where the network is built on the meta device, for they are in no file.
        with torch.device("cpu"):
            anchors = make_anchors(self.map_sizes, input_size)
        self.register_buffer("anchors", anchors, persistent=False)

    def reset_parameters(self) -> None:
        """Draw the convolutions from a normal distribution of deviation 0.03, cut off at two deviations."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.trunc_normal_(module.weight, std=INIT_STD, a=-2 * INIT_STD, b=2 * INIT_STD)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, *taps: Float[Tensor, "B D h w"]) -> RawPredictions:
        """Give offsets and logits of every anchor."""
        maps = self.compute_maps(*taps)
        offsets = [predictor(feature) for predictor, feature in zip(self.box_predictors, maps, strict=True)]
        logits = [predictor(feature) for predictor, feature in zip(self.class_predictors, maps, strict=True)]
        return RawPredictions(torch.cat(offsets, dim=1), torch.cat(logits, dim=1))

    def compute_maps(self, *taps: Float[Tensor, "B D h w"]) -> tuple[Float[Tensor, "B D h w"], ...]:
        """Give the six maps that the predictors read, finest first."""
        maps = list(taps)
        for extra in self.extras:
            maps.append(extra(maps[-1]))
        return tuple(maps)


def make_extras(in_channels: int, width_mult: float, *, padding: Padding, norm: NormOptions) -> list[ExtraLayer]:
    """Make the chain of layers behind the backbone; its widths are not rounded to a multiple of anything."""

    def scaled(channels: float) -> int:
        return max(int(channels * width_mult), MIN_EXTRA_CHANNELS)

    extras = []
    for channels in EXTRA_CHANNELS:
        extras.append(ExtraLayer(in_channels, scaled(channels / 2), scaled(channels), padding=padding, norm=norm))
        in_channels = scaled(channels)
    return extras
