from copy import deepcopy
from pathlib import Path

import cv2
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mobilevision.backbone.inverted_residual import ConvNorm
from mobilevision.classification import mobilenet_v2
from mobilevision.detection import ssdlite_mobilenet_v2
from mobilevision.images import find_images, read_image
from mobilevision.models import get_model
from mobilevision.network import Network
from mobilevision.weights.calibrate import calibrate


def fold_away(network: Network) -> None:
    """Leave a network as a .tflite file does: large filters, statistics of 0 and 1, shifts in the bias."""
    for module in network.modules():
        if isinstance(module, ConvNorm):
            nn.init.normal_(module.conv.weight, std=0.3 * torch.rand(1).item() + 0.1)
            nn.init.normal_(module.norm.bias, std=0.5)
            module.norm.running_var.fill_(1 - module.norm.eps)


@pytest.fixture
def classifier() -> Network:
    network = mobilenet_v2(3, width_mult=0.35, dropout=0.0).eval()
    fold_away(network)
    return network


@pytest.fixture
def images() -> Tensor:
    return torch.randint(0, 256, (8, 3, 64, 64), dtype=torch.uint8)


@torch.no_grad()
def test_the_function_is_unchanged(classifier, images):
    before = classifier(images)

    calibrate(classifier, images.split(3))

    torch.testing.assert_close(classifier(images), before, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_training_mode_computes_what_evaluation_does_on_the_images_themselves(classifier, images):
    assert (classifier.train()(images) - classifier.eval()(images)).abs().max() > 0.1

    calibrate(classifier, [images])

    evaluated = classifier(images)
    torch.testing.assert_close(classifier.train()(images), evaluated, atol=1e-3, rtol=1e-3)


def test_every_filter_has_unit_norm_afterwards(classifier, images):
    calibrate(classifier, [images])

    norms = [
        module.conv.weight.flatten(1).norm(dim=1) for module in classifier.modules() if isinstance(module, ConvNorm)
    ]
    torch.testing.assert_close(torch.cat(norms), torch.ones(len(torch.cat(norms))))


def test_a_filter_of_zeros_stays_one(classifier, images):
    classifier.backbone.stem.conv.weight.data[0] = 0

    calibrate(classifier, [images])

    assert (classifier.backbone.stem.conv.weight[0] == 0).all()
    assert all(tensor.isfinite().all() for tensor in classifier.state_dict().values())


@torch.no_grad()
def test_a_detector_is_calibrated_heads_and_all(images):
    network = ssdlite_mobilenet_v2(2, width_mult=0.35, input_size=64).eval()
    fold_away(network)
    before = network(images)

    calibrate(network, [images])

    for after, expected in zip(network(images), before, strict=True):
        torch.testing.assert_close(after, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_is_left_as_it_was_and_nothing_keeps_counting(classifier, images, training):
    classifier.train(training)

    calibrate(classifier, [images])

    assert classifier.training is training
    assert not any(module._forward_hooks for module in classifier.modules())


def test_no_images_are_refused_before_anything_changes(classifier):
    before = {name: tensor.clone() for name, tensor in classifier.state_dict().items()}

    with pytest.raises(ValueError, match="images must not be empty"):
        calibrate(classifier, [])

    assert all(torch.equal(tensor, before[name]) for name, tensor in classifier.state_dict().items())


@torch.no_grad()
def test_a_folded_file_trains_from_the_loss_of_its_evaluation(shared: Path):
    network = get_model("mobilenet_v2", pretrained=shared / "weights/mobilenet_v2_1.0_224_quant.tflite", dropout=0.0)
    paths = find_images(shared / "data/imagenet-mini/val")[::5]
    resized = [cv2.resize(read_image(path), (64, 64), interpolation=cv2.INTER_AREA) for path in paths]
    images = torch.stack([torch.from_numpy(image).permute(2, 0, 1) for image in resized])
    labels = network.eval()(images).argmax(dim=1)

    def loss(*, training: bool) -> float:
        # A copy, as a pass in training mode moves the running statistics.
        return float(F.cross_entropy(deepcopy(network).train(training)(images), labels))

    evaluated, folded = loss(training=False), loss(training=True)
    calibrate(network, [images])

    assert loss(training=False) == pytest.approx(evaluated, abs=1e-4)
    assert folded > evaluated + 4
    assert loss(training=True) == pytest.approx(evaluated, abs=0.05)
