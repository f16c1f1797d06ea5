"""SSDLite on MobileNetV2: six maps, two depthwise separable predictors on each.

Reference: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018, section 6.2, as the
TensorFlow Object Detection API builds it.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from mobilevision.backbone.image_network import ImageNetwork, Scalar
from mobilevision.backbone.inverted_residual import ConvNorm, NormOptions
from mobilevision.backbone.mobilenet_v2 import MobileNetV2
from mobilevision.backbone.normalization import SYMMETRIC_MEAN, SYMMETRIC_STD, Normalization
from mobilevision.backbone.padding import Padding, conv2d
from mobilevision.detection.anchors import anchor_shapes, make_anchors
from mobilevision.detection.types import RawPredictions, ScoreFunction

PresetName = Literal["paper320", "tf300"]

TAPS = ("stage6_expansion", "last")
EXTRA_CHANNELS = (512, 256, 256, 128)
MIN_EXTRA_CHANNELS = 16
INIT_STD = 0.03


class Preset(NamedTuple):
    """What the paper's detector and the released one do differently."""

    input_size: int
    min_channels: int
    scale_last: bool


PRESETS: Mapping[str, Preset] = {
    # Below width 1 this is the paper's backbone, so that its classifiers' weights fit at every width.
    "paper320": Preset(input_size=320, min_channels=8, scale_last=False),
    # Below width 1 the Object Detection API widens the thinnest stages and narrows the last convolution.
    "tf300": Preset(input_size=300, min_channels=16, scale_last=True),
}


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


