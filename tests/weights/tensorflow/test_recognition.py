"""Graphs of other networks are refused in a sentence that names where they depart from a known one."""

import numpy as np
import pytest

from mobilevision.classification import mobilenet_v2
from mobilevision.detection import ssdlite_mobilenet_v2
from mobilevision.segmentation import deeplabv3_mobilenet_v2
from mobilevision.weights.tensorflow.frozen import read_frozen_graph
from mobilevision.weights.tensorflow.layers import Filters, Layer, LayerGraph
from mobilevision.weights.tensorflow.recognition import recognize_network

BUILDERS = {
    "classifier": lambda: mobilenet_v2(4, width_mult=0.35, padding="tf_same", input_size=64),
    "segmenter": lambda: deeplabv3_mobilenet_v2(3, width_mult=0.35, output_stride=16, input_size=65),
    "detector": lambda: ssdlite_mobilenet_v2(2, preset="tf300", width_mult=0.35, input_size=64),
}


@pytest.fixture(params=["classifier"])
def layers(request, trained, write_graph) -> list[Layer]:
    return list(read_frozen_graph(write_graph(trained(BUILDERS[request.param]()))).layers)


def convolutions(layers: list[Layer], **wanted) -> list[int]:
    """Return the places of the convolutions with these attributes, in no particular order."""
    return [
        place
        for place, layer in enumerate(layers)
        if layer.filters and all(getattr(layer.filters, key) == value for key, value in wanted.items())
    ]


def test_an_empty_graph_is_refused():
    with pytest.raises(ValueError, match="expected one 3x3 convolution on three colors, found 0"):
        recognize_network(LayerGraph([]))


def test_another_activation_is_refused(layers):
    stem = convolutions(layers, depthwise=False, stride=2)[0]
    layers[stem] = layers[stem]._replace(filters=layers[stem].filters._replace(activation="relu"))

    with pytest.raises(ValueError, match="expected a stem of stride 2 with relu6, found a 3x3 convolution with relu"):
        recognize_network(LayerGraph(layers))


def test_a_missing_shortcut_is_refused(layers):
    addition = next(place for place, layer in enumerate(layers) if layer.kind == "add")
    layers[addition] = layers[addition]._replace(kind="maximum")

    with pytest.raises(ValueError, match=r"expected .* to be added to .* once"):
        recognize_network(LayerGraph(layers))


def test_dilations_that_no_output_stride_gives_are_refused(layers):
    place = convolutions(layers, depthwise=True, stride=1)[0]
    layers[place] = layers[place]._replace(filters=layers[place].filters._replace(dilation=3))

    with pytest.raises(ValueError, match="no output stride has blocks of these"):
        recognize_network(LayerGraph(layers))


def test_a_width_that_is_none_is_refused(layers):
    # The last block is widened: 112 channels at width 0.35.
    for place, layer in enumerate(layers):
        if layer.filters and layer.filters.weight.shape[0] == 1280:
            wide = Filters(np.zeros((1288, 112, 1, 1), np.float32), depthwise=False, activation="relu6")
            layers[place] = layer._replace(filters=wide)

    with pytest.raises(ValueError, match=r"no width of MobileNetV2 has stages of 16, 8, .* and 1288 channels"):
        recognize_network(LayerGraph(layers))


def test_a_network_that_ends_with_its_backbone_is_refused(layers):
    kept = [layer for layer in layers if layer.filters is None or len(layer.filters.weight) != 1280]

    with pytest.raises(ValueError, match="expected a classifier, a detector or a segmenter after the last block"):
        recognize_network(LayerGraph(kept))


@pytest.mark.parametrize("layers", ["segmenter"], indirect=True)
def test_branches_in_another_order_are_refused(layers):
    place = next(place for place, layer in enumerate(layers) if layer.kind == "concat")
    layers[place] = layers[place]._replace(sources=layers[place].sources[::-1])

    with pytest.raises(ValueError, match="to join the pooled map and the pixels' map in this order"):
        recognize_network(LayerGraph(layers))


@pytest.mark.parametrize("layers", ["segmenter"], indirect=True)
def test_logits_that_are_resized_without_aligned_corners_are_refused(layers):
    for place, layer in enumerate(layers):
        if layer.kind == "resize":
            layers[place] = layer._replace(kind="resize without aligned corners")

    with pytest.raises(ValueError, match="expected the logits to be resized with aligned corners"):
        recognize_network(LayerGraph(layers))


@pytest.mark.parametrize("layers", ["detector"], indirect=True)
def test_predictors_whose_outputs_are_never_scored_are_refused(layers):
    kept = [layer for layer in layers if layer.kind != "sigmoid"]

    with pytest.raises(
        ValueError, match=r"expected a depthwise predictor of boxes and one of classes .* found 2 and 0"
    ):
        recognize_network(LayerGraph(kept))


@pytest.mark.parametrize("layers", ["detector"], indirect=True)
def test_a_detector_with_softmax_is_one_in_its_card(layers):
    layers = [layer._replace(kind="softmax") if layer.kind == "sigmoid" else layer for layer in layers]

    assert recognize_network(LayerGraph(layers)).card.heads["detection"].config["score_function"] == "softmax"


def test_a_detector_on_a_dilated_backbone_is_refused(trained, write_graph):
    network = trained(ssdlite_mobilenet_v2(2, width_mult=0.35, input_size=64))
    # No detector of ours is one; a file may be.
    object.__setattr__(network.head.config, "output_stride", 16)

    with pytest.raises(ValueError, match="detector without dilation, found one at output stride 16"):
        recognize_network(read_frozen_graph(write_graph(network)))


@pytest.mark.parametrize("layers", ["detector"], indirect=True)
def test_other_anchors_are_refused(layers):
    place = next(place for place, layer in enumerate(layers) if layer.filters and layer.filters.weight.shape[0] == 12)
    filters = layers[place].filters
    layers[place] = layers[place]._replace(filters=filters._replace(weight=np.repeat(filters.weight, 2, axis=0)))

    with pytest.raises(ValueError, match=r"expected 4 coordinates of .* anchors per cell on the six maps"):
        recognize_network(LayerGraph(layers))


@pytest.mark.parametrize("layers", ["detector"], indirect=True)
def test_a_bias_for_every_filter_is_asked_for(layers):
    place = next(place for place, layer in enumerate(layers) if layer.filters and layer.filters.weight.shape[0] == 12)
    filters = layers[place].filters
    layers[place] = layers[place]._replace(filters=filters._replace(bias=filters.bias[:5]))

    with pytest.raises(ValueError, match=r"has 12 filters and values of shape \[5\] for them"):
        recognize_network(LayerGraph(layers))
