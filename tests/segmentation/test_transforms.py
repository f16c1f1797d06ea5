import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mobilevision.segmentation.preprocess import PAD_PIXEL, FitTransform
from mobilevision.segmentation.transforms import SegmentationAugment
from mobilevision.segmentation.types import IGNORE_INDEX


@settings(max_examples=25)
@given(
    height=st.integers(1, 150),
    width=st.integers(1, 150),
    input_size=st.integers(1, 130),
    seed=st.integers(0, 2**32 - 1),
)
def test_training_images_and_masks_come_out_at_the_same_size(draw_pair, height, width, input_size, seed):
    image, mask = SegmentationAugment(input_size)(*draw_pair(height, width), seed)
    assert (image.shape, image.dtype) == ((3, input_size, input_size), torch.uint8)
    assert (mask.shape, mask.dtype) == ((input_size, input_size), torch.uint8)
    assert set(mask.unique().tolist()) <= {0, 1, 2, 3, 4, IGNORE_INDEX}


@pytest.mark.parametrize("seed", range(8))
def test_image_and_mask_move_alike(draw_pair, seed):
    image, mask = SegmentationAugment(128)(*draw_pair(120, 100), seed)
    kept = mask != IGNORE_INDEX
    # Interpolation blurs the image at the edges of the squares, which the mask keeps sharp.
    off = (image[0].int() - 40 * mask.int()).abs()[kept] > 20
    assert off.float().mean() < 0.1
    assert image[:, ~kept].unique().tolist() in ([PAD_PIXEL], [])


def test_the_seed_alone_decides_the_augmentation(draw_pair):
    transform, again, pair = SegmentationAugment(64), SegmentationAugment(64), draw_pair(90, 120)
    first = [transform(*pair, seed) for seed in (3, 4, 5)]
    second = [again(*pair, seed) for seed in (5, 4, 3)][::-1]
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])
    assert not torch.equal(first[0][0], first[1][0])


def test_a_small_image_is_padded_below_and_to_the_right(draw_pair):
    image, mask = SegmentationAugment(64, min_scale=1.0, max_scale=1.0)(*draw_pair(32, 48), 0)
    assert (mask[:32].sum(dim=0) < 32 * IGNORE_INDEX).sum() == 48
    assert torch.equal(mask[32:], torch.full((32, 64), IGNORE_INDEX, dtype=torch.uint8))
    assert torch.equal(image[:, 32:], torch.full((3, 32, 64), PAD_PIXEL, dtype=torch.uint8))


def test_training_has_a_larger_image_as_evaluation_does(draw_pair):
    large, mask = draw_pair(390, 260, side=96)
    transform = SegmentationAugment(65, min_scale=1.0, max_scale=1.0)
    image, crop = next(pair for seed in range(9) if (pair := transform(large, mask, seed))[1][0, 0] != IGNORE_INDEX)
    assert torch.equal(image, FitTransform(65)(large))
    assert (crop[:, :43] != IGNORE_INDEX).all()
    assert (crop[:, 43:] == IGNORE_INDEX).all()
    assert (image[0, :, :43].int() - 40 * crop[:, :43].int()).abs().float().mean() < 10


def test_all_scales_come_and_no_others():
    transform = SegmentationAugment(16)
    image, mask = np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8)
    areas = {int((transform(image, mask, seed)[1] == 0).sum()) for seed in range(150)}
    assert areas == {side * side for side in (2, 3, 4, 5, 6, 7, 8)}


def test_mirroring_is_independent_of_the_place_of_the_crop():
    transform = SegmentationAugment(40, min_scale=2.0, max_scale=2.0)
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
        SegmentationAugment(64, min_scale=scales[0], max_scale=scales[1])
