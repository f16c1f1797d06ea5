"""Networks by name, with randomly initialized weights or those of a file."""

from dataclasses import fields

import pytest
import torch

from mobilevision import BackboneConfig, get_model, list_models, load_model, save_weights
from mobilevision.classification import mobilenet_v2
from mobilevision.detection import ssdlite_mobilenet_v2
from mobilevision.models import MODELS, build_network, drop_background, option_fields, select_classes
from mobilevision.segmentation import deeplabv3_mobilenet_v2
from mobilevision.weights.card import Weights, WeightsCard

SINGLE_NETWORKS = ("mobilenet_v2", "ssdlite_mobilenet_v2", "deeplabv3_mobilenet_v2")
TASKS = dict(zip(SINGLE_NETWORKS, ("classification", "detection", "segmentation"), strict=True))


def weights_of(network) -> Weights:
    return Weights(network.state_dict(), WeightsCard.of(network))


def test_names_of_networks_and_of_weights_are_listed_apart():
    assert list_models() == [*SINGLE_NETWORKS, "multitask_mobilenet_v2"]
    assert {entry.task for entry in list_models(pretrained=True)} == set(TASKS.values())
    assert not {entry.name for entry in list_models(pretrained=True)} & set(list_models())


@pytest.mark.parametrize("name", SINGLE_NETWORKS)
def test_every_field_of_the_configs_is_an_option_with_its_default(name):
    with torch.device("meta"):
        network = get_model(name)
    configs = (network.backbone.config, network.head.config)
    assert set(option_fields(name)) == {field.name for config in configs for field in fields(config)}
    assert option_fields(name)["width_mult"].default == 1.0
    assert set(option_fields("multitask_mobilenet_v2")) == {field.name for field in fields(BackboneConfig)}
    with torch.device("meta"):
        options = {field.name: getattr(config, field.name) for config in configs for field in fields(config)}
        again = get_model(name, **options)
    assert (again.backbone.config, again.head.config) == configs


@pytest.mark.parametrize("name", SINGLE_NETWORKS)
def test_saved_weights_build_the_same_network_from_the_file_alone(name, tmp_path):
    # Parts of another network that differ from its defaults.
    options = {"num_classes": 4, "width_mult": 0.1, "norm_eps": 1e-4, "input_size": 96, "mean": (0.1, 0.2, 0.3)}
    network = get_model(name, **options)
    assert network.training
    network.eval().head.class_names = ("a", "b", "c", "d")
    save_weights(network, tmp_path / "weights.safetensors", licence="none")
    for again in (
        get_model(name, pretrained=tmp_path / "weights.safetensors"),
        load_model(str(tmp_path / "weights.safetensors")),
    ):
        assert type(again) is type(network)
        assert not again.training
        assert WeightsCard.of(again) == WeightsCard.of(network)
        assert all(
            torch.equal(one, other)
            for one, other in zip(again.state_dict().values(), network.state_dict().values(), strict=True)
        )
        assert again.backbone.stem.conv.weight.is_contiguous(memory_format=torch.channels_last)


