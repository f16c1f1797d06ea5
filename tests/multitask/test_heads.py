import pytest
import torch
from torch import nn

from mobilevision import get_model, load_model, save_weights
from mobilevision.complexity import measure
from mobilevision.multitask.heads import NETWORKS, multitask_mobilenet_v2

SIDE = 96
SMALL = {
    "classification": {"num_classes": 3, "input_size": 48},
    "detection": {"num_classes": 2, "input_size": SIDE, "class_names": ["cat", "dog"]},
    "segmentation": {"num_classes": 4, "input_size": 97},
}
MODELS = {
    "classification": "mobilenet_v2",
    "detection": "ssdlite_mobilenet_v2",
    "segmentation": "deeplabv3_mobilenet_v2",
}


@pytest.fixture
def joint(settle):
    return settle(multitask_mobilenet_v2(SMALL, width_mult=0.35, padding="tf_same"))


@pytest.fixture
def images():
    return torch.randint(0, 256, (2, 3, SIDE, SIDE), dtype=torch.uint8)


@pytest.mark.parametrize(("output_stride", "repeated"), [(16, {"stage6", "stage7"}), (32, set())])
def test_the_backbone_runs_once_up_to_the_tail_that_dilates(output_stride, repeated, images):
    heads = {**SMALL, "segmentation": {**SMALL["segmentation"], "output_stride": output_stride}}
    network, runs = multitask_mobilenet_v2(heads, width_mult=0.35).eval(), []
    for name, module in network.backbone.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda *_, name=name: runs.append(name))
    assert network(images)["segmentation"].shape == (2, 4, SIDE, SIDE)
    assert {name.split(".")[1] for name in runs if runs.count(name) > 1} == repeated


@pytest.mark.parametrize("heads", [("classification",), ("detection", "segmentation"), ("segmentation",)])
def test_any_of_the_heads_make_a_network(heads, images):
    network = multitask_mobilenet_v2({task: SMALL[task] for task in heads}, width_mult=0.35)
    assert list(network.heads) == list(heads)
    assert (network.backbone.last is None) == (heads == ("segmentation",))
    assert {type(network)} < {*NETWORKS.values(), type(multitask_mobilenet_v2(SMALL, width_mult=0.35))}


# Parameters, and millions of multiply-adds at 320 pixels, as the documents have them.
@pytest.mark.parametrize(("output_stride", "millions"), [(16, 1356.92), (32, 812.03)])
def test_the_counts_that_are_published(output_stride, millions):
    heads = {"classification": {}, "detection": {}, "segmentation": {"output_stride": output_stride}}
    found = measure(multitask_mobilenet_v2(heads))
    assert found.parameters == 5_919_858
    assert round(found.multiply_adds / 1e6, 2) == millions


def test_it_is_saved_and_read_as_a_whole_or_head_by_head(joint, images, tmp_path):
    save_weights(joint, tmp_path / "joint.safetensors")
    again, expected = load_model(tmp_path / "joint.safetensors"), joint(images)
    assert again.heads["detection"].class_names == ("cat", "dog")
    torch.testing.assert_close(again(images), expected)
    for task, head in joint.named_heads.items():
        alone = get_model(MODELS[task], pretrained=tmp_path / "joint.safetensors")
        assert alone.head.config == head.config
        torch.testing.assert_close(alone(images), expected[task])


def test_a_head_is_added_to_what_is_trained(joint, images, tmp_path):
    save_weights(joint, tmp_path / "joint.safetensors")
    heads = {"detection": {}, "depths": {"task": "segmentation", "num_classes": 5}}
    with pytest.warns(UserWarning, match="missing: .*classes of .* of depths"):
        more = get_model("multitask_mobilenet_v2", pretrained=tmp_path / "joint.safetensors", heads=heads)
    assert more.heads["depths"].num_classes == 5
    torch.testing.assert_close(more(images)["detection"], joint(images)["detection"])


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        ({"detection": {"width_mult": 0.5}}, "width_mult must be given for all heads together, got it for detection"),
        ({"detection": {"dropout": 0.5}}, "option must be one of .*, got 'dropout'"),
        (("depth",), "task of the head depth must be one of classification, detection, segmentation, got 'depth'"),
        ({"detection": {}, "pose": {}}, "task of the head pose must be one of"),
        ((), "heads must be one or more, such as classification, detection, segmentation, got none"),
    ],
)
def test_heads_and_options_that_do_not_exist_are_refused(heads, message):
    with pytest.raises(ValueError, match=message):
        multitask_mobilenet_v2(heads)


def test_a_detectors_preset_and_the_normalization_are_those_of_the_whole_network():
    network = multitask_mobilenet_v2(
        {"classification": {}, "detection": {"preset": "tf300"}}, width_mult=0.35, mean=(0.1, 0.2, 0.3)
    )
    assert (network.input_size, network.backbone.config.min_channels) == (300, 16)
    assert network.normalization.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
