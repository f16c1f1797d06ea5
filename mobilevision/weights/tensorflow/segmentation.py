"""A Mobile DeepLabv3 of TensorFlow's as ours."""

from mobilevision.backbone.image_network import Scalar
from mobilevision.weights.card import Weights, WeightsCard
from mobilevision.weights.tensorflow.backbone import FoundBackbone
from mobilevision.weights.tensorflow.convolution import filters_of, linear_tensors, network_tensors, norm_eps
from mobilevision.weights.tensorflow.layers import Layer, LayerGraph
from mobilevision.weights.width import width_options

HEAD_EPS = 1e-5
"""Of the head's normalisation, where none is left in the file."""


def map_segmenter(graph: LayerGraph, backbone: FoundBackbone) -> Weights:
    """Give the tensors and options of ``deeplabv3_mobilenet_v2`` with the light head.

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
    eps = norm_eps((pool, pixel, project), default=HEAD_EPS)
    options: dict[str, Scalar] = {
        "num_classes": len(filters_of(logits).weight),
        **width_options(backbone.channels),
        "output_stride": backbone.output_stride,
        "padding": backbone.padding,
        "norm_eps": backbone.norm_eps,
        "head_norm_eps": eps,
    }
    weight, bias = linear_tensors(logits)
    tensors = network_tensors(backbone.layers, backbone.norm_eps)
    tensors |= network_tensors({"head.pool": pool, "head.pixel": pixel, "head.project": project}, eps)
    tensors |= {"head.logits.weight": weight, "head.logits.bias": bias}
    return Weights(tensors, WeightsCard("deeplabv3_mobilenet_v2", options))


def _check_upsampling(graph: LayerGraph, logits: Layer) -> None:
    for layer in graph.readers(logits.output):
        if layer.kind.startswith("resize") and layer.kind != "resize":
            raise ValueError(f"expected the logits to be resized with aligned corners, found {layer.kind}")