def test_options_go_before_those_of_the_file(tmp_path):
    save_weights(get_model("deeplabv3_mobilenet_v2", width_mult=0.1), tmp_path / "weights.safetensors")
    for network in (
        load_model(tmp_path / "weights.safetensors", output_stride=8),
        get_model("deeplabv3_mobilenet_v2", pretrained=tmp_path / "weights.safetensors", output_stride=8),
    ):
        assert (network.head.output_stride, network.backbone.config.width_mult) == (8, 0.1)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("resnet50",), {}, "model must be one of mobilenet_v2, .*, got 'resnet50'"),
        (("mobilenet_v3",), {}, "got 'mobilenet_v3': did you mean 'mobilenet_v2'"),
        (("mobilenet_v2",), {"width_mlt": 2}, "option must be one of width_mult, .* did you mean 'width_mult'"),
        (("mobilenet_v2", True), {}, "pretrained must be False, the path of .*: none come with"),
        (("mobilenet_v2", "imagenet"), {}, "pretrained: a weights file or .* must be one of .*, got 'imagenet'"),
    ],
)
def test_unknown_names_and_options_are_refused(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        get_model(*arguments, **options)


@pytest.fixture
def weights(tmp_path):
    """A classifier of three classes, the first of them the background."""
    network = mobilenet_v2(3, width_mult=0.1, background="first")
    network.head.class_names = ("background", "cat", "dog")
    save_weights(network, tmp_path / "three.safetensors")
    return tmp_path / "three.safetensors"


def test_files_that_are_not_there_or_of_another_task_and_options_of_none_are_refused(weights, tmp_path):
    with pytest.raises(FileNotFoundError, match="weights file not found"):
        get_model("mobilenet_v2", pretrained=tmp_path / "nothing.safetensors")
    with pytest.raises(ValueError, match=r"three\.safetensors holds classification, not detection"):
        get_model("ssdlite_mobilenet_v2", pretrained=weights)
    for build in (load_model, lambda path, **options: get_model("mobilenet_v2", pretrained=path, **options)):
        with pytest.raises(ValueError, match="got 'depth': did you mean 'depth_mult'"):
            build(weights, depth=2)


def test_another_class_count_keeps_what_fits_and_warns_of_the_rest_in_one_line(weights):
    with pytest.warns(
        UserWarning, match=r"three\.safetensors: loaded 314 of 316 tensors; missing: 7 classes of 7; unexpected: 3"
    ) as warned:
        network = get_model("mobilenet_v2", pretrained=weights, num_classes=7)

    assert "\n" not in str(warned[0].message)
    assert (network.head.num_classes, network.head.config.background) == (7, None)
    assert torch.equal(network.backbone.stem.conv.weight, load_model(weights).backbone.stem.conv.weight)


def test_one_class_less_is_the_network_without_its_background(weights):
    with pytest.warns(UserWarning, match="adapted: 2 classes of 3 without the background"):
        network = load_model(weights, num_classes=2)

    assert network.head.class_names == ("cat", "dog")
    assert torch.equal(network.head.linear.weight, load_model(weights).head.linear.weight[1:])


def test_the_same_class_count_warns_of_nothing(weights):
    assert load_model(weights, num_classes=3).head.config.background == "first"


def test_a_loaded_network_has_memory_of_its_own_and_can_be_trained(weights):
    network = load_model(weights)

    assert all(parameter.requires_grad and parameter.device.type == "cpu" for parameter in network.parameters())
    network(torch.rand(2, 3, 32, 32)).sum().backward()
    weights.write_bytes(bytes(weights.stat().st_size))
    assert network.head.linear.weight.abs().sum() > 0


def test_a_loaded_detector_has_its_anchors(tmp_path):
    network = ssdlite_mobilenet_v2(2, width_mult=0.1, input_size=64)
    save_weights(network, tmp_path / "detector.safetensors")

    torch.testing.assert_close(load_model(tmp_path / "detector.safetensors").head.anchors, network.head.anchors)


def test_a_joint_file_gives_one_of_its_heads_or_takes_more(tmp_path):
    path = tmp_path / "joint.safetensors"
    heads = {"detection": {"num_classes": 2, "input_size": 64}, "segmentation": {"num_classes": 3, "input_size": 65}}
    joint = get_model("multitask_mobilenet_v2", heads=heads, width_mult=0.1)
    save_weights(joint, path)

    whole, detector = load_model(path), get_model("ssdlite_mobilenet_v2", pretrained=path)

    assert list(whole.heads) == ["detection", "segmentation"]
    assert (list(detector.heads), detector.head.config) == (["detection"], joint.heads["detection"].config)
    assert torch.equal(
        detector.head.box_predictors[0].pointwise.weight, whole.heads["detection"].box_predictors[0].pointwise.weight
    )
    with pytest.warns(UserWarning, match="missing: the head classification; unexpected: the head segmentation"):
        other = get_model("multitask_mobilenet_v2", pretrained=path, heads=("detection", "classification"))
    assert list(other.heads) == ["detection", "classification"]
    with pytest.raises(ValueError, match="options of a head must be given by head, as heads, got num_classes"):
        load_model(path, num_classes=3)


def test_of_two_heads_for_a_task_none_is_chosen_unless_it_is_called_like_the_task(tmp_path):
    path, options = tmp_path / "signs.safetensors", {"task": "detection", "num_classes": 2, "input_size": 64}
    save_weights(get_model("multitask_mobilenet_v2", heads={"signs": options, "cars": options}, width_mult=0.1), path)
    with pytest.raises(ValueError, match=r"signs\.safetensors must have one head for detection, got signs, cars"):
        get_model("ssdlite_mobilenet_v2", pretrained=path)
    three = {"signs": options, "detection": {**options, "num_classes": 5}}
    save_weights(get_model("multitask_mobilenet_v2", heads=three, width_mult=0.1), path)
    assert get_model("ssdlite_mobilenet_v2", pretrained=path).head.num_classes == 5


@torch.inference_mode()
@pytest.mark.parametrize(("place", "kept"), [(None, slice(1, 3)), ("first", slice(1, 3)), ("last", slice(0, 2))])
def test_the_other_classes_close_the_gap_of_a_background_that_is_dropped(place, kept):
    network = mobilenet_v2(3, width_mult=0.1, background=place).eval()
    network.head.class_names = ("one", "two", "three")

    smaller = build_network(drop_background(weights_of(network)), "a test")

    images = torch.rand(2, 3, 64, 64)
    assert smaller.head.class_names == network.head.class_names[kept]
    assert smaller.head.config.background is None
    torch.testing.assert_close(smaller(images), network(images)[:, kept])


@pytest.mark.parametrize(
    ("function", "count", "held"),
    [(mobilenet_v2, 1, "classification of 1"), (ssdlite_mobilenet_v2, 3, "detection of 0")],
)
def test_only_a_classifier_of_two_classes_has_a_background_to_drop(function, count, held):
    with pytest.raises(ValueError, match=f"only a classifier of two classes or more .*, got {held}"):
        drop_background(weights_of(function(count, width_mult=0.1)))


@torch.inference_mode()
def test_a_detector_keeps_its_background_with_the_classes_that_are_chosen():
    network = ssdlite_mobilenet_v2(4, width_mult=0.1, input_size=64).eval()

    smaller = build_network(select_classes(weights_of(network), "detection", [3, 1]), "a test")

    images = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(smaller(images).logits, network(images).logits[..., [0, 4, 2]])
    torch.testing.assert_close(smaller(images).offsets, network(images).offsets)


@torch.inference_mode()
def test_a_segmenter_keeps_the_classes_that_are_chosen():
    network = deeplabv3_mobilenet_v2(4, width_mult=0.1).eval()

    smaller = build_network(select_classes(weights_of(network), "segmentation", [0, 2]), "a test")

    images = torch.rand(1, 3, 65, 65)
    torch.testing.assert_close(smaller(images), network(images)[:, [0, 2]])


def test_functions_build_what_their_names_promise():
    with torch.device("meta"):
        tasks = {name: [head.task for head in MODELS[name]().named_heads.values()] for name in MODELS}
    assert tasks == {**{name: [task] for name, task in TASKS.items()}, "multitask_mobilenet_v2": list(TASKS.values())}
