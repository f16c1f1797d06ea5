import pickle

import numpy as np
import torch

from mobilevision.segmentation.preprocess import PAD_PIXEL, FitTransform


def test_an_image_that_fits_keeps_its_size(draw_pair):
    image, _ = draw_pair(40, 50)
    square = FitTransform(64)(image)
    assert (square.shape, square.dtype) == ((3, 64, 64), torch.uint8)
    assert torch.equal(square[:, :40, :50], torch.from_numpy(image).permute(2, 0, 1))
    assert square[:, 40:].unique().tolist() == square[:, :, 50:].unique().tolist() == [PAD_PIXEL]


def test_a_larger_image_shrinks_until_it_fits():
    square = FitTransform(60)(np.full((300, 200, 3), 9, np.uint8))
    assert square[:, :60, :40].unique().tolist() == [9]
    assert square[:, :, 40:].unique().tolist() == [PAD_PIXEL]


def test_an_image_of_one_pixel_is_accepted():
    assert (FitTransform(33)(np.full((1, 1, 3), 5, np.uint8)) == 5).sum() == 3


def test_it_travels_to_workers_and_is_its_values():
    assert pickle.loads(pickle.dumps(FitTransform(32))) == FitTransform(32) != FitTransform(33)
