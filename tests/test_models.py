import pytest
import torch

from mobilevision.classification import mobilenet_v2
from mobilevision.detection import ssdlite_mobilenet_v2
from mobilevision.models import get_model, list_models, load_model
from mobilevision.weights.file import save_weights


@pytest.fixture
def weights(tmp_path):
    """A classifier of three classes, the first of them the background."""
    network = mobilenet_v2(3, width_mult=0.35, background="first")
    network.class_names = ("background", "cat", "dog")
    save_weights(network, tmp_path / "three.safetensors")
    return tmp_path / "three.safetensors"


def test_another_class_count_keeps_what_fits_and_says_so_in_one_line(weights):
    with pytest.warns(
        UserWarning, match=r"three\.safetensors: loaded 314 of 316 tensors; new: 7 classes of 7"
    ) as warned:
        network = get_model("mobilenet_v2", pretrained=weights, num_classes=7)

    assert "\n" not in str(warned[0].message)
    assert (network.num_classes, network.options["background"]) == (7, None)
    assert torch.equal(network.backbone.stem.conv.weight, load_model(weights).backbone.stem.conv.weight)


def test_one_class_less_is_the_network_without_its_background(weights):
    with pytest.warns(UserWarning, match="adapted: 2 classes of 3 without the background"):
        network = load_model(weights, num_classes=2)

    assert network.class_names == ("cat", "dog")
    assert torch.equal(network.linear.weight, load_model(weights).linear.weight[1:])


def test_the_same_class_count_says_nothing(weights):
    assert load_model(weights, num_classes=3).options["background"] == "first"


def test_a_loaded_network_has_memory_of_its_own_and_can_be_trained(weights):
    network = load_model(weights)

    assert all(parameter.requires_grad and parameter.device.type == "cpu" for parameter in network.parameters())
    network(torch.rand(2, 3, 32, 32)).sum().backward()
    weights.write_bytes(bytes(weights.stat().st_size))
    assert network.linear.weight.abs().sum() > 0


def test_a_loaded_detector_has_its_anchors(tmp_path):
    fresh = ssdlite_mobilenet_v2(2, width_mult=0.35, input_size=64)
    save_weights(fresh, tmp_path / "detector.safetensors")

    assert torch.equal(load_model(tmp_path / "detector.safetensors").anchors, fresh.anchors)


def test_names_of_networks_and_of_weights_are_listed_apart():
    assert list_models() == ["mobilenet_v2", "ssdlite_mobilenet_v2", "deeplabv3_mobilenet_v2"]
    assert {entry.model for entry in list_models(pretrained=True)} == set(list_models())


@pytest.mark.parametrize("pretrained", [True, "unknown_weights"])
def test_weights_that_there_are_not_are_refused(pretrained):
    with pytest.raises(
        ValueError, match="pretrained must be False, the path of a weights file or the name of published"
    ):
        get_model("mobilenet_v2", pretrained=pretrained)


def test_an_unknown_option_is_refused_with_those_that_there_are(weights):
    with pytest.raises(ValueError, match="mobilenet_v2 has no option 'depth': it takes num_classes, width_mult"):
        load_model(weights, depth=2)
