"""Recognise which of our networks a graph is."""

import torch

from mobilevision.weights.card import Weights
from mobilevision.weights.tensorflow.backbone import find_backbone
from mobilevision.weights.tensorflow.classification import map_classifier
from mobilevision.weights.tensorflow.detection import map_detector
from mobilevision.weights.tensorflow.layers import LayerGraph
from mobilevision.weights.tensorflow.pixels import input_side, normalization_options
from mobilevision.weights.tensorflow.segmentation import map_segmenter


def recognize_network(graph: LayerGraph) -> Weights:
    """Follow the graph from the pixels on and give it as weights of the network that it is.

    Raises:
        ValueError: It is none of them; the message says where it departs from what was expected.
    """
    backbone = find_backbone(graph)
    after = graph.convolutions(backbone.end)
    if any(layer.kind == "pool" for layer in graph.readers(backbone.end)):
        weights = map_segmenter(graph, backbone)
    elif len(after) != 1:
        found = graph.list_after(backbone.end)
        raise ValueError(f"expected a classifier, a detector or a segmenter after the last block, found {found}")
    elif any(layer.kind == "pool" for layer in graph.readers(after[0].output)):
        weights = map_classifier(graph, backbone, after[0])
    else:
        weights = map_detector(graph, backbone, after[0])
    options = {**weights.card.options, **normalization_options(graph, backbone.pixels)}
    side = input_side(graph, backbone.pixels)
    if side is not None:
        options["input_size"] = side
    tensors = {**weights.tensors}
    for name in ("mean", "std"):
        tensors[f"normalization.{name}"] = torch.tensor(options[name])
    return Weights(tensors, weights.card._replace(options=options))
