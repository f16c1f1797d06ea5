"""SSDLite on MobileNetV2: extra layers behind the backbone, and two depthwise separable predictors on each of six maps.

Reference: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018, section 6.2, as the
TensorFlow Object Detection API builds it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from mobilevision.backbone.convolution import Padding, conv2d
from mobilevision.backbone.inverted_residual import ConvNorm, NormOptions
from mobilevision.backbone.mobilenet_v2 import NOMINAL_STRIDE, BackboneConfig, MobileNetV2
from mobilevision.detection.anchors import anchor_shapes, make_anchors
from mobilevision.detection.boxes import decode_boxes
from mobilevision.detection.nms import clip_detections, rescale_detections, select_detections
from mobilevision.detection.preprocess import StretchTransform
from mobilevision.detection.types import Detections, DetectorOutput, ScoreFunction
from mobilevision.head import ClassRows, Head, HeadConfig, Selection
from mobilevision.network import Network
from mobilevision.options import check_names, trained

EXTRA_CHANNELS = (512, 256, 256, 128)
MIN_EXTRA_CHANNELS = 16
HEAD_INIT_STD = 0.03

PresetName = Literal["paper320", "tf300"]

PRESETS: Mapping[PresetName, Mapping[str, Any]] = {
    # Below width 1 this is the paper's backbone, so that its classifiers' weights fit at every width.
    "paper320": {"input_size": 320, "min_channels": 8, "scale_last": False},
    # Below width 1 the Object Detection API widens the thinnest stages and narrows the last convolution.
    "tf300": {"input_size": 300, "min_channels": 16, "scale_last": True},
}
"""The paper's detector and the released one."""

NUM_COCO_IDS = 90
UNUSED_COCO_IDS = frozenset({12, 26, 29, 30, 45, 66, 68, 69, 71, 83})
COCO_ROWS = tuple(number - 1 for number in range(1, NUM_COCO_IDS + 1) if number not in UNUSED_COCO_IDS)
"""The places of COCO's 80 classes among its 90 numbers, which TensorFlow's detectors predict."""


@dataclass(frozen=True, kw_only=True)
class DetectionConfig(HeadConfig):
    """The plain values that an SSDLite head is built from.

    Attributes:
        num_classes: Classes of objects, without background; COCO has 80.
        input_size: The side of the images, in pixels; the anchors are made for it.
        output_stride: 32.
        score_function: ``sigmoid`` (the background is one class of many) or ``softmax``, for loss and scores.
        head_norm_eps: Batch normalization's epsilon in the extra layers and the predictors.
        head_norm_momentum: Batch normalization's momentum there, in PyTorch's sense. The recipe's 3e-4 forgets over
            some ten thousand steps: a short run wants 0.03 or more.

    Raises:
        ValueError: A value outside what is said above.
    """

    num_classes: int = 80
    input_size: int = 320
    score_function: ScoreFunction = trained("sigmoid")
    head_norm_eps: float = trained(1e-3)
    head_norm_momentum: float = 3e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        check_names("score_function", [self.score_function], get_args(ScoreFunction))
        if self.output_stride != NOMINAL_STRIDE:
            raise ValueError(f"output_stride of a detector must be {NOMINAL_STRIDE}, got {self.output_stride}")


class ExtraLayer(nn.Sequential):
    """Extra layer of SSDLite: squeeze to half of ``out_channels``, halve the side depthwise, widen."""

    def __init__(
        self, in_channels: int, squeezed_channels: int, out_channels: int, *, padding: Padding, norm: NormOptions
    ) -> None:
        super().__init__()
        self.squeeze = ConvNorm(in_channels, squeezed_channels, norm=norm)
        self.depthwise = ConvNorm(
            squeezed_channels, squeezed_channels, 3, stride=2, groups=squeezed_channels, padding=padding, norm=norm
        )
        self.widen = ConvNorm(squeezed_channels, out_channels, norm=norm)


