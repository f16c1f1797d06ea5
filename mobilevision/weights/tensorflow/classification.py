"""A classifier of TensorFlow's as ours."""

from mobilevision.backbone.image_network import Scalar
from mobilevision.weights.card import Weights, WeightsCard
from mobilevision.weights.classes import background_option
from mobilevision.weights.tensorflow.backbone import FoundBackbone
from mobilevision.weights.tensorflow.convolution import filters_of, linear_tensors, network_tensors
from mobilevision.weights.tensorflow.layers import Layer, LayerGraph
from mobilevision.weights.width import width_options


def map_classifier(graph: LayerGraph, backbone: FoundBackbone, last: Layer) -> Weights:
    """Give the tensors and options of ``mobilenet_v2``, all outputs kept: a background class is the first of them.

    Args:
        graph: Where the classifier is.
        backbone: What was found of it.
        last: The convolution behind the last block.

    Raises:
        ValueError: What follows is not one linear layer on the pooled map.
    """
    pooled = graph.only(last.output, "pool")
    logits = graph.convolution(pooled.output, activation="linear")
    num_classes = len(filters_of(logits).weight)
    options: dict[str, Scalar] = {
        "num_classes": num_classes,
        **width_options(backbone.channels, len(filters_of(last).weight)),
        "output_stride": backbone.output_stride,
        "padding": backbone.padding,
        "norm_eps": backbone.norm_eps,
        **background_option(num_classes),
    }
    weight, bias = linear_tensors(logits)
    tensors = network_tensors({**backbone.layers, "backbone.last": last}, backbone.norm_eps)
    tensors |= {"head.linear.weight": weight.flatten(1), "head.linear.bias": bias}
    return Weights(tensors, WeightsCard("mobilenet_v2", options))
