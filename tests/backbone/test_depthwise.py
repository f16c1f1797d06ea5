import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mobilevision.backbone.depthwise import depthwise_conv2d
from torch.nn import functional as F


def gradients(convolve, x, weight):
    x, weight = x.clone().requires_grad_(), weight.clone().requires_grad_()
    out = convolve(x, weight)
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
    return out.detach(), *torch.autograd.grad((out * weights).sum(), (x, weight))


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 13),
    width=st.integers(1, 13),
    stride=st.sampled_from([1, 2]),
    dilation=st.sampled_from([1, 2, 3, 4]),
    padded=st.booleans(),
)
def test_output_and_gradients_are_those_of_the_plain_convolution(height, width, stride, dilation, padded):
    padding = (dilation, dilation) if padded else (0, 0)
    x, weight = torch.randn(2, 5, height + 8, width + 8), torch.randn(5, 1, 3, 3)
    ours = gradients(lambda x, w: depthwise_conv2d(x, w, stride=stride, padding=padding, dilation=dilation), x, weight)
    plain = gradients(lambda x, w: F.conv2d(x, w, None, stride, padding, dilation, 5), x, weight)
    for one, other in zip(ours, plain, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("stride", "dilation"), [(2, 1), (1, 2)])
def test_bfloat16_stays_bfloat16_and_near_to_float32(stride, dilation):
    x, weight = torch.randn(2, 6, 9, 11), torch.randn(6, 1, 3, 3)

    def convolve(x, w):
        with torch.autocast("cpu", torch.bfloat16):
            return depthwise_conv2d(
                x.to(torch.bfloat16), w, stride=stride, padding=(dilation, dilation), dilation=dilation
            )

    out, *grads = gradients(convolve, x, weight)
    assert out.dtype == torch.bfloat16
    exact, *expected = gradients(
        lambda x, w: F.conv2d(x, w, None, stride, (dilation, dilation), dilation, 6), x, weight
    )
    torch.testing.assert_close(out.float(), exact, atol=0.1, rtol=0.05)
    for one, other in zip(grads, expected, strict=True):
        torch.testing.assert_close(one, other, atol=0.5, rtol=0.05)


def test_the_result_is_channels_last_in_memory():
    x = torch.randn(2, 5, 7, 7).contiguous(memory_format=torch.channels_last).requires_grad_()
    out = depthwise_conv2d(x, torch.randn(5, 1, 3, 3), stride=1, padding=(2, 2), dilation=2)
    assert out.is_contiguous(memory_format=torch.channels_last)
