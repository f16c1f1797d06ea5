"""Tensors of the convolutions in a graph."""

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor

from mobilevision.weights.tensorflow.layers import Array, Filters, Layer, QuantizedArray

DEFAULT_EPS = 1e-3
"""Of the backbone's normalization, where it was folded away and none is left to keep."""


def filters_of(layer: Layer) -> Filters:
    """Return the filters of a layer that is known to be a convolution."""
    assert layer.filters is not None
    return layer.filters


def norm_eps(layers: Iterable[Layer], default: float = DEFAULT_EPS) -> float:
    """Return the epsilon of the layers' normalizations, ``default`` where they were folded away."""
    norms = [filters_of(layer).norm for layer in layers]
    return min((round(norm.eps, 9) for norm in norms if norm), default=default)


def conv_norm_tensors(layers: Mapping[str, Layer], eps: float) -> dict[str, Tensor]:
    """Return the tensors of ``ConvNorm`` modules that compute what layers do.

    Args:
        layers: Convolutions with normalization, or with what is left of it: a bias. By the names of the modules.
        eps: Of the normalization that will be built. Where the file has another, the variance makes up for it.

    Raises:
        ValueError: A layer has more or fewer filters than values for them.
    """
    tensors: dict[str, Tensor] = {}
    for name, layer in layers.items():
        filters = filters_of(layer)
        if filters.norm:
            gamma, beta, mean, variance, file_eps = filters.norm
            variance = variance + np.float32(file_eps - eps)
        else:
            gamma, mean = np.ones(len(filters.weight)), np.zeros(len(filters.weight))
            beta, variance = mean if filters.bias is None else filters.bias, gamma - eps
        tensors |= {
            f"{name}.conv.weight": _tensor(filters.weight),
            f"{name}.norm.weight": _vector(layer, gamma),
            f"{name}.norm.bias": _vector(layer, beta),
            f"{name}.norm.running_mean": _vector(layer, mean),
            f"{name}.norm.running_var": _vector(layer, variance),
            f"{name}.norm.num_batches_tracked": torch.tensor(0),
        }
    return tensors


def linear_tensors(name: str, layer: Layer) -> dict[str, Tensor]:
    """Return weight and bias of a layer that predicts.

    Args:
        name: In front of the tensors' own names.
        layer: A convolution without normalization.

    Raises:
        ValueError: It is normalized, or has another number of filters than biases.
    """
    filters = filters_of(layer)
    if filters.norm:
        raise ValueError(f"expected a bias behind {layer.name}, found a normalization")
    bias = np.zeros(len(filters.weight)) if filters.bias is None else filters.bias
    return {f"{name}.weight": _tensor(filters.weight), f"{name}.bias": _vector(layer, bias)}


def _vector(layer: Layer, values: Array) -> Tensor:
    count = len(filters_of(layer).weight)
    if values.shape != (count,):
        raise ValueError(f"{layer.name} has {count} filters and values of shape {list(values.shape)} for them")
    return _tensor(values)


def _tensor(values: Array | QuantizedArray) -> Tensor:
    # In the order in which the network will hold it: as another it would be in the memory twice.
    order = torch.channels_last if len(values.shape) == 4 else torch.contiguous_format
    tensor = torch.empty(values.shape, dtype=torch.float32, memory_format=order)
    if isinstance(values, QuantizedArray):
        values.dequantize(tensor.numpy())
    else:
        np.copyto(tensor.numpy(), values, casting="same_kind")
    return tensor
