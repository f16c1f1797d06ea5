"""An SSDLite of the Object Detection API as ours."""

from typing import NamedTuple

import torch
from torch import Tensor

from mobilevision.backbone.image_network import Scalar
from mobilevision.weights.card import Weights, WeightsCard
from mobilevision.weights.tensorflow.backbone import FoundBackbone
from mobilevision.weights.tensorflow.convolution import filters_of, linear_tensors, network_tensors, norm_eps
from mobilevision.weights.tensorflow.layers import Layer, LayerGraph
from mobilevision.weights.width import width_options

ANCHORS_PER_CELL = (3, 6, 6, 6, 6, 6)
EXTRA_CHANNELS = (512, 256, 256, 128)
MIN_CHANNELS = 16

COORDINATE_ORDER = (1, 0, 3, 2)
"""Where our (dx, dy, dw, dh) stand in TensorFlow's (ty, tx, th, tw)."""


class Extra(NamedTuple):
    """The convolutions of one of the layers behind the backbone, by the names of ours."""

    squeeze: Layer
    depthwise: Layer
    widen: Layer


class Predictor(NamedTuple):
    """A depthwise convolution and the linear one that predicts."""

    depthwise: Layer
    pointwise: Layer


class Head(NamedTuple):
    """The predictors of one map."""

    score_function: str
    boxes: Predictor
    classes: Predictor


def map_detector(graph: LayerGraph, backbone: FoundBackbone, last: Layer) -> Weights:
    """Give the tensors and options of ``ssdlite_mobilenet_v2``.

    Args:
        graph: Where the detector is.
        backbone: What was found of it.
        last: The convolution behind the last block.

    Raises:
        ValueError: What follows is not SSDLite's head with its six maps.
    """
    extras = _find_extras(graph, last.output)
    maps = [backbone.expansion, last.output, *(extra.widen.output for extra in extras)]
    if len(maps) != len(ANCHORS_PER_CELL):
        raise ValueError(f"expected {len(ANCHORS_PER_CELL)} maps with predictors, found {len(maps)}")
    heads = [_find_predictors(graph, source, backbone.filtered) for source in maps]
    widened = [len(filters_of(extra.widen).weight) for extra in extras]
    normalized = _normalized_layers(extras, heads)
    eps = norm_eps(normalized.values())
    options: dict[str, Scalar] = {
        "num_classes": _count_classes(heads),
        "preset": "tf300",
        **width_options(
            backbone.channels,
            len(filters_of(last).weight),
            min_channels=MIN_CHANNELS,
            scale_last=True,
            fits=lambda width: [max(int(count * width), MIN_CHANNELS) for count in EXTRA_CHANNELS] == widened,
        ),
        "padding": backbone.padding,
        "norm_eps": backbone.norm_eps,
        "head_norm_eps": eps,
        "score_function": heads[0].score_function,
    }
    tensors = network_tensors({**backbone.layers, "backbone.last": last}, backbone.norm_eps)
    tensors |= network_tensors(normalized, eps)
    for index, head in enumerate(heads):
        tensors |= _prediction_tensors(f"head.box_predictors.{index}.pointwise", head.boxes.pointwise, reorder=True)
        tensors |= _prediction_tensors(f"head.class_predictors.{index}.pointwise", head.classes.pointwise)
    return Weights(tensors, WeightsCard("ssdlite_mobilenet_v2", options))


def _normalized_layers(extras: list[Extra], heads: list[Head]) -> dict[str, Layer]:
    named = {
        f"head.extras.{index}.{part}": layer
        for index, extra in enumerate(extras)
        for part, layer in extra._asdict().items()
    }
    for index, head in enumerate(heads):
        named[f"head.box_predictors.{index}.depthwise"] = head.boxes.depthwise
        named[f"head.class_predictors.{index}.depthwise"] = head.classes.depthwise
    return named


def _find_extras(graph: LayerGraph, source: str) -> list[Extra]:
    extras: list[Extra] = []
    while (squeezes := graph.convolutions(source)) and len(extras) < len(ANCHORS_PER_CELL):
        if len(squeezes) > 1:
            raise ValueError(f"expected one extra layer after {graph.name(source)}, found {graph.list_after(source)}")
        depthwise = graph.convolution(squeezes[0].output, 3, depthwise=True)
        widen = graph.convolution(depthwise.output)
        extras.append(Extra(squeezes[0], depthwise, widen))
        source = widen.output
    return extras


def _find_predictors(graph: LayerGraph, source: str, filtered: Layer) -> Head:
    """Find the two predictors of a map, told apart by what becomes of their outputs: classes go through a score."""
    boxes: list[Predictor] = []
    classes: list[Predictor] = []
    score_function = "sigmoid"
    for depthwise in graph.convolutions(source, 3, depthwise=True):
        if depthwise is filtered:
            continue
        pointwise = graph.convolution(depthwise.output, activation="linear")
        scored = graph.leads_to(pointwise.output, ("sigmoid", "softmax"))
        (classes if scored else boxes).append(Predictor(depthwise, pointwise))
        score_function = scored or score_function
    if len(boxes) != 1 or len(classes) != 1:
        raise ValueError(
            f"expected a depthwise predictor of boxes and one of classes after {graph.name(source)}, "
            f"found {len(boxes)} and {len(classes)}"
        )
    return Head(score_function, boxes[0], classes[0])


def _count_classes(heads: list[Head]) -> int:
    """Count the classes without the background.

    Raises:
        ValueError: The heads do not go with SSDLite's anchors, or not with each other.
    """
    boxes = [_num_outputs(head.boxes) for head in heads]
    if boxes != [4 * count for count in ANCHORS_PER_CELL]:
        raise ValueError(
            f"expected 4 coordinates of {ANCHORS_PER_CELL} anchors per cell on the six maps, found {boxes}"
        )
    classes = [_num_outputs(head.classes) for head in heads]
    num_outputs = classes[0] // ANCHORS_PER_CELL[0]
    if classes != [num_outputs * count for count in ANCHORS_PER_CELL]:
        raise ValueError(f"expected as many classes for every one of {ANCHORS_PER_CELL} anchors, found {classes}")
    return num_outputs - 1


def _num_outputs(predictor: Predictor) -> int:
    return len(filters_of(predictor.pointwise).weight)


def _prediction_tensors(name: str, layer: Layer, *, reorder: bool = False) -> dict[str, Tensor]:
    weight, bias = linear_tensors(layer)
    if reorder:
        order = torch.arange(len(bias)).reshape(-1, 4)[:, COORDINATE_ORDER].flatten()
        weight, bias = weight[order], bias[order]
    return {f"{name}.weight": weight, f"{name}.bias": bias}
