import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mobilevision.segmentation.transforms import PAD_PIXEL, EvalTransform, PairTransform, TrainTransform
from mobilevision.segmentation.types import IGNORE_INDEX


def draw_pair(height, width, *, side=16, seed=0):
    """A mask of large squares, and the picture that has 40 times its value in every pixel."""
    rng = np.random.default_rng(seed)
    mask = rng.integers(0, 5, (-(-height // side), -(-width // side)), dtype=np.uint8)
    mask = mask.repeat(side, axis=0).repeat(side, axis=1)[:height, :width]
    return np.repeat(mask[..., None] * np.uint8(40), 3, axis=2), mask


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(1, 150),
    width=st.integers(1, 150),
    input_size=st.integers(1, 130),
    seed=st.integers(0, 2**32 - 1),
)
def test_training_pictures_and_masks_come_out_at_the_same_size(height, width, input_size, seed):
    image, mask = TrainTransform(input_size)(*draw_pair(height, width), seed)
    assert (image.shape, image.dtype) == ((3, input_size, input_size), torch.uint8)
    assert (mask.shape, mask.dtype) == ((input_size, input_size), torch.uint8)
    assert set(mask.unique().tolist()) <= {0, 1, 2, 3, 4, IGNORE_INDEX}


@pytest.mark.parametrize("seed", range(8))
def test_picture_and_mask_move_alike(seed):
    image, mask = TrainTransform(128)(*draw_pair(120, 100), seed)
    kept = mask != IGNORE_INDEX
    # Interpolation blurs the picture at the edges of the squares, which the mask keeps sharp.
    off = (image[0].int() - 40 * mask.int()).abs()[kept] > 20
    assert off.float().mean() < 0.1
    assert image[:, ~kept].unique().tolist() in ([PAD_PIXEL], [])


def test_what_is_drawn_depends_on_the_seed_alone():
    transform, again, pair = TrainTransform(64), TrainTransform(64), draw_pair(90, 120)
    first = [transform(*pair, seed) for seed in (3, 4, 5)]
    second = [again(*pair, seed) for seed in (5, 4, 3)][::-1]
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])
    assert not torch.equal(first[0][0], first[1][0])


def test_a_small_picture_is_padded_below_and_to_the_right():
    image, mask = TrainTransform(64, min_scale=1.0, max_scale=1.0)(*draw_pair(32, 48), 0)
    assert (mask[:32].sum(dim=0) < 32 * IGNORE_INDEX).sum() == 48
    assert torch.equal(mask[32:], torch.full((32, 64), IGNORE_INDEX, dtype=torch.uint8))
    assert torch.equal(image[:, 32:], torch.full((3, 32, 64), PAD_PIXEL, dtype=torch.uint8))


def test_training_sees_a_larger_picture_as_evaluation_does():
    picture, mask = draw_pair(390, 260, side=96)
    transform = TrainTransform(65, min_scale=1.0, max_scale=1.0)
    image, cut = next(pair for seed in range(9) if (pair := transform(picture, mask, seed))[1][0, 0] != IGNORE_INDEX)
    assert torch.equal(image, EvalTransform(65)(picture).image)
    assert (cut[:, :43] != IGNORE_INDEX).all()
    assert (cut[:, 43:] == IGNORE_INDEX).all()
    assert (image[0, :, :43].int() - 40 * cut[:, :43].int()).abs().float().mean() < 10


def test_all_scales_come_and_no_others():
    transform = TrainTransform(16)
    image, mask = np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8)
    areas = {int((transform(image, mask, seed)[1] == 0).sum()) for seed in range(150)}
    assert areas == {side * side for side in (2, 3, 4, 5, 6, 7, 8)}


def test_mirroring_is_independent_of_the_place_of_the_crop():
    transform = TrainTransform(40, min_scale=2.0, max_scale=2.0)
    columns = np.broadcast_to(np.arange(40, dtype=np.uint8), (40, 40))
    lefts = {True: [], False: []}
    for seed in range(200):
        image, _ = transform(np.repeat(columns[..., None], 3, axis=2), columns % 3, seed)
        row = image[0, 0].tolist()
        lefts[row[0] > row[-1]].append(min(row))
    assert min(len(places) for places in lefts.values()) > 70
    assert all(min(places) < 5 and max(places) > 15 for places in lefts.values())


@pytest.mark.parametrize("scales", [(0.0, 1.0), (1.5, 1.0)])
def test_scales_that_make_no_sense_are_refused(scales):
    with pytest.raises(ValueError, match="min_scale must be above 0 and at most max_scale, got"):
        TrainTransform(64, min_scale=scales[0], max_scale=scales[1])


def test_a_picture_that_fits_is_evaluated_as_it_is():
    image, _ = draw_pair(40, 50)
    fitted = EvalTransform(64)(image)
    assert fitted.content == (40, 50)
    assert torch.equal(fitted.image[:, :40, :50], torch.from_numpy(image).permute(2, 0, 1))
    assert fitted.image[:, 40:].unique().tolist() == fitted.image[:, :, 50:].unique().tolist() == [PAD_PIXEL]


def test_a_larger_picture_shrinks_until_it_fits():
    image = np.full((300, 200, 3), 9, np.uint8)
    fitted = EvalTransform(60)(image)
    assert fitted.content == (60, 40)
    assert fitted.image[:, :60, :40].unique().tolist() == [9]
    assert fitted.image[:, :, 40:].unique().tolist() == [PAD_PIXEL]


def test_a_picture_of_one_pixel_is_evaluated():
    fitted = EvalTransform(33)(np.full((1, 1, 3), 5, np.uint8))
    assert fitted.content == (1, 1)
    assert (fitted.image == 5).sum() == 3


def test_masks_are_evaluated_at_the_size_of_their_file():
    image, mask = draw_pair(300, 200)
    pixels, kept = PairTransform(60)(image, mask, seed=0)
    assert pixels.shape == (3, 60, 60)
    assert torch.equal(kept, torch.from_numpy(mask))


def test_padding_alone_is_what_the_original_protocol_does_to_pictures_that_fit():
    image, mask = draw_pair(40, 50)
    padded, original = (PairTransform(64, protocol)(image, mask, seed=0) for protocol in ("pad", "original"))
    assert torch.equal(padded[0], original[0])
    assert torch.equal(padded[1], original[1])


def test_padding_alone_refuses_pictures_that_do_not_fit():
    with pytest.raises(ValueError, match=r"fit into 64x64, got 65x40: set data\.input_size to 65 or more"):
        PairTransform(64, "pad")(*draw_pair(40, 65), seed=0)


@pytest.mark.parametrize("size", [(32, 64), (128, 64), (16, 40), (32, 32)])
def test_the_centre_crop_is_the_middle_of_picture_and_mask_alike(size):
    image, mask = draw_pair(*size)
    pixels, cut = PairTransform(32, "centre_crop")(image, mask, seed=0)
    assert (pixels.shape, cut.shape) == ((3, 32, 32), (32, 32))
    off = (pixels[0].int() - 40 * cut.int()).abs() > 20
    assert off.float().mean() < 0.1
    if min(size) == 32:
        left = (size[1] - 32) // 2
        assert torch.equal(cut, torch.from_numpy(mask[:, left : left + 32]))


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1)])
def test_the_centre_crop_of_the_thinnest_picture_is_full(size):
    pixels, cut = PairTransform(33, "centre_crop")(np.full((*size, 3), 5, np.uint8), np.zeros(size, np.uint8), seed=0)
    assert pixels.unique().tolist() == [5]
    assert cut.shape == (33, 33)