class MapPredictor(nn.Module):
    """Predictor of ``num_outputs`` values for every anchor of one map: 3x3 depthwise, then 1x1 with bias."""

    def __init__(
        self, in_channels: int, num_anchors: int, num_outputs: int, *, padding: Padding, norm: NormOptions
    ) -> None:
        super().__init__()
        self.depthwise = ConvNorm(in_channels, in_channels, 3, groups=in_channels, padding=padding, norm=norm)
        self.pointwise = conv2d(in_channels, num_anchors * num_outputs, bias=True)
        self.num_outputs = num_outputs

    def forward(self, feature: Float[Tensor, "B D h w"]) -> Float[Tensor, "B h*w*num_anchors num_outputs"]:
        """Return the values, anchor by anchor in the order of :func:`make_anchors`."""
        maps: Tensor = self.pointwise(self.depthwise(feature))
        return maps.permute(0, 2, 3, 1).reshape(maps.shape[0], -1, self.num_outputs)


class SSDLiteHead(Head):
    """SSDLite detection head.

    :attr:`anchors` are cxcywh in pixels of the input; they follow from the input's size and are not saved.

    Args:
        backbone: Has the taps ``stage6_expansion`` and ``last``; its width and padding are the extra layers' too.
        config: What it is built from.
    """

    task = "detection"
    taps = ("stage6_expansion", "last")
    config_class = DetectionConfig
    fixed_size = True
    config: DetectionConfig
    anchors: Tensor

    def __init__(self, backbone: MobileNetV2, config: DetectionConfig = DetectionConfig()) -> None:
        super().__init__(backbone, config)
        padding = backbone.config.padding
        norm = NormOptions(config.head_norm_eps, config.head_norm_momentum)
        taps = [backbone.feature_info[tap] for tap in self.taps]
        channels = [tap.channels for tap in taps]
        extras = build_extras(channels[-1], backbone.config.width_mult, padding=padding, norm=norm)
        channels += [extra.widen.conv.out_channels for extra in extras]
        shapes = anchor_shapes(len(channels))

        def build_predictors(num_outputs: int) -> nn.ModuleList:
            return nn.ModuleList(
                MapPredictor(width, len(anchors), num_outputs, padding=padding, norm=norm)
                for width, anchors in zip(channels, shapes, strict=True)
            )

        self.extras = nn.ModuleList(extras)
        self.class_predictors = build_predictors(config.num_classes + 1)
        self.box_predictors = build_predictors(4)
        self.reset_parameters()
        sides = [math.ceil(config.input_size / tap.stride) for tap in taps]
        for _ in extras:
            sides.append(math.ceil(sides[-1] / 2))
        self.map_sizes = [(side, side) for side in sides]
        """Height and width of the six maps, finest first; on a small input the last ones are all 1x1."""
        # They are computed even where the network is built on the meta device, for they are in no file.
        with torch.device("cpu"):
            anchors = make_anchors(self.map_sizes, config.input_size)
        self.register_buffer("anchors", anchors, persistent=False)
        self.preprocess = StretchTransform(config.input_size)

    def reset_parameters(self) -> None:
        """Draw the convolutions from a normal distribution of deviation 0.03, cut off at two deviations."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.trunc_normal_(module.weight, std=HEAD_INIT_STD, a=-2 * HEAD_INIT_STD, b=2 * HEAD_INIT_STD)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, *features: Float[Tensor, "B D h w"]) -> DetectorOutput:
        """Return offsets and logits of every anchor."""
        maps = self.extract(*features)
        offsets = [predictor(feature) for predictor, feature in zip(self.box_predictors, maps, strict=True)]
        logits = [predictor(feature) for predictor, feature in zip(self.class_predictors, maps, strict=True)]
        return DetectorOutput(torch.cat(offsets, dim=1), torch.cat(logits, dim=1))

    def extract(self, *features: Float[Tensor, "B D h w"]) -> tuple[Float[Tensor, "B D h w"], ...]:
        """Return the six maps that the predictors read, finest first."""
        maps = list(features)
        for extra in self.extras:
            maps.append(extra(maps[-1]))
        return tuple(maps)

    def scores(self, logits: Float[Tensor, "B A C+1"]) -> Float[Tensor, "B A C"]:
        """Return the scores in [0, 1] of the classes alone, in float32."""
        logits = logits.float()
        return (logits.sigmoid() if self.config.score_function == "sigmoid" else logits.softmax(dim=-1))[..., 1:]

    def postprocess(
        self,
        outputs: DetectorOutput,
        sizes: Int64[Tensor, "B 2"],
        selection: Selection = Selection(),
        *,
        stretched_to: int | None = None,
    ) -> Sequence[Detections]:
        """Return the objects in each image, best first, boxes in pixels of the file; images are always stretched."""
        boxes = decode_boxes(outputs.offsets, self.anchors)
        selected = select_detections(boxes, self.scores(outputs.logits), **selection._asdict())
        return rescale_detections(clip_detections(selected, self.input_size), sizes, self.input_size)

    def class_rows(self) -> ClassRows:
        """Return which rows of which tensors belong to a class, the background in front of them."""
        numbers = range(len(self.class_predictors))
        names = [f"class_predictors.{number}.pointwise.{part}" for number in numbers for part in ("weight", "bias")]
        return ClassRows(tuple(names), num_hidden=1)

    def match_places(self, count: int, theirs: Mapping[str, Any]) -> tuple[Sequence[int], str] | None:
        """Return which class of other weights each class is by its place: of COCO's 90 numbers the 80 that are used."""
        if count == NUM_COCO_IDS and self.num_classes == len(COCO_ROWS):
            return COCO_ROWS, "without the numbers that COCO does not use"
        return super().match_places(count, theirs)


