"""Networks by name, with fresh weights or those of a file."""

import pytest
import torch

from mobilevision import get_model, list_models, load_model, save_weights
from mobilevision.models import find_model


def test_three_networks_are_known_by_name():
    assert list_models() == ["mobilenet_v2", "ssdlite_mobilenet_v2", "deeplabv3_mobilenet_v2"]


@pytest.mark.parametrize("name", list_models())
def test_a_network_says_how_to_build_it_again(name):
    network = get_model(name, num_classes=3, width_mult=0.35)
    assert (network.model_name, network.num_classes) == (name, 3)
    again = find_model(name)(**network.options)
    assert {key: value.shape for key, value in again.state_dict().items()} == {
        key: value.shape for key, value in network.state_dict().items()
    }
    assert network.backbone.stem.conv.weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", list_models())
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
        (("mobilenet_v2", True), {}, "pretrained must be False or"),
        (("mobilenet_v2", "imagenet"), {}, "pretrained must be False or .*, got 'imagenet'"),
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
