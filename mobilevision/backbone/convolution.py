"""Convolutions padded symmetrically, as in PyTorch, or like TensorFlow's SAME; quick depthwise gradients on a CPU."""

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

Padding = Literal["symmetric", "tf_same"]


class SymmetricConv2d(nn.Conv2d):
    """Convolution padded alike on both sides, with one stride and one dilation in both directions."""

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
    """Convolution padded as TensorFlow's ``SAME``: what does not divide goes to the bottom and the right.

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
    """Return TensorFlow's zeros before and behind a side, for a filter whose last pixel is ``reach`` from its first.

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
    """Build a convolution whose output side is ``ceil(side / stride)`` under either padding.

    Raises:
        ValueError: ``padding`` is neither ``symmetric`` nor ``tf_same``.
    """
    if padding not in get_args(Padding):
        raise ValueError(f"padding must be one of {', '.join(get_args(Padding))}, got {padding!r}")
    if padding == "tf_same" and kernel_size > 1:
        return SameConv2d(in_channels, out_channels, kernel_size, stride, 0, dilation, groups, bias)
    convolution = nn.Conv2d if groups == 1 and kernel_size == 1 else SymmetricConv2d
    return convolution(
        in_channels, out_channels, kernel_size, stride, dilation * (kernel_size // 2), dilation, groups, bias
    )


def depthwise_conv2d(
    x: Float[Tensor, "B C h w"],
    weight: Float[Tensor, "C 1 k k"],
    *,
    stride: int,
    padding: tuple[int, int],
    dilation: int,
) -> Float[Tensor, "B C hs ws"]:
    """Convolve each channel with its own filter, in training on a CPU by ways whose gradients are quick.

    PyTorch's CPU kernels have no fast gradient for a dilated depthwise convolution, nor in bfloat16 for a strided one:
    they take six and three times as long as what computes the same here.

    Args:
        x: Maps.
        weight: Filters of an odd side.
        stride: In both directions.
        padding: Zeros above and below, and to the left and right.
        dilation: In both directions.
    """
    if x.device.type == "cpu" and torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
        reach = dilation * (weight.shape[-1] // 2)
        if stride == 1 and dilation > 1 and padding == (reach, reach):
            return _convolve_phases(x, weight, dilation)
        if stride > 1 and x.dtype == torch.bfloat16:
            with torch.autocast("cpu", enabled=False):
                return F.conv2d(x.float(), weight.float(), None, stride, padding, dilation, x.shape[1]).to(x.dtype)
    return F.conv2d(x, weight, None, stride, padding, dilation, x.shape[1])


def _convolve_phases(
    x: Float[Tensor, "B C h w"], weight: Float[Tensor, "C 1 k k"], dilation: int
) -> Float[Tensor, "B C h w"]:
    """Convolve the pixels that are ``dilation`` apart as images of their own, without gaps between them."""
    num, channels, height, width = x.shape
    rows, columns = -(-height // dilation), -(-width // dilation)
    # Channels last: a pixel's channels stay together.
    pixels = F.pad(x.permute(0, 2, 3, 1), (0, 0, 0, columns * dilation - width, 0, rows * dilation - height))
    phases = pixels.view(num, rows, dilation, columns, dilation, channels).permute(0, 2, 4, 1, 3, 5)
    phases = phases.reshape(-1, rows, columns, channels).permute(0, 3, 1, 2)
    out = F.conv2d(phases, weight, None, padding=weight.shape[-1] // 2, groups=channels).permute(0, 2, 3, 1)
    out = out.reshape(num, dilation, dilation, rows, columns, channels).permute(0, 3, 1, 4, 2, 5)
    out = out.reshape(num, rows * dilation, columns * dilation, channels)[:, :height, :width]
    return out.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
