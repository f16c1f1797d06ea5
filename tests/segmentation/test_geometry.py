import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from mobilevision.backbone.convolution import conv2d
from mobilevision.segmentation.geometry import (
    fill_size,
    find_first_cell,
    fit_size,
    pad_to_aligned_corners,
    pick_classes,
    place_logits,
    restore_logits,
    upsample_logits,
)
from mobilevision.segmentation.types import IGNORE_INDEX

CELLS = {"output_stride": 16, "padding": "symmetric"}
SIDES = st.integers(1, 3000)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((375, 500), (375, 500)),
        ((513, 513), (513, 513)),
        ((514, 100), (513, 100)),
        ((1026, 2052), (256, 513)),
        ((4000, 1), (513, 1)),
    ],
)
def test_an_image_keeps_its_size_unless_its_long_side_has_to_shrink(size, expected):
    assert fit_size(size, 513) == expected


@given(height=SIDES, width=SIDES, input_size=st.integers(1, 600))
def test_a_fitted_image_fits_and_is_not_empty(height, width, input_size):
    fitted = fit_size((height, width), input_size)
    assert 1 <= min(fitted) <= max(fitted) <= input_size
    assert max(fitted) == min(input_size, max(height, width))


@given(height=SIDES, width=SIDES, input_size=st.integers(1, 600))
def test_an_image_that_fills_a_square_has_its_side_as_the_short_one(height, width, input_size):
    assert min(fill_size((height, width), input_size)) == input_size


def test_enlarging_is_linear_between_the_corners():
    logits = torch.tensor([[[[0.0, 4.0]]]])
    assert upsample_logits(logits, (2, 5)).tolist() == [[[[0, 1, 2, 3, 4], [0, 1, 2, 3, 4]]]]


def test_logits_of_an_image_that_fits_are_enlarged_to_the_square_and_cut():
    coarse = torch.randn(3, 5, 5)
    expected = F.interpolate(coarse[None], size=(65, 65), mode="bilinear", align_corners=True)[0, :, :40, :50]
    torch.testing.assert_close(restore_logits(coarse, 65, (40, 50), **CELLS), expected)


def test_logits_of_an_image_that_was_scaled_come_back_at_the_size_of_its_file():
    coarse = torch.zeros(2, 5, 5)
    coarse[1, :, 3:] = 1.0

    logits = restore_logits(coarse, 65, (130, 260), **CELLS)

    assert logits.shape == (2, 130, 260)
    # The map steps from 0 to 1 between columns 32 and 48 of 65, which are 130 and 194 of the file's 260.
    assert logits[1, :, :130].max() < 0.02
    assert logits[1, :, 196:].min() == 1.0


def test_logits_of_a_stretched_image_come_back_from_all_of_the_square():
    coarse = torch.randn(3, 2, 2)
    placed = place_logits(coarse[None], (20, 20), **CELLS)
    expected = F.interpolate(placed, size=(10, 50), mode="bilinear")[0]
    torch.testing.assert_close(restore_logits(coarse, 20, (10, 50), **CELLS, stretched=True), expected)
    assert torch.equal(restore_logits(coarse, 20, (20, 20), **CELLS, stretched=True), placed[0])


def test_half_precision_is_enlarged_in_float32():
    coarse = torch.zeros(2, 3, 3, dtype=torch.bfloat16)
    assert restore_logits(coarse, 33, (20, 20), **CELLS).dtype == torch.float32


def test_on_other_sides_than_deeplabs_cells_come_back_to_their_pixels():
    coarse = torch.randn(1, 2, 2)
    placed = place_logits(coarse[None], (20, 20), **CELLS)[0]
    assert torch.equal(restore_logits(coarse, 20, (20, 20), **CELLS), placed)
    assert torch.equal(restore_logits(placed, 20, (10, 20), **CELLS), placed[:, :10])


@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    padding=st.sampled_from(["symmetric", "tf_same"]),
    output_stride=st.sampled_from([4, 8, 16]),
)
def test_the_loss_on_corners_is_that_of_the_placed_logits(height, width, padding, output_stride):
    generator = torch.Generator().manual_seed(height + 100 * width)
    cells = -(-height // output_stride), -(-width // output_stride)
    coarse = torch.randn(2, 3, *cells, generator=generator)
    masks = torch.randint(0, 3, (2, height, width), generator=generator, dtype=torch.uint8)
    where = {"output_stride": output_stride, "padding": padding}
    logits, framed = pad_to_aligned_corners(coarse, masks, **where, fill=IGNORE_INDEX)
    assert (framed != IGNORE_INDEX).sum() == masks.numel()
    aligned = upsample_logits(logits, (framed.shape[-2], framed.shape[-1]))
    found = F.cross_entropy(aligned, framed.long(), ignore_index=IGNORE_INDEX)
    expected = F.cross_entropy(place_logits(coarse, (height, width), **where), masks.long())
    torch.testing.assert_close(found, expected)


def test_on_deeplabs_sides_the_corners_are_there_already():
    coarse, masks = torch.randn(1, 3, 5, 9), torch.zeros(1, 65, 129, dtype=torch.uint8)
    logits, framed = pad_to_aligned_corners(coarse, masks, **CELLS, fill=IGNORE_INDEX)
    assert logits is coarse
    assert framed is masks


def test_every_pixel_gets_its_best_class_and_the_first_of_equals():
    logits = torch.tensor([[[1.0, 0.0, 2.0]], [[3.0, 0.0, 2.0]], [[2.0, 0.0, 1.0]]])
    assert pick_classes(logits).tolist() == [[1, 0, 0]]


@given(st.integers(40, 90), st.sampled_from(["symmetric", "tf_same"]), st.sampled_from([8, 16]))
def test_cells_lie_where_the_filters_centers_are(side, padding, output_stride):
    # What a cell in the middle of the map sees is symmetric around the pixel that it is placed at.
    convs = [conv2d(1, 1, 3, stride=2, padding=padding) for _ in range(output_stride.bit_length() - 1)]
    image = torch.zeros(1, 1, side, side, requires_grad=True)
    feature = image
    for conv in convs:
        torch.nn.init.ones_(conv.weight)
        feature = conv(feature)
    cell = feature.shape[-1] // 2
    feature[0, 0, cell, cell].backward()
    seen = image.grad[0, 0].sum(dim=0)
    first, last = (int(place) for place in seen.nonzero().flatten()[[0, -1]])
    if first > 0 and last < side - 1:
        assert (first + last) / 2 == find_first_cell(side, output_stride, padding) + cell * output_stride


@pytest.mark.parametrize("padding", ["symmetric", "tf_same"])
def test_on_deeplabs_sides_logits_are_placed_corners_on_corners(padding):
    logits = torch.randn(1, 3, 5, 9)
    placed = place_logits(logits, (65, 129), output_stride=16, padding=padding)
    torch.testing.assert_close(placed, upsample_logits(logits, (65, 129)))


def test_what_is_beyond_the_last_cell_is_like_it():
    logits = torch.tensor([[[[0.0, 4.0]]]])
    symmetric = place_logits(logits, (1, 8), output_stride=4, padding="symmetric")
    assert symmetric[0, 0, 0].tolist() == [0, 1, 2, 3, 4, 4, 4, 4]
    shifted = place_logits(logits, (1, 8), output_stride=4, padding="tf_same")
    assert shifted[0, 0, 0].tolist() == [0, 0, 0, 0, 1, 2, 3, 4]
