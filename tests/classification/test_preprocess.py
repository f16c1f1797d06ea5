import pickle

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from mobilevision.classification.preprocess import CropTransform, center_crop, resize_short_side


@pytest.mark.parametrize(
    ("height", "width", "resized"),
    [(100, 200, (50, 100)), (200, 100, (100, 50)), (64, 64, (50, 50)), (10, 25, (50, 125)), (3, 5, (50, 83))],
)
def test_the_short_side_is_resized_and_the_aspect_stays(height, width, resized, gradient):
    assert resize_short_side(gradient(height, width), 50).shape == (*resized, 3)


def test_shrinking_averages_every_pixel():
    # Single pixels on black: a filter of four pixels would find all of them or none.
    image = np.zeros((64, 64, 3), np.uint8)
    image[::8, ::8] = 255
    shrunk = resize_short_side(image, 8)
    assert np.unique(shrunk).tolist() == [4]


def test_the_crop_is_in_the_middle(gradient):
    assert center_crop(gradient(4, 6), 2)[..., :2].tolist() == gradient(4, 6)[1:3, 2:4, :2].tolist()


def test_the_middle_seven_eighths_are_cropped():
    image = np.zeros((256, 512, 3), np.uint8)
    image[16:240, 144:368] = 200
    pixels = CropTransform(224)(image)
    assert pixels.dtype == torch.uint8
    assert pixels.shape == (3, 224, 224)
    assert torch.all(pixels == 200)


@pytest.mark.parametrize("size", [96, 128, 160, 192, 224])
def test_images_of_any_size_are_accepted(size, gradient):
    for height, width in ((1, 1), (7, 300), (500, 333)):
        assert CropTransform(size)(gradient(height, width)).shape == (3, size, size)


def test_it_is_close_to_torchvision():
    rng = np.random.default_rng(0)
    image = np.kron(rng.integers(0, 256, (15, 20, 3)), np.ones((25, 25, 1))).astype(np.uint8)
    reference = v2.Compose([v2.Resize(256, antialias=True), v2.CenterCrop(224)])
    ours, theirs = CropTransform(224)(image), reference(torch.from_numpy(image).permute(2, 0, 1))
    assert (ours.float() - theirs.float()).abs().mean() < 2.0


def test_the_central_part_is_resized_whatever_its_aspect():
    pixels = np.zeros((80, 160, 3), np.uint8)
    pixels[5:75, 10:150] = 200
    whole = CropTransform(32, crop="central", share=0.875)(pixels)
    assert whole.shape == (3, 32, 32)
    assert (whole == 200).all()
    assert CropTransform(32, crop="central")(np.zeros((1, 1, 3), np.uint8)).shape == (3, 32, 32)
    with pytest.raises(ValueError, match="crop must be one of short_side, central, got 'middle'"):
        CropTransform(32, crop="middle")
    with pytest.raises(ValueError, match="share must be above 0 and at most 1, got 0"):
        CropTransform(32, share=0)


def test_it_travels_to_workers_and_is_its_values():
    transform = CropTransform(32, crop="central", share=0.5)
    assert pickle.loads(pickle.dumps(transform)) == transform != CropTransform(32)
