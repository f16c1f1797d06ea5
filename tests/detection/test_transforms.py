import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mobilevision.detection.preprocess import LabeledImage, StretchTransform, preprocess_labeled
from mobilevision.detection.transforms import (
    CROP_AREA,
    CROP_ASPECT,
    MEAN_PIXEL,
    DetectionAugment,
    crop_randomly,
    cut_out,
    draw_windows,
    held_shares,
    make_view,
    zoom_out_randomly,
)


def make_sample(boxes, height=60, width=80):
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return LabeledImage(image, np.array(boxes, dtype=np.float32).reshape(-1, 4), np.arange(len(boxes)))


def crop(sample, seed):
    """The part of an image that is cropped, with the boxes that stay, in its pixels."""
    height, width = sample.image.shape[:2]
    whole = np.array([0, 0, width, height])
    part, stays = crop_randomly(sample.boxes, whole, (height, width), np.random.default_rng(seed))
    left, top, right, bottom = part
    boxes = np.clip(sample.boxes[stays], np.tile(part[:2], 2), np.tile(part[2:], 2)) - np.tile(part[:2], 2)
    return LabeledImage(sample.image[top:bottom, left:right], boxes, sample.labels[stays])


def number_pixels(height, width):
    """An image whose red and green say where each pixel was."""
    rows, columns = np.mgrid[:height, :width].astype(np.uint8)
    return np.stack([rows, columns, np.zeros_like(rows)], axis=2)


def test_training_without_augmentation_is_evaluation():
    sample = make_sample([[8, 6, 40, 30], [0, 0, 80, 60]])
    plain = DetectionAugment(40, crop=False, flip=False)(sample, seed=5)
    expected = preprocess_labeled(sample, StretchTransform(40))
    assert torch.equal(plain.image, expected.image)
    torch.testing.assert_close(plain.boxes, expected.boxes)
    assert torch.equal(plain.labels, expected.labels)


def test_a_flip_mirrors_image_and_boxes_together():
    sample = make_sample([[8, 6, 40, 30]], 64, 64)
    transform = DetectionAugment(64, crop=False)
    flipped = [transform(sample, seed) for seed in range(64)]
    mirrored = [result for result in flipped if result.boxes.tolist() == [[24, 6, 56, 30]]]
    kept = [result for result in flipped if result.boxes.tolist() == [[8, 6, 40, 30]]]
    assert len(mirrored) + len(kept) == 64
    assert 16 < len(mirrored) < 48
    np.testing.assert_array_equal(mirrored[0].image.permute(1, 2, 0), sample.image[:, ::-1])
    np.testing.assert_array_equal(kept[0].image.permute(1, 2, 0), sample.image)


def test_photometric_changes_colors_and_no_boxes():
    sample = make_sample([[8, 6, 40, 30]], 60, 60)
    transform = DetectionAugment(60, crop=False, flip=False, photometric=True)
    results = [transform(sample, seed) for seed in range(8)]
    assert all(result.boxes.tolist() == [[8, 6, 40, 30]] for result in results)
    assert len({result.image.float().mean().item() for result in results}) > 4


def test_the_same_seed_gives_the_same_sample_from_any_transform_and_another_seed_another():
    sample = make_sample([[8, 6, 40, 30], [30, 20, 70, 50]])
    first, second = (DetectionAugment(32, photometric=True, zoom_out=True) for _ in range(2))
    first(sample, seed=1)  # must leave no trace
    results = [first(sample, seed=2), second(sample, seed=2)]
    assert all(torch.equal(*pair) for pair in zip(*results, strict=True))
    assert not torch.equal(first(sample, seed=3).image, results[0].image)


def test_a_sample_does_not_touch_anybody_elses_random_numbers():
    np.random.seed(0)  # noqa: NPY002 - what a user may do
    expected = np.random.random()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    DetectionAugment(32, photometric=True)(make_sample([[8, 6, 40, 30]]), seed=2)
    assert np.random.random() == expected  # noqa: NPY002


@pytest.mark.parametrize("photometric", [False, True])
def test_an_image_without_objects_is_augmented(photometric):
    transform = DetectionAugment(32, photometric=photometric)
    for seed in range(20):
        image, boxes, labels = transform(make_sample([]), seed)
        assert image.shape == (3, 32, 32)
        assert boxes.shape == (0, 4)
        assert boxes.dtype == torch.float32
        assert labels.shape == (0,)
        assert labels.dtype == torch.int64


def test_held_shares_by_hand():
    boxes = np.array([[0, 0, 10, 10], [5, 5, 15, 25], [50, 50, 60, 60]], dtype=np.float32)
    windows = np.array([[0, 0, 10, 10], [5, 0, 20, 15]])
    np.testing.assert_allclose(held_shares(boxes, windows), [[1, 25 / 200, 0], [0.5, 0.5, 0]])


