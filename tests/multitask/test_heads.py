import json

import pytest
import torch
from mobilevision.multitask.types import TASK_NAMES
from torch import nn

from mobilevision import get_model, load_model, save_weights
from mobilevision.complexity import measure
from mobilevision.multitask import multitask_mobilenet_v2

SIDE = 96
SMALL = {
    "classification": {"num_classes": 3, "input_size": 48},
    "detection": {"num_classes": 2, "input_size": SIDE},
    "segmentation": {"num_classes": 4, "input_size": 97},
}


@pytest.fixture
def joint(settle):
    return settle(multitask_mobilenet_v2(SMALL, width_mult=0.35, padding="tf_same"))


@pytest.fixture
def images():
    return torch.randint(0, 256, (2, 3, SIDE, SIDE), dtype=torch.uint8)


def test_every_head_says_what_its_network_says_alone(joint, images):
    answers = joint(images)
    for task, network in joint.members.items():
        alone = get_model(network.model_name, **network.options)
        alone.load_state_dict({name: joint_tensor(joint, task, name) for name in alone.state_dict()})
        expected, found = alone.eval()(images), getattr(answers, task)
        for ours, theirs in zip(
            *((each,) if torch.is_tensor(each) else each for each in (found, expected)), strict=True
        ):
            torch.testing.assert_close(ours, theirs)


def joint_tensor(joint, task, name):
    return joint.state_dict()[name.replace("head.", f"heads.{task}.", 1) if name.startswith("head.") else name]


def test_a_member_is_the_network_itself_on_the_common_backbone(joint, images):
    answers = joint(images)
    for task, network in joint.members.items():
        found, expected = getattr(answers, task), network(images)
        assert torch.equal(found[0], expected[0])
        assert network.backbone is joint.backbone


def test_the_backbone_runs_once_up_to_the_tail_that_dilates(joint, images):
    runs = []
    for name, module in joint.backbone.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda *_, name=name: runs.append(name))
    joint(images)
    twice = {name.split(".")[1] for name in runs if runs.count(name) > 1}
    assert twice == {"stage6", "stage7"}


def test_a_segmenter_at_stride_32_reads_what_the_others_read(images):
    heads = {**SMALL, "segmentation": {**SMALL["segmentation"], "output_stride": 32}}
    joint = multitask_mobilenet_v2(heads, width_mult=0.35).eval()
    runs = []
    for name, module in joint.backbone.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda *_, name=name: runs.append(name))
    assert joint(images).segmentation.shape == (2, 4, SIDE, SIDE)
    assert len(set(runs)) == len(runs)


@pytest.mark.parametrize("task", TASK_NAMES)
def test_only_the_heads_that_are_asked_run(joint, images, task):
    for other in set(TASK_NAMES) - {task}:
        for module in joint.heads[other].modules():
            module.register_forward_hook(lambda *_: pytest.fail("it ran"))
    answers = joint(images, heads=(task,))
    assert [name for name in TASK_NAMES if getattr(answers, name) is not None] == [task]


@pytest.mark.parametrize("heads", [("classification",), ("detection", "segmentation"), ("segmentation",)])
def test_any_subset_of_the_heads_makes_a_network(heads, images):
    joint = multitask_mobilenet_v2({task: SMALL[task] for task in heads}, width_mult=0.35).eval()
    assert [name for name, answer in joint(images)._asdict().items() if answer is not None] == list(heads)
    assert (joint.backbone.last is None) == (heads == ("segmentation",))
    assert joint.num_classes == sum(SMALL[task]["num_classes"] for task in heads)


def test_only_the_detector_fixes_the_size_of_the_images(joint):
    small = torch.zeros(1, 3, 40, 48)
    assert joint(small, heads=("classification", "segmentation")).segmentation.shape == (1, 4, 40, 48)
    with pytest.raises(ValueError, match="images must be 96x96 pixels, got 48x40"):
        joint(small)


def test_the_tensors_are_each_there_once(joint):
    parameters = sum(parameter.numel() for parameter in joint.parameters())
    parts = [joint.backbone, *joint.heads.values()]
    assert parameters == sum(parameter.numel() for part in parts for parameter in part.parameters())
    assert {name.split(".")[0] for name in joint.state_dict()} == {"normalization", "backbone", "heads"}


# Parameters, and millions of multiply-adds at 320 pixels, as the documents have them.
@pytest.mark.parametrize(("output_stride", "millions"), [(16, 1356.92), (32, 812.03)])
def test_the_counts_that_are_published(output_stride, millions):
    heads = {"classification": {}, "detection": {}, "segmentation": {"output_stride": output_stride}}
    found = measure(multitask_mobilenet_v2(heads))
    assert found.parameters == 5_919_858
    assert round(found.multiply_adds / 1e6, 2) == millions
    assert list(found.parts) == ["backbone", *(f"heads.{task}" for task in TASK_NAMES)]


def test_it_is_saved_and_built_again_bit_for_bit(joint, images, tmp_path):
    joint.members["detection"].class_names = ("cat", "dog")
    save_weights(joint, tmp_path / "joint.safetensors")
    again = load_model(tmp_path / "joint.safetensors").eval()
    json.dumps(again.options)
    assert again.options == joint.options
    assert again.members["detection"].class_names == ("cat", "dog")
    for first, second in zip(joint(images), again(images), strict=True):
        assert torch.equal(first[0], second[0])


def test_each_single_network_is_had_from_the_joint_file(joint, images, tmp_path):
    save_weights(joint, tmp_path / "joint.safetensors")
    answers = joint(images)
    for task, network in joint.members.items():
        alone = get_model(network.model_name, pretrained=tmp_path / "joint.safetensors").eval()
        torch.testing.assert_close(alone(images)[0], getattr(answers, task)[0])


def test_a_head_is_added_to_what_is_trained(joint, images, tmp_path):
    save_weights(joint.members["detection"], tmp_path / "detector.safetensors")
    heads = {"detection": {}, "segmentation": {"num_classes": 5}}
    with pytest.warns(UserWarning, match="new: the head for segmentation"):
        more = get_model("multitask_mobilenet_v2", pretrained=tmp_path / "detector.safetensors", heads=heads).eval()
    assert more.members["segmentation"].num_classes == 5
    torch.testing.assert_close(more(images).detection, joint(images).detection)


def test_options_of_the_backbone_are_of_no_head():
    with pytest.raises(ValueError, match="width_mult must be given for all heads together, got it for detection"):
        multitask_mobilenet_v2({"detection": {"width_mult": 0.5}})


def test_an_unknown_option_is_named_with_those_there_are():
    with pytest.raises(
        ValueError, match="the head for detection has no option 'dropout': it takes num_classes, preset"
    ):
        multitask_mobilenet_v2({"detection": {"dropout": 0.5}})


@pytest.mark.parametrize("heads", [(), ("depth",), {"detection": {}, "pose": {}}])
def test_heads_that_do_not_exist_are_refused(heads):
    with pytest.raises(ValueError, match="heads must be among classification, detection, segmentation, got"):
        multitask_mobilenet_v2(heads)


def test_a_head_that_it_does_not_have_cannot_be_asked(images):
    joint = multitask_mobilenet_v2({"classification": SMALL["classification"]}, width_mult=0.35)
    with pytest.raises(ValueError, match="heads must be among classification, got detection"):
        joint(images, heads=("detection",))


def test_backbones_of_several_shapes_are_refused():
    heads = {"classification": {}, "detection": {"preset": "tf300"}}
    with pytest.raises(ValueError, match="heads must read backbones of one shape, got another for detection"):
        multitask_mobilenet_v2(heads, width_mult=0.35)
