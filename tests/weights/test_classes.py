import pytest
import torch

from mobilevision.classification import mobilenet_v2
from mobilevision.detection import ssdlite_mobilenet_v2
from mobilevision.weights.card import Weights, WeightsCard
from mobilevision.weights.classes import drop_background


def weights_of(network) -> Weights:
    return Weights(network.state_dict(), WeightsCard.of(network))


@torch.inference_mode()
def test_the_other_classes_move_up_by_one():
    network = mobilenet_v2(3, width_mult=0.35).eval()
    network.class_names = ("background", "cat", "dog")

    tensors, card = drop_background(weights_of(network))
    smaller = mobilenet_v2(**card.options).eval()
    smaller.load_state_dict(tensors)

    images = torch.rand(2, 3, 64, 64)
    assert card.class_names == ("cat", "dog")
    torch.testing.assert_close(smaller(images), network(images)[:, 1:])


def test_a_classifier_of_one_class_has_none_to_spare():
    with pytest.raises(ValueError, match=r"only a classifier of two classes or more .*, got mobilenet_v2 of 1"):
        drop_background(weights_of(mobilenet_v2(1, width_mult=0.35)))


def test_a_detector_is_refused():
    with pytest.raises(ValueError, match="got ssdlite_mobilenet_v2 of 3"):
        drop_background(weights_of(ssdlite_mobilenet_v2(3, width_mult=0.35)))
