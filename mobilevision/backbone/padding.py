"""Convolution padding: symmetric as PyTorch has it, or TensorFlow's SAME."""

from typing import Literal, get_args

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mobilevision.backbone.depthwise import depthwise_conv2d

Padding = Literal["symmetric", "tf_same"]


class SymmetricConv2d(nn.Conv2d):
    """A convolution padded alike on both sides, as PyTorch has it, of one stride and dilation in both directions."""

    def forward(
        self,
        input: Float[Tensor, "B C h w"],  # noqa: A002 - nn.Conv2d's own name
        *,
        stride: int | None = None,
        dilation: int | None = None,
    ) -> Float[Tensor, "B D hs ws"]:
        """Convolve, at another stride or dilation than its own where one is given."""
        stride, dilation = stride or self.stride[0], dilation or self.dilation[0]
        return self._pad_and_convolve(input, stride, dilation)

    def _pad_and_convolve(self, x: Float[Tensor, "B C h w"], stride: int, dilation: int) -> Float[Tensor, "B D hs ws"]:
        reach = dilation * (self.kernel_size[0] // 2)
        return self._convolve(x, stride, (reach, reach), dilation)

    def _convolve(
        self, x: Float[Tensor, "B C h w"], stride: int, padding: tuple[int, int], dilation: int
    ) -> Float[Tensor, "B D hs ws"]:
        if self.groups == self.in_channels == self.out_channels > 1 and self.bias is None:
            return depthwise_conv2d(x, self.weight, stride=stride, padding=padding, dilation=dilation)
        return F.conv2d(x, self.weight, self.bias, stride, padding, dilation, self.groups)


class SameConv2d(SymmetricConv2d):
    """A convolution padded as TensorFlow's ``SAME``: what does not divide goes to the bottom and the right.

    A stride-2 3x3 convolution pads (0, 1) on an even side and (1, 1) on an odd one, so that networks trained with
    TensorFlow keep their grid. Its output side is ``ceil(side / stride)``, as with symmetric padding.
    """

    def _pad_and_convolve(self, x: Float[Tensor, "B C h w"], stride: int, dilation: int) -> Float[Tensor, "B D hs ws"]:
        reach = (self.kernel_size[0] - 1) * dilation
        (top, bottom), (left, right) = (same_pads(side, stride, reach) for side in x.shape[-2:])
        if top == bottom and left == right:
            return self._convolve(x, stride, (top, left), dilation)
        return self._convolve(F.pad(x, (left, right, top, bottom)), stride, (0, 0), dilation)


def same_pads(side: int, stride: int, reach: int) -> tuple[int, int]:
    """Give TensorFlow's zeros before and behind a side, for a filter whose last pixel is ``reach`` from its first.

    >>> same_pads(224, 2, 2), same_pads(513, 2, 2)
    ((0, 1), (1, 1))
    """
    total = max((-(-side // stride) - 1) * stride + reach + 1 - side, 0)
    return total // 2, total - total // 2


def conv2d(
    in_channels: int,
    out_channels: int,
    kernel_size: int = 1,
    *,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    bias: bool = False,
    padding: Padding = "symmetric",
) -> nn.Conv2d:
    """Make a convolution whose output side is ``ceil(side / stride)`` under either padding.

    Raises:
        ValueError: ``padding`` is neither ``symmetric`` nor ``tf_same``.
    """
    if padding not in get_args(Padding):
        raise ValueError(f"padding must be one of {', '.join(get_args(Padding))}, got {padding!r}")
    if padding == "tf_same" and kernel_size > 1:
        return SameConv2d(in_channels, out_channels, kernel_size, stride, 0, dilation, groups, bias)
    convolution = nn.Conv2d if groups == 1 else SymmetricConv2d
    return convolution(
        in_channels, out_channels, kernel_size, stride, dilation * (kernel_size // 2), dilation, groups, bias
    )
