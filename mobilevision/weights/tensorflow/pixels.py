"""The size and normalization of the pixels before a graph's first convolution."""

from collections.abc import Iterator

import numpy as np
from torch import Tensor

from mobilevision.backbone.normalization import SYMMETRIC_MEAN, SYMMETRIC_STD
from mobilevision.weights.layout import normalization_tensors
from mobilevision.weights.tensorflow.layers import Layer, LayerGraph

DECIMALS = 7
"""Of float32, in which the graph holds its constants."""

RESIZES = frozenset({"resize", "resize without aligned corners"})
MOVES = frozenset({"pad", *RESIZES})
"""Layers that change the place of pixels and not their values."""

ARITHMETIC = frozenset({"add", "divide", "multiply", "subtract"})


def find_normalization(graph: LayerGraph, source: str) -> dict[str, Tensor]:
    """Return the tensors of the normalization that makes ``source`` out of pixels from 0 to 255.

    A graph without arithmetic on the pixels leaves it to its caller: TensorFlow's MobileNets then want [-1, 1].

    Raises:
        ValueError: The arithmetic is not one factor and one offset per color.
    """
    factor, offset = np.ones(3), np.zeros(3)
    for layer in _trace_back(graph, source):
        if layer.kind in ARITHMETIC:
            factor, offset = _before(layer, factor, offset)
        elif layer.kind not in MOVES:
            break
    if np.all(factor == 1) and np.all(offset == 0):
        return normalization_tensors(SYMMETRIC_MEAN, SYMMETRIC_STD)
    if not np.all((factor > 0) & np.isfinite(factor)):
        raise ValueError(f"expected the pixels to be scaled by positive factors, found {factor.tolist()}")
    std = 1 / (255 * factor)
    return normalization_tensors((-offset * std).round(DECIMALS).tolist(), std.round(DECIMALS).tolist())


def find_input_size(graph: LayerGraph, source: str) -> int | None:
    """Return the side of the images that ``source`` is made from, after the graph's own resizing, if it is stated."""
    for layer in graph.upstream(source):
        if layer.constant is not None and (layer.kind == "input" or layer.kind in RESIZES):
            sides = set(layer.constant.reshape(-1).tolist())
            if len(sides) == 1 and min(sides) > 0:
                return int(sides.pop())
    return None


def _trace_back(graph: LayerGraph, source: str) -> Iterator[Layer]:
    """Yield layer after layer by the first source of each; what a padding or a size is computed from stays aside."""
    for _ in graph.layers:
        layer = graph.writer(source)
        if layer is None:
            return
        yield layer
        if not layer.sources:
            return
        source = layer.sources[0]


def _before(layer: Layer, factor: np.ndarray, offset: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the factor and offset on a layer's source that make ``factor * output + offset`` of its output."""
    if layer.constant is None or len(layer.sources) != 1:
        raise ValueError(
            f"expected arithmetic with a constant on the pixels in {layer.name}, found another {layer.kind}"
        )
    constant = layer.constant.astype(np.float64).reshape(-1)
    if constant.size not in (1, 3):
        raise ValueError(f"expected one number or one per color in {layer.name}, found {constant.size}")
    match layer.kind:
        case "multiply":
            return factor * constant, offset
        case "divide":
            with np.errstate(divide="ignore"):
                return factor / constant, offset
        case "add":
            return factor, offset + factor * constant
        case _:
            return factor, offset - factor * constant
