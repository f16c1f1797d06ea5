from pathlib import Path

import numpy as np
import pytest
import torch

from mobilevision.classification import Classifier
from mobilevision.models import get_model

PICTURES = ("cat", "bird", "owl", "grace_hopper", "kite_and_cold")


@pytest.fixture(scope="module")
def network(shared: Path) -> Classifier:
    network = get_model("mobilenet_v2", pretrained=shared / "weights/mobilenet_v2_1.0_224_quant.tflite").eval()
    assert isinstance(network, Classifier)
    return network


@torch.inference_mode()
@pytest.mark.parametrize("picture", PICTURES)
def test_the_logits_are_tensorflows(network, references, read_picture, picture):
    logits = network(read_picture(picture, 224))[0].numpy()

    np.testing.assert_allclose(logits, references[f"mobilenet_v2/{picture}/logits"], atol=2e-5)


def test_the_background_is_kept_as_the_first_of_1001_classes(network):
    assert network.num_classes == 1001
    assert network.head.linear.out_features == 1001
    assert network.options["background"] == "first"


def test_pictures_are_cut_as_tensorflow_measured(network):
    # It says nothing of how pictures are cut: predict and validate do what they do by default.
    assert (network.eval_crop, network.crop_share, network.input_size) == ("short_side", 0.875, 224)


@torch.inference_mode()
def test_floats_from_0_to_1_are_taken_like_uint8(network, references, read_picture):
    logits = network(read_picture("cat", 224) / 255)[0].numpy()

    np.testing.assert_allclose(logits, references["mobilenet_v2/cat/logits"], atol=1e-4)
