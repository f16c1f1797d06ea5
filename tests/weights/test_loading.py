"""Weights of other heads and other classes keep everything that fits."""

import pytest
import torch

from mobilevision.classification import mobilenet_v2
from mobilevision.detection import ssdlite_mobilenet_v2
from mobilevision.multitask.heads import NETWORKS, multitask_mobilenet_v2
from mobilevision.segmentation import deeplabv3_mobilenet_v2
from mobilevision.weights.card import HeadCard, Weights, WeightsCard
from mobilevision.weights.loading import LoadReport, build_loaded_network, load_backbone, load_weights, match_heads

FUNCTIONS = (mobilenet_v2, ssdlite_mobilenet_v2, deeplabv3_mobilenet_v2)


def weights_of(network, *names) -> Weights:
    if names:
        network.head.class_names = names
    return Weights(network.state_dict(), WeightsCard.of(network))


def small(function, num_classes, **options):
    return function(num_classes, **{"width_mult": 0.1, "input_size": 64, **options})


def copy_of(network):
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_another_class_count_keeps_all_but_the_classes(function):
    source, network = small(function, 5), small(function, 3)
    initial = copy_of(network)

    report = load_weights(network, weights_of(source), "a.pth")

    rows = {f"heads.{network.head.task}.{name}" for name in network.head.class_rows().tensors}
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, initial[name] if name in rows else source.state_dict()[name])
    assert report == ("a.pth", len(initial) - len(rows), len(initial), "", "3 classes of 3", "5 classes of 5")


def test_a_report_is_one_line():
    source, network = small(mobilenet_v2, 5), small(mobilenet_v2, 3)

    report = load_weights(network, weights_of(source), "a.pth")

    assert str(report) == "a.pth: loaded 314 of 316 tensors; missing: 3 classes of 3; unexpected: 5 classes of 5"
    assert str(LoadReport("a.pth", 316, 316)) == "a.pth: loaded 316 of 316 tensors"
    assert report.changed
    assert not LoadReport("a.pth", 316, 316).changed


def test_classes_of_the_same_name_go_together():
    source, network = small(mobilenet_v2, 3), small(mobilenet_v2, 2)
    network.head.class_names = ("owl", "bird")
    initial = network.head.linear.weight[1].clone()

    report = load_weights(network, weights_of(source, "cat", "dog", "owl"), "a.pth")

    assert torch.equal(network.head.linear.weight[0], source.head.linear.weight[2])
    assert torch.equal(network.head.linear.weight[1], initial)
    assert network.head.class_names == ("owl", "bird")
    assert report[3:] == ("1 classes of 3 by name", "1 classes of 2", "2 classes of 3")


def test_a_detectors_classes_of_the_same_name_go_together_on_every_anchor_with_the_background():
    source, network = small(ssdlite_mobilenet_v2, 3), small(ssdlite_mobilenet_v2, 2)
    network.head.class_names = ("owl", "bird")

    load_weights(network, weights_of(source, "cat", "dog", "owl"), "a.pth")

    theirs = source.head.class_predictors[0].pointwise.weight.reshape(3, 4, -1)
    ours = network.head.class_predictors[0].pointwise.weight.reshape(3, 3, -1)
    assert torch.equal(ours[:, :2], theirs[:, [0, 3]])


@torch.inference_mode()
def test_a_background_that_the_network_does_not_have_is_dropped():
    source, network = small(mobilenet_v2, 3, background="first").eval(), small(mobilenet_v2, 2).eval()

    report = load_weights(network, weights_of(source, "background", "cat", "dog"), "a.pth", strict=True)

    images = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(network(images), source(images)[:, 1:])
    assert network.head.class_names == ("cat", "dog")
    assert (report.adapted, report.missing) == ("2 classes of 3 without the background", "")