def test_windows_keep_area_and_aspect_and_lie_within_the_image():
    generator = np.random.default_rng(0)
    windows = np.concatenate([draw_windows(300, 400, generator) for _ in range(50)])
    sides = windows[:, 2:] - windows[:, :2]
    assert (windows[:, :2] >= 0).all()
    assert (windows[:, 2:] <= [400, 300]).all()
    areas, aspects = sides.prod(axis=1) / (300 * 400), sides[:, 0] / sides[:, 1]
    assert (areas > CROP_AREA[0] - 0.01).all()
    assert (aspects > CROP_ASPECT[0] - 0.02).all()
    assert (aspects < CROP_ASPECT[1] + 0.02).all()
    # Every place is reached, the borders included.
    assert windows[:, :2].min(axis=0).tolist() == [0, 0]
    assert windows[:, 2:].max(axis=0).tolist() == [400, 300]


def test_a_crop_moves_its_boxes_with_its_pixels():
    sample = LabeledImage(number_pixels(60, 80), np.array([[20, 10, 50, 40]], np.float32), np.array([3]))
    seen = 0
    for seed in range(100):
        cropped = crop(sample, seed)
        top, left, _ = cropped.image[0, 0].tolist()
        height, width = cropped.image.shape[:2]
        np.testing.assert_array_equal(cropped.image, sample.image[top : top + height, left : left + width])
        if len(cropped.boxes):
            expected = np.clip([20 - left, 10 - top, 50 - left, 40 - top], 0, [width, height] * 2)
            assert cropped.boxes.tolist() == [expected.tolist()]
            assert cropped.labels.tolist() == [3]
            seen += (height, width) != (60, 80)
    assert seen > 30


def test_some_images_stay_whole_and_most_do_not():
    sample = make_sample([[20, 10, 50, 40]])
    whole = sum(crop(sample, seed).image.shape == (60, 80, 3) for seed in range(400))
    assert 0.10 < whole / 400 < 0.25


def test_a_box_stays_only_if_the_window_holds_the_drawn_share_of_it(monkeypatch):
    monkeypatch.setattr("mobilevision.detection.transforms.COVERAGES", (0.7,))
    boxes = [[20, 10, 50, 40], [0, 0, 30, 20], [40, 30, 80, 60]]
    sample = LabeledImage(number_pixels(60, 80), np.array(boxes, np.float32), np.arange(3))
    dropped = 0
    for seed in range(200):
        cropped = crop(sample, seed)
        top, left, _ = cropped.image[0, 0].tolist()
        height, width = cropped.image.shape[:2]
        shares = held_shares(sample.boxes, np.array([[left, top, left + width, top + height]]))[0]
        assert cropped.labels.tolist() == np.flatnonzero(shares >= 0.7).tolist()
        assert len(cropped.labels) > 0
        dropped += ((shares > 0) & (shares < 0.7)).any()
    assert dropped > 20


def test_no_window_that_holds_enough_leaves_the_image_whole(monkeypatch):
    monkeypatch.setattr("mobilevision.detection.transforms.COVERAGES", (1.0,))
    sample = make_sample([[0, 0, 80, 60]])
    for seed in range(20):
        assert crop(sample, seed).image.shape == (60, 80, 3)


def test_zooming_out_puts_half_of_the_images_on_a_larger_canvas():
    image = np.array([0, 0, 80, 60])
    windows = [zoom_out_randomly(image, np.random.default_rng(seed)) for seed in range(400)]
    zoomed = np.array([window for window in windows if (window != image).any()])
    assert 160 < len(zoomed) < 240
    assert (zoomed[:, :2] <= 0).all()
    assert (zoomed[:, 2:] >= [80, 60]).all()
    factors = (zoomed[:, 2:] - zoomed[:, :2]) / [80, 60]
    assert factors.min() < 1.2
    assert 3.8 < factors.max() <= 4
    np.testing.assert_allclose(factors[:, 0], factors[:, 1], atol=1 / 60)
    # Every place of the canvas is reached, its borders included.
    slack = (zoomed[:, 2:] - [80, 60]) / np.maximum(zoomed[:, 2:] - zoomed[:, :2] - [80, 60], 1)
    assert slack.min() < 0.05
    assert slack.max() > 0.95


def test_what_is_not_image_is_the_mean_pixel_and_boxes_move_with_their_pixels():
    # 40 x 20 pixels at (40, 20) of a canvas of 160 x 160, shown in 80 x 80: half the size at (20, 10).
    image = np.full((20, 40, 3), 200, np.uint8)
    boxes = np.array([[0, 0, 40, 20], [10, 4, 20, 12]], np.float32)
    square, moved = cut_out(image, boxes, make_view(np.array([-40, -20, 120, 140]), image.shape[:2], 80))
    assert moved.tolist() == [[20, 10, 40, 20], [25, 12, 30, 16]]
    expected = np.full((80, 80, 3), MEAN_PIXEL, np.uint8)
    expected[10:20, 20:40] = 200
    np.testing.assert_array_equal(square, expected)


def test_colors_change_on_the_image_and_not_on_its_canvas():
    sample = make_sample([[0, 0, 80, 60]])
    transform = DetectionAugment(32, crop=False, photometric=True, zoom_out=True)
    canvases = 0
    for seed in range(20):
        image, boxes, _ = transform(sample, seed)
        left, top, right, bottom = boxes[0].long().tolist()
        outside = torch.ones(32, 32, dtype=torch.bool)
        outside[top:bottom, left:right] = False
        assert (image[:, outside] == MEAN_PIXEL).all()
        canvases += bool(outside.any())
    assert canvases > 4


