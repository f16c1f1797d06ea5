"""Recognise which of our networks a graph is."""

import torch

from mobilevision.weights.card import Weights
from mobilevision.weights.tensorflow.backbone import FoundBackbone, find_backbone
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
    pixels = normalization_options(graph, backbone.pixels)
    side = input_side(graph, backbone.pixels)
    if side is not None:
        pixels["input_size"] = side
    # All is known to be right before the first of them makes tensors: they take more memory than the file.
    weights = _map_network(graph, backbone)
    tensors = weights.tensors | {f"normalization.{name}": torch.tensor(pixels[name]) for name in ("mean", "std")}
    return Weights(tensors, weights.card._replace(options={**weights.card.options, **pixels}))


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
