""".tflite files as graphs of layers."""

import struct
from typing import Any

import numpy as np

from mobilevision.backbone.convolution import Padding
from mobilevision.weights.tensorflow.layers import (
    Activation,
    Array,
    Filters,
    Layer,
    LayerGraph,
    QuantizedArray,
    explicit_padding,
    to_floats,
)
from mobilevision.weights.tensorflow.tflite_file import Operator, TFLiteFile

try:
    import tflite
except ModuleNotFoundError:
    tflite = None

ACTIVATIONS: dict[int, Activation] = {0: "linear", 1: "relu", 3: "relu6"}
"""By their number in the schema."""

CONVOLUTIONS = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"})

KINDS = {
    "ADD": "add",
    "CONCATENATION": "concat",
    "DIV": "divide",
    "LOGISTIC": "sigmoid",
    "MUL": "multiply",
    "PAD": "pad",
    "SOFTMAX": "softmax",
    "SUB": "subtract",
}

ALIASES = frozenset({"DEQUANTIZE", "QUANTIZE", "RESHAPE", "SQUEEZE", "EXPAND_DIMS", "BATCH_TO_SPACE_ND"})
"""Operations that return the same numbers in another type or shape."""


def read_tflite(data: bytes) -> LayerGraph:
    """Read the first graph of a .tflite file.

    Raises:
        ValueError: The extra that reads it is not installed, or the file is damaged or not understood.
    """
    try:
        return _TFLiteReader(TFLiteFile(data)).read()
    except (struct.error, IndexError, TypeError, OverflowError) as error:
        raise ValueError("the file is damaged or cut off") from error


