"""Depthwise convolutions on a CPU in training, by ways whose gradients are quick.

PyTorch's CPU kernels have no fast gradient for a dilated depthwise convolution, nor in bfloat16 for a strided one: they
take six and three times as long as what computes the same here. Elsewhere than on a CPU, and without gradients, the
plain convolution runs.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def depthwise_conv2d(
    x: Float[Tensor, "B C h w"],
    weight: Float[Tensor, "C 1 k k"],
    *,
    stride: int,
    padding: tuple[int, int],
    dilation: int,
) -> Float[Tensor, "B C hs ws"]:
    """Convolve each channel with its own filter.

    Args:
        x: Maps.
        weight: Of an odd side.
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
    """Convolve the pixels that are ``dilation`` apart as pictures of their own, which no gap divides."""
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
