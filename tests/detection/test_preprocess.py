import pickle

import cv2
import numpy as np
import torch

from mobilevision.detection.preprocess import LabeledImage, StretchTransform, preprocess_labeled

IMAGE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)


def test_evaluation_resizes_to_a_square_whatever_the_aspect():
    tensor = pickle.loads(pickle.dumps(StretchTransform(32)))(IMAGE)
    assert tensor.dtype == torch.uint8
    expected = cv2.resize(IMAGE, (32, 32), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(tensor.permute(1, 2, 0), expected)


def test_an_image_of_the_right_size_is_not_changed_and_its_channels_lie_last_in_memory():
    tensor = StretchTransform(32)(IMAGE[:32, :32])
    np.testing.assert_array_equal(tensor.permute(1, 2, 0), IMAGE[:32, :32])
    assert tensor.stride() == (1, 96, 3)


def test_boxes_are_scaled_with_the_image():
    sample = LabeledImage(IMAGE, np.array([[8, 6, 40, 30]], np.float32), np.array([0]))
    transformed = preprocess_labeled(sample, StretchTransform(40))
    assert transformed.boxes.tolist() == [[4, 4, 20, 20]]
    assert transformed.labels.tolist() == [0]
    assert transformed.boxes.dtype == torch.float32
    none = LabeledImage(IMAGE, np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    assert preprocess_labeled(none, StretchTransform(40)).boxes.shape == (0, 4)
