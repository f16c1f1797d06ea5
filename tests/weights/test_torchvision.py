"""Networks of this library load in torchvision."""

import pytest
import torch
from torchvision.models import mobilenet_v2 as torchvision_mobilenet_v2

from mobilevision.backbone.normalization import IMAGENET_MEAN, IMAGENET_STD
from mobilevision.classification import mobilenet_v2
from mobilevision.detection import ssdlite_mobilenet_v2
from mobilevision.weights.card import Weights, WeightsCard
from mobilevision.weights.state_dict import recognize_state_dict
from mobilevision.weights.torchvision import to_torchvision


def weights_of(network):
    return Weights(network.state_dict(), WeightsCard.of(network))


@torch.inference_mode()
@pytest.mark.parametrize("eps", [1e-5, 1e-3])
@pytest.mark.parametrize("width", [0.35, 1.4])
def test_torchvision_loads_it_strictly_and_agrees(width, eps, trained):
    network = trained(mobilenet_v2(4, width_mult=width, norm_eps=eps, mean=IMAGENET_MEAN, std=IMAGENET_STD))
    theirs = torchvision_mobilenet_v2(num_classes=4, width_mult=width).eval()

    theirs.load_state_dict(to_torchvision(weights_of(network)), strict=True)

    images = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(theirs(network.normalization(images)), network(images), atol=1e-4, rtol=1e-4)


def test_there_and_back_every_tensor_is_the_same_to_the_bit(reference):
    converted = to_torchvision(recognize_state_dict(reference.state_dict()))

    assert converted.keys() == reference.state_dict().keys()
    assert all(torch.equal(converted[name], tensor) for name, tensor in reference.state_dict().items())


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"padding": "tf_same"}, "torchvision's mobilenet_v2 has padding symmetric only, got tf_same"),
        ({"round_to": 1}, r"has channels \(16, .*\) only, got \(11, "),
        ({"depth_mult": 1.2}, "has depth_mult 1.0 only, got 1.2"),
        ({"output_stride": 16}, "has output_stride 32 only, got 16"),
    ],
)
def test_what_torchvision_does_not_compute_is_refused(option, message):
    with pytest.raises(ValueError, match=message):
        to_torchvision(weights_of(mobilenet_v2(2, width_mult=0.35, **option)))


def test_options_that_change_nothing_at_a_width_do_not_matter():
    network = mobilenet_v2(2, min_channels=16, scale_last=True)

    assert to_torchvision(weights_of(network)).keys() == torchvision_mobilenet_v2(num_classes=2).state_dict().keys()


def test_a_detector_is_refused():
    with pytest.raises(ValueError, match="torchvision has classification only, got detection"):
        to_torchvision(weights_of(ssdlite_mobilenet_v2(2, width_mult=0.35)))