class _TFLiteReader:
    def __init__(self, file: TFLiteFile) -> None:
        self._file = file
        self._same: dict[int, int] = {}
        self._pads: dict[int, tuple[int, np.ndarray]] = {}
        self._dilations: dict[int, int] = {}

    def read(self) -> LayerGraph:
        layers = self._read_input(self._file.input)
        for operator in self._file.operators():
            layers += self._read_operator(operator)
        return LayerGraph(layers)

    def _read_input(self, index: int) -> list[Layer]:
        """Return layers that do to pixels from 0 to 255 what the input's quantization does."""
        sides = np.array(self._file.shape(index)[1:3])
        quantization = self._file.quantization(index)
        if quantization is None:
            return [Layer("input", "the input", (), str(index), constant=sides)]
        lowest = np.iinfo(np.dtype(self._file.dtype(index))).min
        return [
            Layer("input", "the input", (), "pixels", constant=sides),
            Layer("subtract", "the input", ("pixels",), "shifted", constant=quantization.zero_point - lowest),
            Layer("multiply", "the input", ("shifted",), str(index), constant=quantization.scale),
        ]

    def _read_operator(self, operator: Operator) -> list[Layer]:
        output = operator.output
        if operator.kind in CONVOLUTIONS:
            return [self._convolution(operator)]
        if operator.kind in ALIASES:
            self._same[output] = self._origin(operator.inputs[0])
            return []
        if operator.kind == "SPACE_TO_BATCH_ND":
            self._same[output] = self._origin(operator.inputs[0])
            self._dilations[output] = int(self._known(operator.inputs[1]).flat[0])
            return []
        if operator.kind == "PAD":
            self._pads[output] = (operator.inputs[0], self._known(operator.inputs[1]))
        sources = [index for index in operator.inputs if self._constant(index) is None]
        constants = [index for index in operator.inputs if self._constant(index) is not None]
        return [
            Layer(
                self._kind(operator),
                self._file.name(output),
                tuple(str(self._origin(index)) for index in sources),
                str(output),
                constant=self._known(constants[0]) if constants else None,
            )
        ]

    def _kind(self, operator: Operator) -> str:
        if operator.kind in ("AVERAGE_POOL_2D", "MEAN"):
            # Of the whole map: one number per channel is left.
            return "pool" if np.prod(self._file.shape(operator.output)[:-1]) == 1 else operator.kind
        if operator.kind == "RESIZE_BILINEAR":
            aligned = operator.read_options(tflite.ResizeBilinearOptions()).AlignCorners()
            return "resize" if aligned else "resize without aligned corners"
        return KINDS.get(operator.kind, operator.kind)

    def _convolution(self, operator: Operator) -> Layer:
        source, _, *bias = operator.inputs
        match operator.kind:
            case "FULLY_CONNECTED":
                filters = self._fully_connected(operator)
            case "CONV_2D":
                filters = self._spatial(operator, operator.read_options(tflite.Conv2DOptions()))
            case _:
                filters = self._spatial(operator, operator.read_options(tflite.DepthwiseConv2DOptions()))
        if bias and bias[0] >= 0:
            filters = filters._replace(bias=self._bias(bias[0], len(filters.weight)))
        if source in self._pads:
            source = self._pads[source][0]
        name = self._file.name(operator.output)
        return Layer("convolution", name, (str(self._origin(source)),), str(operator.output), filters)

    def _fully_connected(self, operator: Operator) -> Filters:
        options = operator.read_options(tflite.FullyConnectedOptions())
        weight = self._parameters(operator.inputs[1], 2)
        activation = self._activation(operator, options.FusedActivationFunction())
        return Filters(weight[:, :, None, None], depthwise=False, activation=activation)

    def _spatial(self, operator: Operator, options: Any) -> Filters:
        source, weight = operator.inputs[0], self._parameters(operator.inputs[1], 4)
        depthwise = operator.kind == "DEPTHWISE_CONV_2D"
        return Filters(
            weight.transpose((3, 0, 1, 2) if depthwise else (0, 3, 1, 2)),
            depthwise,
            stride=options.StrideH(),
            dilation=self._dilations.get(source, options.DilationHFactor()),
            padding=None if source in self._dilations else self._padding(source, options, kernel_size=weight.shape[1]),
            activation=self._activation(operator, options.FusedActivationFunction()),
        )

    def _padding(self, source: int, options: Any, *, kernel_size: int) -> Padding | None:
        if kernel_size == 1:
            return None
        if options.Padding() == tflite.Padding.SAME:
            return "tf_same"
        pads = self._pads[source][1].tolist() if source in self._pads else []
        return explicit_padding(pads)

    def _activation(self, operator: Operator, number: int) -> Activation:
        if number not in ACTIVATIONS:
            name = self._file.name(operator.output)
            raise ValueError(f"{name} ends with an activation that is not understood: number {number} of the schema")
        return ACTIVATIONS[number]

    def _origin(self, index: int) -> int:
        return self._same.get(index, index)

    def _constant(self, index: int) -> np.ndarray | QuantizedArray | None:
        return self._file.constant(self._origin(index)) if index >= 0 else None

    def _parameters(self, index: int, num_dimensions: int) -> Array | QuantizedArray:
        values = self._stored(index)
        found = "quantized values" if isinstance(values, QuantizedArray) else str(values.dtype)
        if len(values.shape) != num_dimensions or found not in ("quantized values", "float32"):
            raise ValueError(
                f"expected {self._file.name(index)} to be floats, or quantized, of {num_dimensions} dimensions, "
                f"found {found} of {len(values.shape)}"
            )
        return values

    def _bias(self, index: int, count: int) -> Array:
        values = to_floats(self._parameters(index, 1))
        if len(values) != count:
            raise ValueError(f"{self._file.name(index)} has {len(values)} values for {count} filters")
        return values

    def _known(self, index: int) -> np.ndarray:
        return to_floats(self._stored(index))

    def _stored(self, index: int) -> np.ndarray | QuantizedArray:
        value = self._constant(index)
        if value is None:
            raise ValueError(f"expected {self._file.name(index)} to be stored, but the graph computes it")
        return value