def build_extras(in_channels: int, width_mult: float, *, padding: Padding, norm: NormOptions) -> list[ExtraLayer]:
    """Build the chain of layers behind the backbone; its widths are not rounded to a multiple of anything."""

    def scaled(channels: float) -> int:
        return max(int(channels * width_mult), MIN_EXTRA_CHANNELS)

    extras = []
    for channels in EXTRA_CHANNELS:
        extras.append(ExtraLayer(in_channels, scaled(channels / 2), scaled(channels), padding=padding, norm=norm))
        in_channels = scaled(channels)
    return extras


class SSDLite(Network):
    """SSDLite detector: RGB images of one size in, offsets and logits of every anchor out."""

    head_class = SSDLiteHead
    backbone_defaults = BackboneConfig(norm_momentum=3e-4)

    @classmethod
    def expand_options(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return options with ``preset`` replaced by what it stands for."""
        if "preset" not in options:
            return dict(options)
        check_names("preset", [options["preset"]], PRESETS)
        stated = {name: value for name, value in options.items() if name != "preset"}
        return {**PRESETS[options["preset"]], **stated}


def ssdlite_mobilenet_v2(num_classes: int = 80, **options: Any) -> SSDLite:
    """Build the paper's detector with randomly initialized weights.

    Args:
        num_classes: Classes of objects, without background; COCO has 80.
        options: ``preset``, ``mean`` and ``std`` of the pixels, and fields of :class:`BackboneConfig` and
            :class:`DetectionConfig`. The presets ``paper320`` and ``tf300`` differ at width 1 in the input's size only.
            Below it, ``paper320`` keeps the classifier's widths, so that its weights fit; ``tf300`` has no stage of
            less than 16 channels and narrows the last convolution too, as the released detectors do.

    Raises:
        ValueError: An unknown option, or a value outside what these say.

    >>> network = ssdlite_mobilenet_v2()
    >>> sum(parameter.numel() for parameter in network.parameters()), len(network.head.anchors)
    (4337013, 2034)
    """
    return SSDLite.from_options(num_classes=num_classes, **options)
