import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mobilevision.backbone.padding import SameConv2d, conv2d, same_pads


def pads(side, *, stride=2, dilation=1, kernel=3):
    """Read the pads off the output: a kernel of ones counts how much of it lies on the image."""
    conv = SameConv2d(1, 1, kernel, stride, dilation=dilation, bias=False)
    torch.nn.init.ones_(conv.weight)
    counts = conv(torch.ones(1, 1, side, side))[0, 0, :, 0]
    return same_pads(side, stride, (kernel - 1) * dilation), counts


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
        found.append(pads(size)[0])
        size = -(-size // 2)
    assert found == expected


def test_pads_of_the_detectors_extra_layers():
    assert [pads(side)[0] for side in (10, 5, 3, 2)] == [(0, 1), (1, 1), (1, 1), (0, 1)]


def test_an_even_side_starts_at_its_first_pixel():
    _, counts = pads(4)
    assert counts.tolist() == [9, 6]


def test_hand_computed_convolution():
    conv = SameConv2d(1, 1, 3, stride=2, bias=False)
    torch.nn.init.ones_(conv.weight)
    x = torch.arange(1.0, 17.0).view(1, 1, 4, 4)
    top = [1 + 2 + 3 + 5 + 6 + 7 + 9 + 10 + 11, 3 + 4 + 7 + 8 + 11 + 12]
    bottom = [9 + 10 + 11 + 13 + 14 + 15, 11 + 12 + 15 + 16]
    assert conv(x)[0, 0].tolist() == [top, bottom]


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 3), st.integers(1, 4), st.sampled_from([1, 3, 5]))
def test_the_output_side_is_the_input_side_over_the_stride_rounded_up(height, width, stride, dilation, kernel):
    x = torch.zeros(1, 2, height, width)
    for padding in ("symmetric", "tf_same"):
        if stride > 1 and dilation > 1:
            continue
        conv = conv2d(2, 2, kernel, stride=stride, dilation=dilation, groups=2, padding=padding)
        assert conv(x).shape == (1, 2, -(-height // stride), -(-width // stride))


@given(st.integers(1, 20), st.integers(1, 4))
def test_stride_1_pads_alike_on_both_sides(side, dilation):
    assert pads(side, stride=1, dilation=dilation)[0] == (dilation, dilation)


def test_a_kernel_of_one_needs_no_padding_of_its_own():
    assert type(conv2d(2, 2, 1, padding="tf_same")) is torch.nn.Conv2d
