"""Networks from TensorFlow's files compute what TensorFlow computed from them."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mobilevision.classification.preprocess import CropTransform
from mobilevision.detection.boxes import cxcywh_to_xyxy
from mobilevision.head import Selection
from mobilevision.images import read_image, to_tensor
from mobilevision.models import load_model
from mobilevision.network import Network

TF_COORDINATES = [1, 0, 3, 2]
DETECTED = ("grace_hopper", "kite_and_cold", "squat", "face", "cat")
"""No person is in the last."""
MIN_SCORE = 0.05


@pytest.fixture(scope="module")
def references(shared: Path) -> Mapping[str, np.ndarray]:
    """Arrays by ``network/image/what``."""
    with np.load(shared / "references/references.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def read(shared: Path) -> Callable[[str, int], Tensor]:
    """Read an image of the references by name and side, as a batch of one."""
    return lambda name, side: to_tensor(read_image(shared / f"references/inputs/{name}_{side}.png"))[None]


@pytest.fixture(scope="module")
def classifier(shared: Path) -> Network:
    return load_model(shared / "weights/mobilenet_v2_1.0_224_quant.tflite")


@pytest.fixture(scope="module")
def detector(shared: Path) -> Network:
    return load_model(shared / "weights/ssdlite_mobilenet_v2_person.pb")


@pytest.fixture(scope="module")
def segmenter(shared: Path) -> Network:
    return load_model(shared / "weights/deeplabv3_mnv2_pascal_quant.tflite")


@torch.inference_mode()
@pytest.mark.parametrize("image", ["cat", "bird", "owl", "grace_hopper", "kite_and_cold"])
def test_a_classifiers_logits_from_bytes_and_from_floats(classifier, references, read, image):
    pixels = read(image, 224)
    for images in (pixels, pixels / 255):
        np.testing.assert_allclose(classifier(images)[0], references[f"mobilenet_v2/{image}/logits"], atol=1e-4)


def test_a_classifier_keeps_its_background_and_the_default_crop(classifier):
    # The file holds nothing of how images are cropped: predict and validate do what they do by default.
    assert (classifier.head.num_classes, classifier.head.config.background) == (1001, "first")
    assert classifier.head.preprocess == CropTransform(224, crop="short_side", share=0.875)


@torch.inference_mode()
@pytest.mark.parametrize("image", DETECTED)
def test_a_detectors_offsets_logits_and_detections(detector, references, read, image):
    outputs = detector(read(image, 300))
    (found,) = detector.head.postprocess(outputs, torch.tensor([[300, 300]]), Selection(score_threshold=MIN_SCORE))

    offsets, logits = outputs
    np.testing.assert_allclose(offsets[0][:, TF_COORDINATES], references[f"ssdlite/{image}/offsets"], atol=1e-4)
    np.testing.assert_allclose(logits[0], references[f"ssdlite/{image}/class_logits"], atol=1e-4)
    expected_scores, boxes = references[f"ssdlite/{image}/scores"], references[f"ssdlite/{image}/boxes"]
    count = int((expected_scores > MIN_SCORE).sum())
    assert len(found.scores) == count
    np.testing.assert_allclose(found.scores, expected_scores[:count], atol=1e-4)
    np.testing.assert_allclose(found.boxes[:, TF_COORDINATES] / 300, boxes[:count], atol=1e-4)


def test_a_detectors_anchors(detector, references):
    corners = cxcywh_to_xyxy(detector.head.anchors)[:, TF_COORDINATES]
    np.testing.assert_allclose(corners / 300, references["ssdlite/anchors"], atol=1e-6)


@torch.inference_mode()
@pytest.mark.parametrize("image", ["bird_segmentation", "cat", "pets"])
def test_a_segmenters_logits_and_mask(segmenter, references, read, image):
    images = read(image, 513)

    coarse = segmenter.compute(images)["segmentation"][0]
    mask = segmenter(images)[0].argmax(dim=0).numpy()

    np.testing.assert_allclose(coarse, references[f"deeplabv3/{image}/logits"], atol=1e-4)
    assert (mask == references[f"deeplabv3/{image}/mask"]).mean() >= 0.9999
