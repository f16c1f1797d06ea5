"""SSDLite on MobileNetV2: six maps, two depthwise separable predictors on each.

Reference: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018, section 6.2, as the
TensorFlow Object Detection API builds it.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, get_args

from jaxtyping import Float, Shaped, UInt8
from torch import Tensor

from mobilevision.backbone.image_network import ImageNetwork, Scalar
from mobilevision.backbone.inverted_residual import NormOptions
from mobilevision.backbone.mobilenet_v2 import MobileNetV2
from mobilevision.backbone.normalization import SYMMETRIC_MEAN, SYMMETRIC_STD, Normalization
from mobilevision.backbone.padding import Padding
from mobilevision.detection.head import SSDLiteHead
from mobilevision.detection.types import RawPredictions, ScoreFunction

PresetName = Literal["paper320", "tf300"]


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


class SSDLite(ImageNetwork):
    """The detector: RGB images of one size in, offsets and logits of every anchor out.

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

    taps = ("stage6_expansion", "last")
    head: SSDLiteHead

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
        self.head = SSDLiteHead(
            [backbone.feature_info[tap] for tap in self.taps],
            self.num_classes,
            input_size=input_size,
            width_mult=backbone.width_mult,
            padding=backbone.padding,
            norm=norm,
        )

    @property
    def anchors(self) -> Float[Tensor, "A 4"]:
        """The anchors, cxcywh in pixels of the input."""
        return self.head.anchors

    def extract_feat(
        self, images: UInt8[Tensor, "B 3 S S"] | Float[Tensor, "B 3 S S"]
    ) -> tuple[Float[Tensor, "B D h w"], ...]:
        """Give the six maps that the predictors read, finest first."""
        return self.head.compute_maps(*self.compute_taps(images))

    def forward(self, images: UInt8[Tensor, "B 3 S S"] | Float[Tensor, "B 3 S S"]) -> RawPredictions:
        """Say of every anchor what is there and where.

        Args:
            images: RGB, uint8 in [0, 255] or floats in [0, 1], of the side ``input_size``.

        Raises:
            ValueError: The images have another size, for which the anchors are not made.
        """
        return self.run_head(images)

    def run_head(self, images: UInt8[Tensor, "B 3 S S"] | Float[Tensor, "B 3 S S"]) -> RawPredictions:
        """Give offsets and logits of every anchor.

        Raises:
            ValueError: The images have a size that there are no anchors for.
        """
        self.check_size(images)
        predictions: RawPredictions = super().run_head(images)
        return predictions

    def check_size(self, images: Shaped[Tensor, "B 3 H W"]) -> None:
        """See that there are anchors for images of this size.

        Raises:
            ValueError: There are none.
        """
        height, width = images.shape[-2:]
        if height != self.input_size or width != self.input_size:
            raise ValueError(f"images must be {self.input_size}x{self.input_size} pixels, got {width}x{height}")

    def scores(self, logits: Float[Tensor, "B A C+1"]) -> Float[Tensor, "B A C"]:
        """Turn logits into scores in [0, 1] of the classes alone, in float32."""
        logits = logits.float()
        return (logits.sigmoid() if self.score_function == "sigmoid" else logits.softmax(dim=-1))[..., 1:]


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
