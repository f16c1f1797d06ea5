"""The MobileNetV2 classifier: one linear layer on the pooled map."""

from collections.abc import Mapping, Sequence
from typing import get_args

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from mobilevision.backbone.image_network import ImageNetwork, Scalar
from mobilevision.backbone.mobilenet_v2 import INIT_STD, MobileNetV2
from mobilevision.backbone.normalization import SYMMETRIC_MEAN, SYMMETRIC_STD, Normalization
from mobilevision.backbone.padding import Padding
from mobilevision.classification.types import CROP_SHARE, Background, EvalCrop


class ClassifierHead(nn.Module):
    """Average the last map, drop out, weigh the channels for every class.

    Args:
        in_channels: Of the map.
        num_classes: Outputs.
        dropout: Share of the pooled features dropped in training.
    """

    def __init__(self, in_channels: int, num_classes: int, *, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(in_channels, num_classes)
        nn.init.trunc_normal_(self.linear.weight, std=INIT_STD, a=-2 * INIT_STD, b=2 * INIT_STD)
        nn.init.zeros_(self.linear.bias)

    def forward(self, last: Float[Tensor, "B D h w"]) -> Float[Tensor, "B C"]:
        """Give the logits."""
        logits: Tensor = self.linear(self.dropout(self.pool(last)))
        return logits

    def pool(self, last: Float[Tensor, "B D h w"]) -> Float[Tensor, "B D"]:
        """Give the features that the linear layer reads."""
        return torch.mean(last, dim=(2, 3))


class Classifier(ImageNetwork):
    """Say what an image shows.

    Args:
        backbone: Has the tap ``last``.
        normalization: Applied to the images first.
        dropout: Share of the pooled features dropped in training.
        input_size: The side of the images it is made for, in pixels.
        eval_crop: How a picture becomes such an image.
        crop_share: The share of the picture that is kept then.
        model_name: The name under which ``get_model`` builds it.
        options: The scalars to build it with, ``num_classes`` among them.

    Raises:
        ValueError: ``num_classes`` is below 1, or ``dropout`` is not in [0, 1).
    """

    taps = ("last",)
    head: ClassifierHead

    def __init__(
        self,
        backbone: MobileNetV2,
        normalization: Normalization,
        *,
        dropout: float,
        input_size: int,
        eval_crop: EvalCrop,
        crop_share: float,
        model_name: str,
        options: Mapping[str, Scalar],
    ) -> None:
        super().__init__(backbone, normalization, input_size=input_size, model_name=model_name, options=options)
        if self.num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, got {self.num_classes}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, got {dropout}")
        self.eval_crop: EvalCrop = eval_crop
        self.crop_share = crop_share
        self.head = ClassifierHead(backbone.feature_info["last"].channels, self.num_classes, dropout=dropout)

    def forward(self, images: UInt8[Tensor, "B 3 H W"] | Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C"]:
        """Give the logits of RGB ``images``, uint8 in [0, 255] or floats in [0, 1]."""
        logits: Tensor = self.head(*self.compute_taps(images))
        return logits

    def extract_feat(
        self, images: UInt8[Tensor, "B 3 H W"] | Float[Tensor, "B 3 H W"]
    ) -> tuple[Float[Tensor, "B D"], ...]:
        """Give the pooled features that the linear layer reads, 1280 at width 1, as a tuple of one."""
        return (self.head.pool(*self.compute_taps(images)),)


def mobilenet_v2(
    num_classes: int = 1000,
    *,
    width_mult: float = 1.0,
    output_stride: int = 32,
    padding: Padding = "symmetric",
    round_to: int = 8,
    depth_mult: float = 1.0,
    fixed_ends: bool = False,
    scale_last: bool = False,
    input_size: int = 224,
    eval_crop: EvalCrop = "short_side",
    crop_share: float = CROP_SHARE,
    dropout: float = 0.2,
    norm_eps: float = 1e-3,
    norm_momentum: float = 0.003,
    mean: Sequence[float] = SYMMETRIC_MEAN,
    std: Sequence[float] = SYMMETRIC_STD,
    background: Background | None = None,
) -> Classifier:
    """Build the paper's classifier, with fresh weights.

    Args:
        num_classes: Outputs; ImageNet has 1000. TensorFlow's checkpoints have a background in front of them.
        width_mult: Channel multiplier; below 1 the last convolution keeps its 1280 channels.
        output_stride: 8, 16 or 32; see :class:`MobileNetV2`.
        padding: ``symmetric`` (weights trained in PyTorch) or ``tf_same`` (weights trained in TensorFlow).
        round_to: Channels are rounded to multiples of this.
        depth_mult: Multiplier of the blocks of every stage, see :class:`MobileNetV2`.
        fixed_ends: Whether stem and ``last`` keep their size, see :class:`MobileNetV2`.
        scale_last: Whether a width below 1 narrows the last convolution too.
        input_size: The side of the images it is made for, in pixels; it takes others as well.
        eval_crop: How a picture becomes such an image: ``short_side`` or ``central``, see ``EvalCrop``.
        crop_share: The share of the picture that is kept then.
        dropout: Share of the pooled features dropped in training.
        norm_eps: Batch normalisation's epsilon.
        norm_momentum: Batch normalisation's momentum in PyTorch's sense.
        mean: Of the pixels, for red, green and blue in [0, 1].
        std: Likewise.
        background: Where a class for everything else is among the ``num_classes``: ``first``, ``last``, or nowhere. It
            changes nothing but what becomes of its row when the weights go into a network without it.

    Raises:
        ValueError: An argument outside what is said above.

    Reference: Sandler et al., "MobileNetV2", CVPR 2018, Table 2.
    """
    options = dict(locals())
    if background not in (None, *get_args(Background)):
        raise ValueError(f"background must be one of {', '.join(get_args(Background))} or None, got {background!r}")
    backbone = MobileNetV2(
        width_mult=width_mult,
        output_stride=output_stride,
        padding=padding,
        round_to=round_to,
        depth_mult=depth_mult,
        fixed_ends=fixed_ends,
        scale_last=scale_last,
        norm_eps=norm_eps,
        norm_momentum=norm_momentum,
    )
    return Classifier(
        backbone,
        Normalization(mean, std),
        dropout=dropout,
        input_size=input_size,
        eval_crop=eval_crop,
        crop_share=crop_share,
        model_name="mobilenet_v2",
        options=options,
    )
