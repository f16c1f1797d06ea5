"""Weights of other classes keep all that fits."""

import pytest
import torch
from mobilevision.weights.fitting import fill_network, fit_backbone, fit_network

from mobilevision.classification import mobilenet_v2
from mobilevision.detection import ssdlite_mobilenet_v2
from mobilevision.segmentation import deeplabv3_mobilenet_v2
from mobilevision.weights.card import Weights, WeightsCard

FUNCTIONS = (mobilenet_v2, ssdlite_mobilenet_v2, deeplabv3_mobilenet_v2)


def weights_of(network, *names) -> Weights:
    network.class_names = names
    return Weights(network.state_dict(), WeightsCard.of(network))


def small(function, num_classes, **options):
    return function(num_classes, width_mult=0.35, **options)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_new_class_count_keeps_all_but_the_classes(function):
    source, network = small(function, 5), small(function, 3)
    drawn = {name: tensor.clone() for name, tensor in network.state_dict().items()}

    report = fit_network(network, weights_of(source), "a.pth")

    head = {name for name in drawn if drawn[name].shape != source.state_dict()[name].shape}
    assert head
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, drawn[name] if name in head else source.state_dict()[name])
    assert report == ("a.pth", len(drawn) - len(head), len(drawn), "", "3 classes of 3", "5 classes of 5")


def test_the_report_is_one_line():
    source, network = small(mobilenet_v2, 5), small(mobilenet_v2, 3)

    report = str(fit_network(network, weights_of(source), "a.pth"))

    assert report == "a.pth: loaded 314 of 316 tensors; new: 3 classes of 3; ignored: 5 classes of 5"


def test_classes_of_the_same_name_go_together():
    source, network = small(mobilenet_v2, 3), small(mobilenet_v2, 2)
    network.class_names = ("owl", "bird")
    drawn = network.head.linear.weight[1].clone()

    report = fit_network(network, weights_of(source, "cat", "dog", "owl"), "a.pth")

    assert torch.equal(network.head.linear.weight[0], source.head.linear.weight[2])
    assert torch.equal(network.head.linear.weight[1], drawn)
    assert network.class_names == ("owl", "bird")
    assert report[3:] == ("1 classes of 3 by name", "1 classes of 2", "2 classes of 3")


def test_a_detectors_classes_of_the_same_name_go_together_on_every_anchor():
    source, network = small(ssdlite_mobilenet_v2, 3), small(ssdlite_mobilenet_v2, 2)
    network.class_names = ("owl", "bird")

    fit_network(network, weights_of(source, "cat", "dog", "owl"), "a.pth")

    theirs = source.head.class_predictors[0].pointwise.weight.reshape(3, 4, -1)
    ours = network.head.class_predictors[0].pointwise.weight.reshape(3, 3, -1)
    assert torch.equal(ours[:, :2], theirs[:, [0, 3]])


@torch.inference_mode()
def test_a_background_that_the_network_does_not_have_is_dropped():
    source, network = small(mobilenet_v2, 3, background="first").eval(), small(mobilenet_v2, 2).eval()

    report = fill_network(network, weights_of(source, "background", "cat", "dog"), "a.pth")

    images = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(network(images), source(images)[:, 1:])
    assert network.class_names == ("cat", "dog")
    assert (report.adapted, report.new) == ("2 classes of 3 without the background", "")


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_network_that_is_to_be_whole_refuses_another_class_count(function):
    network = small(function, 3)
    drawn = {name: tensor.clone() for name, tensor in network.state_dict().items()}

    with pytest.raises(ValueError, match=r"a\.pth has 5 classes, this network has 3"):
        fill_network(network, weights_of(small(function, 5)), "a.pth")

    assert all(torch.equal(tensor, drawn[name]) for name, tensor in network.state_dict().items())


def test_what_does_not_fit_beside_the_classes_is_refused():
    with pytest.raises(ValueError, match=r"a\.pth does not fit: .* another width"):
        fit_network(small(mobilenet_v2, 3), weights_of(mobilenet_v2(5, width_mult=0.5)), "a.pth")


def test_a_head_of_another_form_is_refused():
    weights = weights_of(small(mobilenet_v2, 3, background="first"))
    weights.tensors["head.linear.weight"] = weights.tensors["head.linear.weight"][:, :7]

    with pytest.raises(ValueError, match=r"a\.pth does not fit: 1 of 316 tensors .* first head\.linear\.weight"):
        fit_network(small(mobilenet_v2, 2), weights, "a.pth")


def test_other_blocks_are_refused_and_not_left_out():
    deeper = small(mobilenet_v2, 2, depth_mult=1.2)

    with pytest.raises(ValueError, match=r"a\.pth does not fit"):
        fit_backbone(small(mobilenet_v2, 2), weights_of(deeper), "a.pth")


def test_a_backbone_says_what_it_leaves(tmp_path):
    source, network = small(mobilenet_v2, 5), small(deeplabv3_mobilenet_v2, 3)

    report = fit_backbone(network, weights_of(source), "a.pth")

    assert report.new == f"{len(network.head.state_dict())} tensors beside the backbone"
    # The last convolution with its five tensors of normalisation, and the linear layer.
    assert report.ignored == "8 tensors of mobilenet_v2"


@pytest.mark.parametrize("fit", [fit_network, fit_backbone])
def test_the_pixels_normalisation_comes_with_the_weights_and_is_said_so(fit):
    source, network = small(mobilenet_v2, 2, mean=[0.4] * 3, std=[0.2] * 3), small(mobilenet_v2, 2)

    fit(network, weights_of(source), "a.pth")

    assert torch.equal(network.normalization.mean, source.normalization.mean)
    assert (network.options["mean"], network.options["std"]) == ([0.4] * 3, [0.2] * 3)
