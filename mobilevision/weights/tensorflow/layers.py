"""Graphs of layers that read and write named maps, whatever file they come from."""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from jaxtyping import Float32

from mobilevision.backbone.convolution import Padding

Activation = Literal["linear", "relu", "relu6"]
Array = Float32[np.ndarray, "..."]


def explicit_padding(pads: list[list[int]]) -> Padding:
    """Return the convention that pads a 3x3 convolution like this.

    Args:
        pads: Before and after each of batch, height, width and channels; empty where nothing is padded.

    Raises:
        ValueError: Neither does.
    """
    if pads == [[0, 0], [1, 1], [1, 1], [0, 0]]:
        return "symmetric"
    if pads == [[0, 0], [0, 1], [0, 1], [0, 0]]:
        return "tf_same"
    raise ValueError(f"expected 3x3 convolutions padded by (0, 1) or (1, 1) in height and width, found {pads}")


class QuantizedArray:
    """Integers as a file stores them, which stand for ``(integer - zero_point) * scale``.

    As floats they take four times the memory: they are dequantized when a network is known to be right.

    Args:
        integers: Views of the file will do.
        scale: One number, or one along each index of an axis; of as many dimensions as the integers.
        zero_point: One number, or one along each index of the same axis; of as many dimensions as the integers.
    """

    def __init__(self, integers: np.ndarray, scale: np.ndarray, zero_point: np.ndarray) -> None:
        self.integers = integers
        self.scale = scale
        self.zero_point = zero_point

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the integers."""
        return self.integers.shape

    def __len__(self) -> int:
        return len(self.integers)

    def __getitem__(self, key: Any) -> Self:
        """Index by whole axes and new ones only."""
        return type(self)(self.integers[key], self.scale[key], self.zero_point[key])

    def transpose(self, axes: Sequence[int]) -> Self:
        """Return it with the dimensions in another order."""
        return type(self)(self.integers.transpose(axes), self.scale.transpose(axes), self.zero_point.transpose(axes))

    def dequantize(self, out: Array | None = None) -> Array:
        """Return the numbers that the integers stand for, in ``out`` or else in memory of their own."""
        values: Array = np.empty(self.shape, np.float32) if out is None else out
        np.subtract(self.integers, self.zero_point, out=values, dtype=np.float32)
        values *= self.scale
        return values


def to_floats(values: np.ndarray | QuantizedArray) -> np.ndarray:
    """Return the numbers that quantized values stand for, and others as they are."""
    return values.dequantize() if isinstance(values, QuantizedArray) else values


class Norm(NamedTuple):
    """Batch normalization that was not folded into the filters."""

    gamma: Array
    beta: Array
    mean: Array
    variance: Array
    eps: float


class Filters(NamedTuple):
    """A convolution, with the normalization, bias and activation that follow it."""

    weight: Float32[np.ndarray, "D C k k"] | QuantizedArray
    depthwise: bool
    stride: int = 1
    dilation: int = 1
    padding: Padding | None = None
    """None where the kernel needs none."""
    bias: Array | None = None
    norm: Norm | None = None
    activation: Activation = "linear"

    def describe(self) -> str:
        """Describe it for a message, in a few words."""
        kernel = f"{self.weight.shape[2]}x{self.weight.shape[3]}"
        ending = "" if self.activation == "linear" else f" with {self.activation}"
        return f"a {kernel} {'depthwise ' if self.depthwise else ''}convolution{ending}"


class Layer(NamedTuple):
    """One operation on maps.

    Attributes:
        kind: ``input``, ``convolution``, ``add``, ``subtract``, ``multiply``, ``divide``, ``concat``, ``pool`` (the
            mean of the whole map), ``pad``, ``resize`` (with aligned corners), ``sigmoid`` or ``softmax``; the file's
            own word for any other.
        name: In its file.
        sources: The maps it reads, constants left out.
        output: The map it writes.
        filters: Of a convolution.
        constant: The operand of an arithmetic layer of one source; height and width of the ``input``, or of the size
            that is resized to.
    """

    kind: str
    name: str
    sources: tuple[str, ...]
    output: str
    filters: Filters | None = None
    constant: np.ndarray | None = None

    def describe(self) -> str:
        """Describe it for a message, in a few words."""
        return self.filters.describe() if self.filters else self.kind


class LayerGraph:
    """The layers of a file, by the maps that they read and write.

    Args:
        layers: In any order.
    """

    def __init__(self, layers: Iterable[Layer]) -> None:
        self.layers = tuple(layers)
        self._writers = {layer.output: layer for layer in self.layers}
        self._readers: dict[str, list[Layer]] = {}
        for layer in self.layers:
            for source in layer.sources:
                self._readers.setdefault(source, []).append(layer)

    def readers(self, output: str) -> list[Layer]:
        """Return the layers that read a map."""
        return self._readers.get(output, [])

    def writer(self, output: str) -> Layer | None:
        """Return the layer that writes a map, if one does."""
        return self._writers.get(output)

    def convolutions(
        self, source: str, kernel_size: int = 1, *, depthwise: bool = False, activation: Activation = "relu6"
    ) -> list[Layer]:
        """Return the convolutions of this form that read a map."""
        return [
            layer
            for layer in self.readers(source)
            if layer.filters
            and layer.filters.weight.shape[2:] == (kernel_size, kernel_size)
            and layer.filters.depthwise == depthwise
            and layer.filters.activation == activation
        ]

    def convolution(
        self, source: str, kernel_size: int = 1, *, depthwise: bool = False, activation: Activation = "relu6"
    ) -> Layer:
        """Return the only convolution of this form that reads a map.

        Raises:
            ValueError: There is none, or more than one.
        """
        found = self.convolutions(source, kernel_size, depthwise=depthwise, activation=activation)
        if len(found) != 1:
            wanted = Filters(np.empty((1, 1, kernel_size, kernel_size), np.float32), depthwise, activation=activation)
            raise ValueError(f"expected {wanted.describe()} after {self.name(source)}, found {self.list_after(source)}")
        return found[0]

    def only(self, source: str, kind: str) -> Layer:
        """Return the only layer of a kind that reads a map.

        Raises:
            ValueError: There is none, or more than one.
        """
        found = [layer for layer in self.readers(source) if layer.kind == kind]
        if len(found) != 1:
            raise ValueError(f"expected {kind} after {self.name(source)}, found {self.list_after(source)}")
        return found[0]

    def leads_to(self, output: str, kinds: Collection[str]) -> str | None:
        """Return the first of ``kinds`` that anything computed from a map goes through."""
        downstream = _reached(self.readers(output), lambda layer: self.readers(layer.output))
        return next((layer.kind for layer in downstream if layer.kind in kinds), None)

    def upstream(self, output: str) -> Iterator[Layer]:
        """Yield the layers that a map is computed from, the nearest first."""

        def writers(outputs: Iterable[str]) -> list[Layer]:
            return [self._writers[name] for name in outputs if name in self._writers]

        return _reached(writers([output]), lambda layer: writers(layer.sources))

    def name(self, output: str) -> str:
        """Return the name of the layer that writes a map, for messages."""
        layer = self.writer(output)
        return layer.name if layer else "the input"

    def list_after(self, output: str) -> str:
        """List the readers of a map, for messages."""
        return ", ".join(sorted({layer.describe() for layer in self.readers(output)})) or "the end of the graph"


def _reached(start: Iterable[Layer], following: Callable[[Layer], Iterable[Layer]]) -> Iterator[Layer]:
    # Graphs have loops: those of the Object Detection API go over the images of a batch.
    seen: set[str] = set()
    queue = deque(start)
    while queue:
        layer = queue.popleft()
        if layer.output not in seen:
            seen.add(layer.output)
            yield layer
            queue.extend(following(layer))
