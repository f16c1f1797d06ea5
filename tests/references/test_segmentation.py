from pathlib import Path

import numpy as np
import pytest
import torch

from mobilevision.models import get_model
from mobilevision.segmentation import DeepLabV3

PICTURES = ("bird_segmentation", "cat", "pets")


@pytest.fixture(scope="module")
def network(shared: Path) -> DeepLabV3:
    network = get_model("deeplabv3_mobilenet_v2", pretrained=shared / "weights/deeplabv3_mnv2_pascal_quant.tflite")
    assert isinstance(network, DeepLabV3)
    return network.eval()


@torch.inference_mode()
@pytest.mark.parametrize("picture", PICTURES)
def test_the_logits_and_the_mask_are_tensorflows(network, references, read_picture, picture):
    images = read_picture(picture, 513)

    coarse = network.predict_coarse(images)[0].numpy()
    mask = network(images)[0].argmax(dim=0).numpy()

    np.testing.assert_allclose(coarse, references[f"deeplabv3/{picture}/logits"], atol=1e-4)
    assert (mask == references[f"deeplabv3/{picture}/mask"]).mean() >= 0.9999
