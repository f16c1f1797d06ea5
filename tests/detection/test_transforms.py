import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mobilevision.detection.transforms import (
    CROP_AREA,
    CROP_ASPECT,
    EvalTransform,
    Labelled,
    TrainTransform,
    crop_randomly,
    draw_windows,
    held_shares,
)


def make_sample(boxes, height=60, width=80):
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Labelled(image, np.array(boxes, dtype=np.float32).reshape(-1, 4), np.arange(len(boxes)))


def number_pixels(height, width):
    """A picture whose red and green say where each pixel was."""
    rows, columns = np.mgrid[:height, :width].astype(np.uint8)
    return np.stack([rows, columns, np.zeros_like(rows)], axis=2)


def test_evaluation_resizes_to_a_square_whatever_the_aspect():
    image = make_sample([]).image
    tensor = EvalTransform(32)(image)
    assert tensor.dtype == torch.uint8
    np.testing.assert_array_equal(tensor.permute(1, 2, 0), cv2.resize(image, (32, 32), interpolation=cv2.INTER_LINEAR))


def test_a_picture_of_the_right_size_is_not_changed_and_its_channels_lie_last_in_memory():
    image = make_sample([], 32, 32).image
    tensor = EvalTransform(32)(image)
    np.testing.assert_array_equal(tensor.permute(1, 2, 0), image)
    assert tensor.stride() == (1, 96, 3)


def test_boxes_are_scaled_with_the_picture():
    transformed = EvalTransform(40).with_boxes(make_sample([[8, 6, 40, 30]]))
    assert transformed.boxes.tolist() == [[4, 4, 20, 20]]
    assert transformed.labels.tolist() == [0]
    assert transformed.boxes.dtype == torch.float32


def test_training_without_augmentation_is_evaluation():
    sample = make_sample([[8, 6, 40, 30], [0, 0, 80, 60]])
    plain = TrainTransform(40, crop=False, flip=False)(sample, seed=5)
    expected = EvalTransform(40).with_boxes(sample)
    assert torch.equal(plain.image, expected.image)
    torch.testing.assert_close(plain.boxes, expected.boxes)
    assert torch.equal(plain.labels, expected.labels)


def test_a_flip_mirrors_picture_and_boxes_together():
    sample = make_sample([[8, 6, 40, 30]], 64, 64)
    transform = TrainTransform(64, crop=False)
    flipped = [transform(sample, seed) for seed in range(64)]
    mirrored = [result for result in flipped if result.boxes.tolist() == [[24, 6, 56, 30]]]
    kept = [result for result in flipped if result.boxes.tolist() == [[8, 6, 40, 30]]]
    assert len(mirrored) + len(kept) == 64
    assert 16 < len(mirrored) < 48
    np.testing.assert_array_equal(mirrored[0].image.permute(1, 2, 0), sample.image[:, ::-1])
    np.testing.assert_array_equal(kept[0].image.permute(1, 2, 0), sample.image)


def test_photometric_changes_colours_and_no_boxes():
    sample = make_sample([[8, 6, 40, 30]], 60, 60)
    transform = TrainTransform(60, crop=False, flip=False, photometric=True)
    results = [transform(sample, seed) for seed in range(8)]
    assert all(result.boxes.tolist() == [[8, 6, 40, 30]] for result in results)
    assert len({result.image.float().mean().item() for result in results}) > 4


def test_the_same_seed_gives_the_same_sample_from_any_transform_and_another_seed_another():
    sample = make_sample([[8, 6, 40, 30], [30, 20, 70, 50]])
    first, second = (TrainTransform(32, photometric=True) for _ in range(2))
    first(sample, seed=1)  # must leave no trace
    results = [first(sample, seed=2), second(sample, seed=2)]
    assert all(torch.equal(*pair) for pair in zip(*results, strict=True))
    assert not torch.equal(first(sample, seed=3).image, results[0].image)


