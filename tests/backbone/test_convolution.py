import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from mobilevision.backbone.convolution import SameConv2d, SymmetricConv2d, conv2d, depthwise_conv2d, same_pads


def pads(side, *, stride=2, dilation=1):
    """Return the zeros before and behind a side for a filter of three pixels."""
    return same_pads(side, stride, 2 * dilation)


# The input, and the pads of the five convolutions of stride 2 behind each other.
@pytest.mark.parametrize(
    ("size", "expected"),
    [
        *((size, [(0, 1)] * 5) for size in (96, 128, 160, 192, 224, 320, 512)),
        (300, [(0, 1), (0, 1), (1, 1), (0, 1), (1, 1)]),
        (513, [(1, 1)] * 5),
    ],
)
def test_stride_2_pads_even_sides_behind_and_odd_sides_around(size, expected):
    found = []
    for _ in range(5):
        found.append(pads(size))
        size = -(-size // 2)
    assert found == expected


def test_pads_of_the_detectors_extra_layers():
    assert [pads(side) for side in (10, 5, 3, 2)] == [(0, 1), (1, 1), (1, 1), (0, 1)]


@given(st.integers(1, 20), st.integers(1, 4))
def test_stride_1_pads_alike_on_both_sides(side, dilation):
    assert pads(side, stride=1, dilation=dilation) == (dilation, dilation)


def test_hand_computed_convolution():
    conv = SameConv2d(1, 1, 3, stride=2, bias=False)
    nn.init.ones_(conv.weight)
    x = torch.arange(1.0, 17.0).view(1, 1, 4, 4)
    # An even side starts at its first pixel.
    top = [1 + 2 + 3 + 5 + 6 + 7 + 9 + 10 + 11, 3 + 4 + 7 + 8 + 11 + 12]
    bottom = [9 + 10 + 11 + 13 + 14 + 15, 11 + 12 + 15 + 16]
    assert conv(x)[0, 0].tolist() == [top, bottom]


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 3), st.integers(1, 4), st.sampled_from([1, 3, 5]))
def test_the_output_side_is_the_input_side_over_the_stride_rounded_up(height, width, stride, dilation, kernel):
    if stride > 1 and dilation > 1:
        return
    for padding in ("symmetric", "tf_same"):
        conv = conv2d(2, 2, kernel, stride=stride, dilation=dilation, groups=2, padding=padding)
        assert conv(torch.zeros(1, 2, height, width)).shape == (1, 2, -(-height // stride), -(-width // stride))


@pytest.mark.parametrize("kind", [SymmetricConv2d, SameConv2d])
def test_a_pass_at_another_stride_or_dilation_is_that_of_a_convolution_built_with_it(kind):
    conv, other = kind(3, 4, 3, stride=2), kind(3, 4, 3, dilation=2)
    other.load_state_dict(conv.state_dict())
    x = torch.randn(1, 3, 9, 12)
    torch.testing.assert_close(conv(x, stride=1, dilation=2), other(x))
    assert (conv.stride, conv.dilation) == ((2, 2), (1, 1))


def test_a_kernel_of_one_needs_no_padding_of_its_own():
    assert type(conv2d(2, 2, 1, padding="tf_same")) is nn.Conv2d


def gradients(convolve, x, weight):
    x, weight = x.clone().requires_grad_(), weight.clone().requires_grad_()
    out = convolve(x, weight)
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
    return out.detach(), *torch.autograd.grad((out * weights).sum(), (x, weight))


@settings(max_examples=40)
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
    padding = (dilation, dilation)

    def convolve(x, w):
        with torch.autocast("cpu", torch.bfloat16):
            return depthwise_conv2d(x.to(torch.bfloat16), w, stride=stride, padding=padding, dilation=dilation)

    out, *grads = gradients(convolve, x, weight)
    assert out.dtype == torch.bfloat16
    exact, *expected = gradients(lambda x, w: F.conv2d(x, w, None, stride, padding, dilation, 6), x, weight)
    torch.testing.assert_close(out.float(), exact, atol=0.1, rtol=0.05)
    for one, other in zip(grads, expected, strict=True):
        torch.testing.assert_close(one, other, atol=0.5, rtol=0.05)


def test_the_result_of_a_dilated_convolution_is_channels_last_in_memory():
    x = torch.randn(2, 5, 7, 7).contiguous(memory_format=torch.channels_last).requires_grad_()
    out = depthwise_conv2d(x, torch.randn(5, 1, 3, 3), stride=1, padding=(2, 2), dilation=2)
    assert out.is_contiguous(memory_format=torch.channels_last)