class SSDLite(ImageNetwork):
    """The detector: RGB images of one size in, offsets and logits of every anchor out.

    :attr:`anchors` are cxcywh in pixels of the input; they follow from the input's size and are not saved.

    Args:
        backbone: Has the taps ``stage6_expansion`` and ``last``; its width and padding are the extra layers' too.
        normalization: Applied to the images first.
        input_size: The side of the images, in pixels.
        model_name: The name under which ``get_model`` builds it.
        options: The scalars to build it with, ``num_classes`` (without background) among them.
        score_function: What turns logits into scores: ``sigmoid`` or ``softmax``.
        norm: Batch normalisation of the extra layers and the predictors.

    Raises:
        ValueError: ``num_classes`` or ``input_size`` is below 1, or ``score_function`` is another.
    """

    anchors: Tensor

    def __init__(
        self,
        backbone: MobileNetV2,
        normalization: Normalization,
        *,
        input_size: int,
        model_name: str,
        options: Mapping[str, Scalar],
        score_function: ScoreFunction = "sigmoid",
        norm: NormOptions = NormOptions(momentum=3e-4),
    ) -> None:
        super().__init__(backbone, normalization, input_size=input_size, model_name=model_name, options=options)
        for name, value in (("num_classes", self.num_classes), ("input_size", input_size)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if score_function not in get_args(ScoreFunction):
            raise ValueError(
                f"score_function must be one of {', '.join(get_args(ScoreFunction))}, got {score_function!r}"
            )
        self.score_function: ScoreFunction = score_function
        channels = [backbone.feature_info[tap].channels for tap in TAPS]
        extras = make_extras(channels[-1], backbone.width_mult, padding=backbone.padding, norm=norm)
        channels += [extra.widen.conv.out_channels for extra in extras]
        shapes = anchor_shapes(len(channels))

        def make_predictors(num_outputs: int) -> nn.ModuleList:
            return nn.ModuleList(
                Predictor(width, len(anchors), num_outputs, padding=backbone.padding, norm=norm)
                for width, anchors in zip(channels, shapes, strict=True)
            )

        self.extras = nn.ModuleList(extras)
        self.class_predictors = make_predictors(self.num_classes + 1)
        self.box_predictors = make_predictors(4)
        self.reset_head()
        # They are computed even where the network is built on the meta device, for they are in no file.
        with torch.device("cpu"):
            anchors = make_anchors(self.map_sizes, input_size)
        self.register_buffer("anchors", anchors, persistent=False)

    def reset_head(self) -> None:
        """Draw what is not backbone from a normal distribution of deviation 0.03, cut off at two deviations."""
        for part in (self.extras, self.class_predictors, self.box_predictors):
            for module in part.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.trunc_normal_(module.weight, std=INIT_STD, a=-2 * INIT_STD, b=2 * INIT_STD)
                    if module.bias is not None:
                        nn.init.zeros_(module.bias)

    @property
    def map_sizes(self) -> list[tuple[int, int]]:
        """Height and width of the six maps, finest first; on a small input the last ones are all 1x1."""
        sides = [math.ceil(self.input_size / self.backbone.feature_info[tap].stride) for tap in TAPS]
        for _ in self.extras:
            sides.append(math.ceil(sides[-1] / 2))
        return [(side, side) for side in sides]

    def extract_feat(
        self, images: UInt8[Tensor, "B 3 S S"] | Float[Tensor, "B 3 S S"]
    ) -> tuple[Float[Tensor, "B D h w"], ...]:
        """Give the six maps that the predictors read, finest first."""
        maps = list(self.backbone(self.normalization(images), taps=TAPS).values())
        for extra in self.extras:
            maps.append(extra(maps[-1]))
        return tuple(maps)

    def forward(self, images: UInt8[Tensor, "B 3 S S"] | Float[Tensor, "B 3 S S"]) -> RawPredictions:
        """Say of every anchor what is there and where.

        Args:
            images: RGB, uint8 in [0, 255] or floats in [0, 1], of the side ``input_size``.

        Raises:
            ValueError: The images have another size, for which the anchors are not made.
        """
        height, width = images.shape[-2:]
        if height != self.input_size or width != self.input_size:
            raise ValueError(f"images must be {self.input_size}x{self.input_size} pixels, got {width}x{height}")
        maps = self.extract_feat(images)
        offsets = [predictor(feature) for predictor, feature in zip(self.box_predictors, maps, strict=True)]
        logits = [predictor(feature) for predictor, feature in zip(self.class_predictors, maps, strict=True)]
        return RawPredictions(torch.cat(offsets, dim=1), torch.cat(logits, dim=1))

    def scores(self, logits: Float[Tensor, "B A C+1"]) -> Float[Tensor, "B A C"]:
        """Turn logits into scores in [0, 1] of the classes alone, in float32."""
        logits = logits.float()
        return (logits.sigmoid() if self.score_function == "sigmoid" else logits.softmax(dim=-1))[..., 1:]


def make_extras(in_channels: int, width_mult: float, *, padding: Padding, norm: NormOptions) -> list[ExtraLayer]:
    """Make the chain of layers behind the backbone; its widths are not rounded to a multiple of anything."""

    def scaled(channels: float) -> int:
        return max(int(channels * width_mult), MIN_EXTRA_CHANNELS)

    extras = []
    for channels in EXTRA_CHANNELS:
        extras.append(ExtraLayer(in_channels, scaled(channels / 2), scaled(channels), padding=padding, norm=norm))
        in_channels = scaled(channels)
    return extras


def ssdlite_mobilenet_v2(
    num_classes: int = 80,
    *,
    preset: PresetName = "paper320",
    input_size: int | None = None,
    width_mult: float = 1.0,
    padding: Padding = "symmetric",
    round_to: int = 8,
    depth_mult: float = 1.0,
    fixed_ends: bool = False,
    score_function: ScoreFunction = "sigmoid",
    norm_eps: float = 1e-3,
    norm_momentum: float = 3e-4,
    head_norm_eps: float = 1e-3,
    head_norm_momentum: float = 3e-4,
    mean: Sequence[float] = SYMMETRIC_MEAN,
    std: Sequence[float] = SYMMETRIC_STD,
) -> SSDLite:
    """Build the paper's detector, with fresh weights.

    Args:
        num_classes: Classes of objects, without background.
        preset: ``paper320`` or ``tf300``: at width 1 they differ in the input's size only. Below it, ``paper320`` keeps
            the classifier's widths, so that its weights fit; ``tf300`` has no stage of less than 16 channels and
            narrows the last convolution too, as the released detectors do.
        input_size: The side of the images, in pixels; the preset's where None.
        width_mult: Channel multiplier of the backbone and the extra layers.
        padding: ``symmetric`` (weights trained in PyTorch) or ``tf_same`` (weights trained in TensorFlow).
        round_to: The backbone's channels are rounded to multiples of this.
        depth_mult: Multiplier of the blocks of every stage, see :class:`MobileNetV2`.
        fixed_ends: Whether stem and ``last`` keep their size, see :class:`MobileNetV2`.
        score_function: ``sigmoid`` (the background is one class of many) or ``softmax``.
        norm_eps: Batch normalisation's epsilon in the backbone. torchvision's weights want 1e-5.
        norm_momentum: Batch normalisation's momentum in the backbone, in PyTorch's sense. The recipe's 3e-4 forgets
            over thousands of steps: a short run wants more.
        head_norm_eps: As ``norm_eps``, in the extra layers and the predictors.
        head_norm_momentum: As ``norm_momentum``, in the extra layers and the predictors.
        mean: Of the pixels, for red, green and blue in [0, 1].
        std: Likewise.

    Raises:
        ValueError: An argument outside what is said above.

    >>> network = ssdlite_mobilenet_v2()
    >>> sum(parameter.numel() for parameter in network.parameters()), len(network.anchors)
    (4337013, 2034)
    """
    options = dict(locals())
    if preset not in PRESETS:
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {preset!r}")
    choice = PRESETS[preset]
    backbone = MobileNetV2(
        width_mult=width_mult,
        padding=padding,
        round_to=round_to,
        depth_mult=depth_mult,
        fixed_ends=fixed_ends,
        min_channels=choice.min_channels,
        scale_last=choice.scale_last,
        norm_eps=norm_eps,
        norm_momentum=norm_momentum,
    )
    return SSDLite(
        backbone,
        Normalization(mean, std),
        input_size=choice.input_size if input_size is None else input_size,
        model_name="ssdlite_mobilenet_v2",
        options=options,
        score_function=score_function,
        norm=NormOptions(head_norm_eps, head_norm_momentum),
    )
