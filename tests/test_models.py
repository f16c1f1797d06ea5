"""Networks by name, with fresh weights or those of a file."""

import pytest
import torch

from mobilevision import get_model, list_models, load_model, save_weights
from mobilevision.classification import mobilenet_v2
from mobilevision.detection import ssdlite_mobilenet_v2
from mobilevision.models import find_model

SINGLE_NETWORKS = ("mobilenet_v2", "ssdlite_mobilenet_v2", "deeplabv3_mobilenet_v2")


def test_the_networks_are_known_by_name():
    assert list_models() == [*SINGLE_NETWORKS, "multitask_mobilenet_v2"]


@pytest.mark.parametrize("name", SINGLE_NETWORKS)
def test_a_network_says_how_to_build_it_again(name):
    network = get_model(name, num_classes=3, width_mult=0.35)
    assert (network.model_name, network.num_classes) == (name, 3)
    again = find_model(name)(**network.options)
    assert {key: value.shape for key, value in again.state_dict().items()} == {
        key: value.shape for key, value in network.state_dict().items()
    }
    assert network.backbone.stem.conv.weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", SINGLE_NETWORKS)
def test_saved_weights_build_the_same_network_without_being_told_how(name, tmp_path):
    network = get_model(name, num_classes=4, width_mult=0.35, norm_eps=1e-5, input_size=96).eval()
    network.class_names = ("a", "b", "c", "d")
    save_weights(network, tmp_path / "weights.safetensors", licence="none")
    images = torch.randint(0, 256, (1, 3, 96, 96), dtype=torch.uint8)
    for again in (
        get_model(name, pretrained=tmp_path / "weights.safetensors"),
        load_model(str(tmp_path / "weights.safetensors")),
    ):
        assert again.options == network.options
        assert again.class_names == ("a", "b", "c", "d")
        for one, other in zip(again.eval().extract_feat(images), network.extract_feat(images), strict=True):
            assert torch.equal(one, other)


def test_options_go_before_those_of_the_file(tmp_path):
    save_weights(get_model("deeplabv3_mobilenet_v2", width_mult=0.35), tmp_path / "weights.safetensors")
    network = load_model(tmp_path / "weights.safetensors", output_stride=8)
    assert network.backbone.output_stride == 8
    assert network.options["width_mult"] == 0.35


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("resnet50",), {}, "model must be one of mobilenet_v2, .*, got 'resnet50'"),
        (("mobilenet_v2",), {"width": 2}, "mobilenet_v2 has no option 'width': it takes num_classes, width_mult"),
        (("mobilenet_v2", True), {}, "pretrained must be False, the path of .*: none come with"),
        (("mobilenet_v2", "imagenet"), {}, "pretrained must be False, .*, got 'imagenet'"),
    ],
)
def test_what_is_not_there_is_refused(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        get_model(*arguments, **options)


def test_files_that_are_not_there_or_of_another_model(tmp_path):
    with pytest.raises(FileNotFoundError, match="weights file not found"):
        get_model("mobilenet_v2", pretrained=tmp_path / "weights.safetensors")
    save_weights(get_model("mobilenet_v2", width_mult=0.35), tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match="holds mobilenet_v2, not ssdlite_mobilenet_v2"):
        get_model("ssdlite_mobilenet_v2", pretrained=tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match="has no option 'widths'"):
        load_model(tmp_path / "weights.safetensors", widths=1)


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
    assert torch.equal(network.head.linear.weight, load_model(weights).head.linear.weight[1:])


def test_the_same_class_count_says_nothing(weights):
    assert load_model(weights, num_classes=3).options["background"] == "first"


def test_a_loaded_network_has_memory_of_its_own_and_can_be_trained(weights):
    network = load_model(weights)

    assert all(parameter.requires_grad and parameter.device.type == "cpu" for parameter in network.parameters())
    network(torch.rand(2, 3, 32, 32)).sum().backward()
    weights.write_bytes(bytes(weights.stat().st_size))
    assert network.head.linear.weight.abs().sum() > 0


def test_a_loaded_detector_has_its_anchors(tmp_path):
    fresh = ssdlite_mobilenet_v2(2, width_mult=0.35, input_size=64)
    save_weights(fresh, tmp_path / "detector.safetensors")

    assert torch.equal(load_model(tmp_path / "detector.safetensors").anchors, fresh.anchors)


def test_names_of_networks_and_of_weights_are_listed_apart():
    assert list_models() == [*SINGLE_NETWORKS, "multitask_mobilenet_v2"]
    assert {entry.model for entry in list_models(pretrained=True)} == set(SINGLE_NETWORKS)


@pytest.mark.parametrize("pretrained", [True, "unknown_weights"])
def test_weights_that_there_are_not_are_refused(pretrained):
    with pytest.raises(
        ValueError, match="pretrained must be False, the path of a weights file or the name of published"
    ):
        get_model("mobilenet_v2", pretrained=pretrained)


def test_an_unknown_option_is_refused_with_those_that_there_are(weights):
    with pytest.raises(ValueError, match="mobilenet_v2 has no option 'depth': it takes num_classes, width_mult"):
        load_model(weights, depth=2)
