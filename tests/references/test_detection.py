from pathlib import Path

import numpy as np
import pytest
import torch
from mobilevision.detection.postprocess import clip_detections, select_detections

from mobilevision.detection import SSDLite
from mobilevision.detection.boxes import cxcywh_to_xyxy, decode_boxes
from mobilevision.models import get_model

PICTURES = ("grace_hopper", "kite_and_cold", "squat", "face", "cat")
"""No person is in the last."""
SIDE = 300
MIN_SCORE = 0.05


@pytest.fixture(scope="module")
def network(shared: Path) -> SSDLite:
    network = get_model("ssdlite_mobilenet_v2", pretrained=shared / "weights/ssdlite_mobilenet_v2_person.pb").eval()
    assert isinstance(network, SSDLite)
    return network


def test_the_anchors_are_tensorflows(network, references):
    ymin_first = cxcywh_to_xyxy(network.anchors)[:, [1, 0, 3, 2]]

    np.testing.assert_allclose(ymin_first.numpy() / SIDE, references["ssdlite/anchors"], atol=1e-6)


@torch.inference_mode()
@pytest.mark.parametrize("picture", PICTURES)
def test_offsets_and_logits_are_tensorflows(network, references, read_picture, picture):
    offsets, logits = network(read_picture(picture, SIDE))

    np.testing.assert_allclose(offsets[0][:, [1, 0, 3, 2]], references[f"ssdlite/{picture}/offsets"], atol=1e-4)
    np.testing.assert_allclose(logits[0], references[f"ssdlite/{picture}/class_logits"], atol=1e-4)


@torch.inference_mode()
@pytest.mark.parametrize("picture", PICTURES)
def test_the_detections_are_tensorflows(network, references, read_picture, picture):
    offsets, logits = network(read_picture(picture, SIDE))

    selected = select_detections(decode_boxes(offsets, network.anchors), network.scores(logits))
    boxes, scores, _ = (column[0].numpy() for column in clip_detections(selected, SIDE))

    expected_scores = references[f"ssdlite/{picture}/scores"]
    count = int((expected_scores > MIN_SCORE).sum())
    assert int((scores > MIN_SCORE).sum()) == count
    np.testing.assert_allclose(scores[:count], expected_scores[:count], atol=1e-4)
    np.testing.assert_allclose(
        boxes[:count][:, [1, 0, 3, 2]] / SIDE, references[f"ssdlite/{picture}/boxes"][:count], atol=1e-4
    )
