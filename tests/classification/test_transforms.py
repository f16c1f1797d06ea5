import importlib
import random
import sys

import numpy as np
import pytest
import torch

from mobilevision.classification.transforms import ClassificationAugment


def test_the_seed_alone_decides_the_augmentation(gradient):
    transform, image = ClassificationAugment(32), gradient(80, 60)
    first = [transform(image, seed) for seed in range(4)]
    random.seed(1)
    torch.manual_seed(1)
    again = [ClassificationAugment(32)(image, seed) for seed in reversed(range(4))]
    assert all(torch.equal(one, other) for one, other in zip(first, reversed(again), strict=True))
    assert len({one.numpy().tobytes() for one in first}) == 4


@pytest.mark.parametrize(("height", "width"), [(61, 63), (40, 30), (200, 300), (63, 200)])
def test_training_reads_every_pixel_however_much_it_shrinks(height, width):
    image = np.full((height, width, 3), 100, np.uint8)
    image[::2] = 200
    image[:, ::2] //= 2
    transform = ClassificationAugment(32, min_crop_area=1.0)
    means = [transform(image, seed).float().mean().item() for seed in range(4)]
    # Reading every other row or column only would be off by a third.
    assert means == pytest.approx([image.mean()] * 4, rel=0.15)


CHANGES = [{"rand_augment": 9}, {"brightness": 0.5, "saturation": 0.5}, {"contrast": 0.5}, {"random_erase": 1.0}]


@pytest.mark.parametrize("options", CHANGES)
def test_what_changes_pixels_is_decided_by_the_seed_alone_and_disturbs_no_other_generator(options):
    image = np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8)
    transform, plain = ClassificationAugment(32, **options), ClassificationAugment(32)
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first = [transform(image, seed) for seed in range(6)]
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(8)
    again = [ClassificationAugment(32, **options)(image, seed) for seed in reversed(range(6))]
    assert all(torch.equal(one, other) for one, other in zip(first, reversed(again), strict=True))
    assert all(changed.shape == (3, 32, 32) and changed.dtype == torch.uint8 for changed in first)
    assert any(not torch.equal(changed, plain(image, seed)) for seed, changed in enumerate(first))


def test_an_erased_rectangle_is_gray_and_the_rest_as_it_was():
    image = np.full((64, 64, 3), 255, np.uint8)
    transform = ClassificationAugment(64, min_crop_area=1.0, random_erase=1.0)
    for seed in range(8):
        erased = transform(image, seed)
        assert set(erased.unique().tolist()) == {128, 255}
        assert 0.01 < (erased == 128).float().mean() < 0.35
    shares = [bool((ClassificationAugment(64, random_erase=0.5)(image, seed) == 128).any()) for seed in range(60)]
    assert 15 < sum(shares) < 45


def test_the_brightness_changes_no_more_than_asked_for():
    image = np.full((40, 40, 3), 100, np.uint8)
    transform = ClassificationAugment(32, brightness=0.2)
    values = [transform(image, seed).float().mean().item() for seed in range(40)]
    assert 79 <= min(values) < 90
    assert 110 < max(values) <= 121


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rand_augment": 31}, "rand_augment must be from 0 to 30, got 31"),
        ({"brightness": 1.5}, "brightness must be from 0 to 1, got 1.5"),
        ({"random_erase": -0.1}, "random_erase must be from 0 to 1, got -0.1"),
    ],
)
def test_an_augmentation_out_of_range_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ClassificationAugment(32, **options)


def test_augmentation_crops_within_the_image_and_mirrors_half(gradient):
    transform, image = ClassificationAugment(32), gradient(300, 400)
    crops = np.stack([transform(image, seed).numpy() for seed in range(400)]).astype(float)
    assert crops.shape == (400, 3, 32, 32)
    rows, columns = crops[:, 0, :, 0], crops[:, 1, 0, :]
    mirrored = columns[:, 0] > columns[:, -1]
    assert 160 <= mirrored.sum() <= 240
    shares = (rows[:, -1] - rows[:, 0]) * np.abs(columns[:, -1] - columns[:, 0]) / 255**2
    # The first and the last of 32 rows lie 31/32 of the crop apart.
    shares *= (32 / 31) ** 2
    assert 0.07 <= shares.min() < 0.15
    assert 0.85 < shares.max() <= 1.05
    # Mirroring tells nothing of the crop: the two do not share their random numbers.
    assert abs(np.corrcoef(mirrored, shares)[0, 1]) < 0.15


def test_importing_the_augmentation_does_not_ask_for_its_latest_version(monkeypatch):
    monkeypatch.setattr("albumentations.check_version.check_for_updates", lambda: pytest.fail("it asked"))
    importlib.reload(sys.modules["albumentations"])
