"""The network that a graph of TensorFlow is: a classifier, a detector or a segmenter."""

from mobilevision.weights.card import Weights
from mobilevision.weights.layout import add_head, background_option, change_head
from mobilevision.weights.tensorflow.backbone import FoundBackbone, find_backbone
from mobilevision.weights.tensorflow.convolution import conv_norm_tensors, filters_of, linear_tensors, norm_eps
from mobilevision.weights.tensorflow.detection import map_detector
from mobilevision.weights.tensorflow.layers import Layer, LayerGraph
from mobilevision.weights.tensorflow.pixels import find_input_size, find_normalization
from mobilevision.weights.width import find_config

SEGMENTER_EPS = 1e-5
"""Of the normalization of a segmenter's head, where none is left in the file."""


def recognize_network(graph: LayerGraph) -> Weights:
    """Follow a graph from the pixels on, and return the weights of the network that computes the same.

    Raises:
        ValueError: It is no such network; the message names where it departs from what was expected.
    """
    backbone = find_backbone(graph)
    normalization = find_normalization(graph, backbone.pixels)
    input_size = find_input_size(graph, backbone.pixels)
    # All is known to be right before the first of them makes tensors: they take more memory than the file.
    weights = _map_network(graph, backbone)
    weights = weights._replace(tensors=weights.tensors | normalization)
    (name,) = weights.card.heads
    return weights if input_size is None else change_head(weights, name, {"input_size": input_size})


def _map_network(graph: LayerGraph, backbone: FoundBackbone) -> Weights:
    after = graph.convolutions(backbone.end)
    if any(layer.kind == "pool" for layer in graph.readers(backbone.end)):
        return map_segmenter(graph, backbone)
    if len(after) != 1:
        found = graph.list_after(backbone.end)
        raise ValueError(f"expected a classifier, a detector or a segmenter after the last block, found {found}")
    if any(layer.kind == "pool" for layer in graph.readers(after[0].output)):
        return map_classifier(graph, backbone, after[0])
    return map_detector(graph, backbone, after[0])


def map_classifier(graph: LayerGraph, backbone: FoundBackbone, last: Layer) -> Weights:
    """Return the weights of a classifier, all outputs kept: of 1001 the first is the background.

    Args:
        graph: Where the classifier is.
        backbone: Its backbone.
        last: The convolution behind the last block.

    Raises:
        ValueError: What follows is not one linear layer on the pooled map.
    """
    pooled = graph.only(last.output, "pool")
    logits = graph.convolution(pooled.output, activation="linear")
    num_classes = len(filters_of(logits).weight)
    config = {"num_classes": num_classes, "output_stride": backbone.output_stride, **background_option(num_classes)}
    size = find_config(backbone.channels, len(filters_of(last).weight))
    linear = linear_tensors("linear", logits)
    linear["linear.weight"] = linear["linear.weight"].flatten(1)
    return add_head(backbone.make_weights(size, last), "classification", linear, config)


def map_segmenter(graph: LayerGraph, backbone: FoundBackbone) -> Weights:
    """Return the weights of a segmenter with the light head.

    Args:
        graph: Where the segmenter is.
        backbone: Its backbone.

    Raises:
        ValueError: What follows the backbone is not the light head of Mobile DeepLabv3.
    """
    pixel = graph.convolution(backbone.end, activation="relu")
    pool = graph.convolution(graph.only(backbone.end, "pool").output, activation="relu")
    joined = graph.only(pixel.output, "concat")
    pooled_first = any(layer is pool for layer in graph.upstream(joined.sources[0]))
    if joined.sources[1:] != (pixel.output,) or not pooled_first:
        raise ValueError(
            f"expected {joined.name} to join the pooled map and the pixels' map in this order, "
            f"found {', '.join(graph.name(source) for source in joined.sources)}"
        )
    project = graph.convolution(joined.output, activation="relu")
    logits = graph.convolution(project.output, activation="linear")
    _check_upsampling(graph, logits)
    eps = norm_eps((pool, pixel, project), default=SEGMENTER_EPS)
    config = {
        "num_classes": len(filters_of(logits).weight),
        "output_stride": backbone.output_stride,
        "head_norm_eps": eps,
    }
    weights = backbone.make_weights(find_config(backbone.channels))
    branches = conv_norm_tensors({"pool": pool, "pixel": pixel, "project": project}, eps)
    return add_head(weights, "segmentation", branches | linear_tensors("logits", logits), config)


def _check_upsampling(graph: LayerGraph, logits: Layer) -> None:
    for layer in graph.readers(logits.output):
        if layer.kind.startswith("resize") and layer.kind != "resize":
            raise ValueError(f"expected the logits to be resized with aligned corners, found {layer.kind}")
