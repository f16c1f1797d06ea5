import pytest

from mobilevision.classification import mobilenet_v2
from mobilevision.segmentation import deeplabv3_mobilenet_v2
from mobilevision.weights.tensorflow.frozen import read_frozen_graph
from mobilevision.weights.tensorflow.graphdef import message_class
from mobilevision.weights.tensorflow.recognition import recognize_network


@pytest.fixture
def classifier(trained):
    return trained(mobilenet_v2(4, width_mult=0.35, padding="tf_same", input_size=64))


@pytest.fixture
def graph(classifier, write_graph):
    return message_class("GraphDef").FromString(write_graph(classifier))


def read(graph):
    return recognize_network(read_frozen_graph(graph.SerializeToString()))


def nodes(graph, op):
    return [node for node in graph.node if node.op == op]


@pytest.mark.parametrize("dilations", [True, False])
def test_dilation_is_read_as_an_attribute_and_as_batches_spread_in_space(dilations, trained, write_graph):
    network = trained(deeplabv3_mobilenet_v2(3, width_mult=0.35, output_stride=8, input_size=65))

    weights = recognize_network(read_frozen_graph(write_graph(network, dilations=dilations)))

    assert weights.card.heads["segmentation"].config["output_stride"] == 8


def test_pixels_are_normalized_per_color(trained, write_graph):
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    network = trained(mobilenet_v2(4, width_mult=0.35, mean=mean, std=std))

    tensors = recognize_network(read_frozen_graph(write_graph(network))).tensors

    assert tensors["normalization.mean"].tolist() == pytest.approx(mean, abs=1e-6)
    assert tensors["normalization.std"].tolist() == pytest.approx(std, abs=1e-6)


def test_a_graph_without_arithmetic_on_the_pixels_wants_minus_one_to_one(graph):
    image = next(node for node in graph.node if node.name == "image")
    image.op = "Placeholder"
    del image.input[:]

    tensors, card = read(graph)

    assert (tensors["normalization.mean"].tolist(), tensors["normalization.std"].tolist()) == ([0.5] * 3, [0.5] * 3)
    # The graph does not state its size either.
    assert card.heads["classification"].config["input_size"] == 224


def test_arithmetic_with_another_map_is_refused(graph):
    subtraction = nodes(graph, "Sub")[0]
    subtraction.input[1] = nodes(graph, "Placeholder")[0].name

    with pytest.raises(ValueError, match="expected arithmetic with a constant on the pixels in image"):
        read(graph)


def test_a_bias_of_one_repeated_value_is_read(graph):
    bias = nodes(graph, "BiasAdd")[0].input[1]
    tensor = next(node for node in graph.node if node.name == bias).attr[0].value.tensor
    tensor.tensor_content = b""
    tensor.float_val.append(0.25)

    assert read(graph).tensors["heads.classification.linear.bias"].tolist() == [0.25] * 4


def test_a_constant_that_would_fill_the_memory_is_refused(graph):
    bias = nodes(graph, "BiasAdd")[0].input[1]
    tensor = next(node for node in graph.node if node.name == bias).attr[0].value.tensor
    tensor.tensor_content = b""
    tensor.float_val.append(0.25)
    tensor.tensor_shape.dim[0].size = 10**12

    with pytest.raises(ValueError, match=r"a constant of shape \[1000000000000\] has 1 values"):
        read(graph)


def test_filters_that_the_graph_computes_are_refused(graph):
    filters = next(node for node in graph.node if node.name == nodes(graph, "Conv2D")[0].input[1])
    filters.op = "FakeQuantWithMinMaxVars"

    with pytest.raises(ValueError, match="to be constant, found FakeQuantWithMinMaxVars: is the graph frozen"):
        read(graph)


def test_another_order_of_channels_is_refused(graph):
    nodes(graph, "Conv2D")[0].attr.add(key="data_format").value.s = b"NCHW"

    with pytest.raises(ValueError, match="expected channels last"):
        read(graph)


def test_an_input_that_leads_nowhere_is_refused_by_its_name(graph):
    nodes(graph, "Softmax")[0].input[0] = "gone"

    with pytest.raises(ValueError, match="the graph has no node 'gone'"):
        read(graph)


def test_a_graph_that_runs_in_a_circle_ends(graph):
    # The first layer's pixels come from the last one's result.
    nodes(graph, "Mul")[0].input[1] = nodes(graph, "Softmax")[0].name

    assert read(graph).card.heads["classification"].config["num_classes"] == 4
