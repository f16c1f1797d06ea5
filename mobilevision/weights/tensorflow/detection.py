"""SSDLite as the Object Detection API writes it."""

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from mobilevision.backbone.mobilenet_v2 import NOMINAL_STRIDE
from mobilevision.weights.card import Weights
from mobilevision.weights.layout import add_head
from mobilevision.weights.tensorflow.backbone import FoundBackbone
from mobilevision.weights.tensorflow.convolution import conv_norm_tensors, filters_of, linear_tensors, norm_eps
from mobilevision.weights.tensorflow.layers import Layer, LayerGraph
from mobilevision.weights.width import find_config

ANCHORS_PER_CELL = (3, 6, 6, 6, 6, 6)
EXTRA_CHANNELS = (512, 256, 256, 128)
MIN_CHANNELS = 16
NORM_MOMENTUM = 3e-4
"""Of the Object Detection API's recipe, in PyTorch's sense."""

COORDINATE_ORDER = (1, 0, 3, 2)
"""The places of (dx, dy, dw, dh) in TensorFlow's (ty, tx, th, tw)."""


class FoundExtra(NamedTuple):
    """The convolutions of one of the extra layers behind the backbone, by their names in it."""

    squeeze: Layer
    depthwise: Layer
    widen: Layer


class FoundPredictor(NamedTuple):
    """A depthwise convolution and the linear one that predicts."""

    depthwise: Layer
    pointwise: Layer


class FoundPredictors(NamedTuple):
    """The predictors of one map."""

    score_function: str
    boxes: FoundPredictor
    classes: FoundPredictor


def map_detector(graph: LayerGraph, backbone: FoundBackbone, last: Layer) -> Weights:
    """Return the weights of a detector.

    Args:
        graph: Where the detector is.
        backbone: Its backbone.
        last: The convolution behind the last block.

    Raises:
        ValueError: What follows is not SSDLite's head with its six maps, or the backbone is dilated.
    """
    if backbone.output_stride != NOMINAL_STRIDE:
        raise ValueError(
            f"expected the backbone of a detector without dilation, found one at output stride {backbone.output_stride}"
        )
    extras = _find_extras(graph, last.output)
    maps = [backbone.expansion, last.output, *(extra.widen.output for extra in extras)]
    if len(maps) != len(ANCHORS_PER_CELL):
        raise ValueError(f"expected {len(ANCHORS_PER_CELL)} maps with predictors, found {len(maps)}")
    predictors = [_find_predictors(graph, source, backbone.filtered) for source in maps]
    widened = [len(filters_of(extra.widen).weight) for extra in extras]
    normalized = _normalized_layers(extras, predictors)
    eps = norm_eps(normalized.values())
    config = {
        "num_classes": _count_classes(predictors),
        "head_norm_eps": eps,
        "score_function": predictors[0].score_function,
    }
    size = find_config(
        backbone.channels,
        len(filters_of(last).weight),
        min_channels=MIN_CHANNELS,
        scale_last=True,
        accept=lambda width: [max(int(count * width), MIN_CHANNELS) for count in EXTRA_CHANNELS] == widened,
    )
    weights = backbone.make_weights(replace(size, norm_momentum=NORM_MOMENTUM), last)
    tensors = conv_norm_tensors(normalized, eps)
    for index, found in enumerate(predictors):
        tensors |= _box_tensors(f"box_predictors.{index}.pointwise", found.boxes.pointwise)
        tensors |= linear_tensors(f"class_predictors.{index}.pointwise", found.classes.pointwise)
    return add_head(weights, "detection", tensors, config)


def _normalized_layers(extras: list[FoundExtra], predictors: list[FoundPredictors]) -> dict[str, Layer]:
    named = {
        f"extras.{index}.{part}": layer for index, extra in enumerate(extras) for part, layer in extra._asdict().items()
    }
    for index, found in enumerate(predictors):
        named[f"box_predictors.{index}.depthwise"] = found.boxes.depthwise
        named[f"class_predictors.{index}.depthwise"] = found.classes.depthwise
    return named


def _find_extras(graph: LayerGraph, source: str) -> list[FoundExtra]:
    extras: list[FoundExtra] = []
    while (squeezes := graph.convolutions(source)) and len(extras) < len(ANCHORS_PER_CELL):
        if len(squeezes) > 1:
            raise ValueError(f"expected one extra layer after {graph.name(source)}, found {graph.list_after(source)}")
        depthwise = graph.convolution(squeezes[0].output, 3, depthwise=True)
        widen = graph.convolution(depthwise.output)
        extras.append(FoundExtra(squeezes[0], depthwise, widen))
        source = widen.output
    return extras


def _find_predictors(graph: LayerGraph, source: str, filtered: Layer) -> FoundPredictors:
    """Find the two predictors of a map, told apart by what becomes of their outputs: classes go through a score."""
    boxes: list[FoundPredictor] = []
    classes: list[FoundPredictor] = []
    score_function = "sigmoid"
    for depthwise in graph.convolutions(source, 3, depthwise=True):
        if depthwise is filtered:
            continue
        pointwise = graph.convolution(depthwise.output, activation="linear")
        scored = graph.leads_to(pointwise.output, ("sigmoid", "softmax"))
        (classes if scored else boxes).append(FoundPredictor(depthwise, pointwise))
        score_function = scored or score_function
    if len(boxes) != 1 or len(classes) != 1:
        raise ValueError(
            f"expected a depthwise predictor of boxes and one of classes after {graph.name(source)}, "
            f"found {len(boxes)} and {len(classes)}"
        )
    return FoundPredictors(score_function, boxes[0], classes[0])


def _count_classes(predictors: list[FoundPredictors]) -> int:
    """Count the classes without the background.

    Raises:
        ValueError: The predictors do not go with SSDLite's anchors, or not with each other.
    """
    boxes = [_num_outputs(found.boxes) for found in predictors]
    if boxes != [4 * count for count in ANCHORS_PER_CELL]:
        raise ValueError(
            f"expected 4 coordinates of {ANCHORS_PER_CELL} anchors per cell on the six maps, found {boxes}"
        )
    classes = [_num_outputs(found.classes) for found in predictors]
    num_outputs = classes[0] // ANCHORS_PER_CELL[0]
    if classes != [num_outputs * count for count in ANCHORS_PER_CELL]:
        raise ValueError(f"expected as many classes for every one of {ANCHORS_PER_CELL} anchors, found {classes}")
    return num_outputs - 1


def _num_outputs(predictor: FoundPredictor) -> int:
    return len(filters_of(predictor.pointwise).weight)


def _box_tensors(name: str, layer: Layer) -> dict[str, Tensor]:
    order = torch.arange(len(filters_of(layer).weight)).reshape(-1, 4)[:, COORDINATE_ORDER].flatten()
    return {key: tensor[order] for key, tensor in linear_tensors(name, layer).items()}