def test_a_sample_does_not_touch_anybody_elses_random_numbers():
    np.random.seed(0)  # noqa: NPY002 - what a user may do
    expected = np.random.random()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    TrainTransform(32, photometric=True)(make_sample([[8, 6, 40, 30]]), seed=2)
    assert np.random.random() == expected  # noqa: NPY002


@pytest.mark.parametrize("photometric", [False, True])
def test_a_picture_without_objects_is_augmented(photometric):
    transform = TrainTransform(32, photometric=photometric)
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


def test_windows_keep_area_and_aspect_and_lie_within_the_picture():
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
    sample = Labelled(number_pixels(60, 80), np.array([[20, 10, 50, 40]], np.float32), np.array([3]))
    seen = 0
    for seed in range(100):
        cropped = crop_randomly(sample, np.random.default_rng(seed))
        top, left, _ = cropped.image[0, 0].tolist()
        height, width = cropped.image.shape[:2]
        np.testing.assert_array_equal(cropped.image, sample.image[top : top + height, left : left + width])
        if len(cropped.boxes):
            expected = np.clip([20 - left, 10 - top, 50 - left, 40 - top], 0, [width, height] * 2)
            assert cropped.boxes.tolist() == [expected.tolist()]
            assert cropped.labels.tolist() == [3]
            seen += (height, width) != (60, 80)
    assert seen > 30


def test_some_pictures_stay_whole_and_most_do_not():
    sample = make_sample([[20, 10, 50, 40]])
    whole = sum(crop_randomly(sample, np.random.default_rng(seed)).image.shape == (60, 80, 3) for seed in range(400))
    assert 0.10 < whole / 400 < 0.25


def test_a_box_stays_only_if_the_window_holds_the_drawn_share_of_it(monkeypatch):
    monkeypatch.setattr("mobilevision.detection.transforms.COVERAGES", (0.7,))
    boxes = [[20, 10, 50, 40], [0, 0, 30, 20], [40, 30, 80, 60]]
    sample = Labelled(number_pixels(60, 80), np.array(boxes, np.float32), np.arange(3))
    dropped = 0
    for seed in range(200):
        cropped = crop_randomly(sample, np.random.default_rng(seed))
        top, left, _ = cropped.image[0, 0].tolist()
        height, width = cropped.image.shape[:2]
        shares = held_shares(sample.boxes, np.array([[left, top, left + width, top + height]]))[0]
        assert cropped.labels.tolist() == np.flatnonzero(shares >= 0.7).tolist()
        assert len(cropped.labels) > 0
        dropped += ((shares > 0) & (shares < 0.7)).any()
    assert dropped > 20


def test_no_window_that_holds_enough_leaves_the_picture_whole(monkeypatch):
    monkeypatch.setattr("mobilevision.detection.transforms.COVERAGES", (1.0,))
    sample = make_sample([[0, 0, 80, 60]])
    for seed in range(20):
        assert crop_randomly(sample, np.random.default_rng(seed)).image.shape == (60, 80, 3)


@st.composite
def samples(draw):
    height, width = draw(st.integers(1, 90)), draw(st.integers(1, 90))
    fractions = st.floats(0, 1, width=32)
    boxes = []
    for _ in range(draw(st.integers(0, 4))):
        left, top = draw(fractions) * (width - 1), draw(fractions) * (height - 1)
        boxes.append((left, top, min(left + 1 + draw(fractions) * width, width), min(top + 1 + height / 3, height)))
    # As the set's reader leaves them: within the picture and at least a pixel wide.
    return make_sample([box for box in boxes if box[2] - box[0] >= 1 and box[3] - box[1] >= 1], height, width)


@given(samples(), st.integers(0, 2**32 - 1))
def test_boxes_always_come_out_within_the_input_with_an_area_and_a_label(sample, seed):
    image, boxes, labels = TrainTransform(32, photometric=True)(sample, seed)
    assert image.shape == (3, 32, 32)
    assert len(boxes) == len(labels) <= len(sample.boxes)
    assert ((boxes >= 0) & (boxes <= 32)).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()