def test_an_image_that_becomes_small_keeps_its_mean():
    image = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    square, _ = cut_out(
        image, np.zeros((0, 4), np.float32), make_view(np.array([-300, -300, 500, 500]), image.shape[:2], 80)
    )
    assert square[30:50, 30:50].mean() == pytest.approx(image.mean(), abs=1)


def test_a_sliver_of_an_image_is_a_pixel_at_least():
    image = np.full((100, 100, 3), 200, np.uint8)
    boxes = np.array([[0, 0, 100, 100]], np.float32)
    square, moved = cut_out(image, boxes, make_view(np.array([99, 99, 499, 499]), image.shape[:2], 32))
    assert moved.tolist() == [[0, 0, 1, 1]]
    assert (square[0, 0] == 200).all()
    square, moved = cut_out(image, boxes, make_view(np.array([-399, -399, 1, 1]), image.shape[:2], 32))
    assert moved.tolist() == [[31, 31, 32, 32]]


@pytest.mark.parametrize("seed", range(12))
def test_a_mask_is_shown_as_its_image_is(seed):
    # One gray for each class: what the square shows is the mask, but for pixels on the line between the two.
    mask = np.zeros((60, 80), np.uint8)
    mask[20:45, 10:50] = 1
    sample = LabeledImage(
        np.repeat(200 * mask[..., None], 3, axis=2), np.array([[10, 20, 50, 45]], np.float32), np.array([0])
    )
    (image, boxes, _), view = DetectionAugment(64, zoom_out=True).with_view(sample, seed)
    shown = view.show_mask(mask, fill=255)
    gray = image[0].numpy()
    assert ((gray == MEAN_PIXEL) == (shown == 255)).mean() > 0.97
    assert ((gray > 150) == (shown == 1)).mean() > 0.95
    for left, top, right, bottom in boxes.round().long().tolist():
        assert (shown[top + 1 : bottom - 1, left + 1 : right - 1] == 1).all()


def test_zooming_out_loses_no_object():
    sample = make_sample([[8, 6, 40, 30], [0, 0, 1, 1], [79, 59, 80, 60]])
    transform = DetectionAugment(32, crop=False, zoom_out=True)
    for seed in range(40):
        result = transform(sample, seed)
        assert result.labels.tolist() == [0, 1, 2]
        assert (result.boxes[:, 2:] > result.boxes[:, :2]).all()


@st.composite
def samples(draw):
    height, width = draw(st.integers(1, 90)), draw(st.integers(1, 90))
    fractions = st.floats(0, 1, width=32)
    boxes = []
    for _ in range(draw(st.integers(0, 4))):
        corners = [draw(fractions) * side for side in (width, height, width, height)]
        left, right = sorted(corners[::2])
        top, bottom = sorted(corners[1::2])
        boxes.append((left, top, right, bottom))
    # As the dataset's reader leaves them: within the image and at least a pixel wide.
    return make_sample([box for box in boxes if box[2] - box[0] >= 1 and box[3] - box[1] >= 1], height, width)


@given(samples(), st.integers(0, 2**32 - 1), st.booleans(), st.booleans(), st.sampled_from([8, 32, 97]))
def test_boxes_always_come_out_within_the_input_with_an_area_and_their_own_label(sample, seed, crop, zoom_out, side):
    transform = DetectionAugment(side, photometric=True, crop=crop, zoom_out=zoom_out)
    image, boxes, labels = transform(sample, seed)
    assert image.shape == (3, side, side)
    assert len(boxes) == len(labels) <= len(sample.boxes)
    assert ((boxes >= 0) & (boxes <= side)).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    # Without a crop all stay; with one they keep their order.
    assert crop or len(labels) == len(sample.labels)
    assert labels.tolist() == sorted(set(labels.tolist()))
    again = transform(sample, seed)
    assert all(torch.equal(*pair) for pair in zip((image, boxes, labels), again, strict=True))


@given(samples(), st.integers(0, 2**32 - 1))
def test_a_box_goes_only_where_the_crop_holds_too_little_of_it(sample, seed):
    height, width = sample.image.shape[:2]
    generator = np.random.default_rng(seed)
    window = zoom_out_randomly(np.array([0, 0, width, height]), generator)
    part, stays = crop_randomly(sample.boxes, window, (height, width), generator)
    assert (part[:2] >= window[:2]).all()
    assert (part[2:] <= window[2:]).all()
    if (part == window).all():
        assert stays.all()
        return
    shares = held_shares(sample.boxes, part[None])[0]
    visible = np.minimum(sample.boxes[:, 2:], part[2:]) - np.maximum(sample.boxes[:, :2], part[:2])
    wide = (visible >= 1).all(axis=1)
    # What stays holds at least as much as what goes, but for slivers.
    assert not stays[~wide].any()
    assert min(shares[stays], default=1) >= max(shares[wide & ~stays], default=0)