@pytest.mark.parametrize("function", FUNCTIONS)
def test_strict_loading_refuses_another_class_count_and_changes_nothing(function):
    network = small(function, 3)
    initial = copy_of(network)

    with pytest.raises(ValueError, match=r"a\.pth has 5 classes, this network 3"):
        load_weights(network, weights_of(small(function, 5)), "a.pth", strict=True)

    assert all(torch.equal(tensor, initial[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("load", [load_weights, load_backbone])
def test_what_does_not_fit_beside_the_classes_is_refused_and_nothing_changed(load):
    network = small(mobilenet_v2, 3)
    initial = copy_of(network)

    for options in ({"width_mult": 0.5}, {"depth_mult": 1.2}):
        with pytest.raises(ValueError, match=r"a\.pth does not fit: .* another width"):
            load(network, weights_of(small(mobilenet_v2, 5, **options)), "a.pth")

    assert all(torch.equal(tensor, initial[name]) for name, tensor in network.state_dict().items())


def test_a_head_of_another_form_is_refused():
    weights = weights_of(small(mobilenet_v2, 3, background="first"))
    name = "heads.classification.linear.weight"
    weights.tensors[name] = weights.tensors[name][:, :7]

    with pytest.raises(ValueError, match=rf"a\.pth does not fit: 1 of 316 tensors .* first {name}"):
        load_weights(small(mobilenet_v2, 2), weights, "a.pth")


@pytest.mark.parametrize(
    ("function", "option", "value"),
    [
        (mobilenet_v2, "padding", "tf_same"),
        (mobilenet_v2, "norm_eps", 1e-5),
        (ssdlite_mobilenet_v2, "score_function", "softmax"),
        (ssdlite_mobilenet_v2, "head_norm_eps", 1e-2),
        (deeplabv3_mobilenet_v2, "head_norm_eps", 1e-2),
    ],
)
def test_options_that_shapes_do_not_show_must_be_those_of_the_training(function, option, value):
    weights = weights_of(small(function, 3, **{option: value}))
    with pytest.raises(ValueError, match=rf"a\.pth was trained with {option} {value}, .* set {option} to {value}"):
        load_weights(small(function, 3), weights, "a.pth")


def test_weights_of_another_task_are_refused_by_both():
    with pytest.raises(ValueError, match=r"a\.pth holds detection, this network classification$"):
        load_weights(small(mobilenet_v2, 3), weights_of(small(ssdlite_mobilenet_v2, 3)), "a.pth")
    tensors = small(mobilenet_v2, 3).backbone.state_dict(prefix="backbone.")
    with pytest.raises(ValueError, match=r"a\.pth holds a backbone alone, .*: use backbone_weights"):
        load_weights(small(mobilenet_v2, 3), Weights(tensors, WeightsCard()), "a.pth")


@pytest.mark.parametrize("load", [load_weights, load_backbone])
def test_the_normalization_of_the_pixels_comes_with_the_weights(load):
    source, network = small(mobilenet_v2, 2, mean=[0.4] * 3, std=[0.2] * 3), small(mobilenet_v2, 2)

    load(network, weights_of(source), "a.pth")

    assert torch.equal(network.normalization.mean, source.normalization.mean)
    assert torch.equal(network.normalization.std, source.normalization.std)


@pytest.mark.parametrize("functions", [(mobilenet_v2, deeplabv3_mobilenet_v2), (deeplabv3_mobilenet_v2, mobilenet_v2)])
def test_of_a_backbone_the_last_convolution_is_left_out_where_either_side_lacks_it(functions):
    source, network = (small(function, 3) for function in functions)
    initial = copy_of(network)

    report = load_backbone(network, weights_of(source), "a.pth")

    found, theirs = network.state_dict(), source.state_dict()
    for name, tensor in found.items():
        common = name.startswith(("backbone.", "normalization.")) and name in theirs
        assert torch.equal(tensor, theirs[name] if common else initial[name])
    # The last convolution with its five tensors of normalization, and the linear layer.
    beside = len(network.head.state_dict()) + 6 * (functions[1] is mobilenet_v2)
    left = len(source.head.state_dict()) + 6 * (functions[0] is mobilenet_v2)
    assert report.missing == f"{beside} tensors beside the backbone"
    assert report.unexpected == f"{left} tensors of {source.head.task}"


HEADS = {"signs": {"task": "detection", "num_classes": 2, "input_size": 64}, "segmentation": {"num_classes": 3}}


def joint(heads=HEADS):
    return multitask_mobilenet_v2(heads, width_mult=0.1)


def test_heads_are_matched_by_name_and_task_or_as_the_only_ones_of_their_task():
    detector, segmenter = HeadCard("detection", {}), HeadCard("segmentation", {})
    heads = joint({**HEADS, "cars": HEADS["signs"]}).named_heads

    def match(**theirs):
        return match_heads(heads, WeightsCard(heads=theirs))

    assert match(cars=detector, road=segmenter) == {"cars": "cars", "segmentation": "road"}
    assert match(detection=detector) == {}
    assert match(cars=segmenter) == {"segmentation": "cars"}


def test_heads_that_the_weights_lack_keep_their_values_and_are_reported():
    network, source = joint(), weights_of(small(ssdlite_mobilenet_v2, 4), *"abcd")
    network.heads["signs"].class_names = ("d", "x")
    initial = copy_of(network)

    report = load_weights(network, source, "a.pth")

    kept = {name for name in initial if name.startswith("heads.segmentation.")}
    found = network.state_dict()
    assert all(torch.equal(found[name], initial[name]) for name in kept)
    assert torch.equal(found["backbone.stem.conv.weight"], source.tensors["backbone.stem.conv.weight"])
    assert (report.loaded, report.total) == (len(initial) - len(kept), len(initial))
    assert report[3:] == (
        "1 classes of 4 by name of signs",
        "1 classes of 2 of signs, the head segmentation",
        "3 classes of 4 of signs",
    )
    with pytest.raises(ValueError, match=r"holds detection, this network signs \(detection\), segmentation"):
        load_weights(network, source, "a.pth", strict=True)


def test_a_head_that_the_network_lacks_is_reported():
    source = joint()
    report = load_weights(small(deeplabv3_mobilenet_v2, 3), Weights(source.state_dict(), WeightsCard.of(source)), "a")
    assert (report.adapted, report.missing, report.unexpected) == ("", "", "the head signs")


def test_a_network_whose_values_are_all_in_the_weights_takes_their_memory_and_another_its_own():
    source = small(mobilenet_v2, 3)
    weights = weights_of(source, "cat", "dog", "owl")

    whole, report = build_loaded_network(weights.card, weights, NETWORKS, "a.pth")
    assert all(tensor.data_ptr() == weights.tensors[name].data_ptr() for name, tensor in whole.state_dict().items())
    assert (whole.head.class_names, report.changed) == (("cat", "dog", "owl"), False)

    head = HeadCard("classification", {"num_classes": 2, "input_size": 64}, ("owl", "bat"))
    other, report = build_loaded_network(
        weights.card._replace(heads={"classification": head}), weights, NETWORKS, "a.pth"
    )
    assert all(tensor.device.type == "cpu" for tensor in other.state_dict().values())
    assert torch.equal(other.head.linear.weight[0], source.head.linear.weight[2])
    assert report.missing == "1 classes of 2"
