"""The operators and tensors that a .tflite file stores."""

from typing import Any, NamedTuple

import numpy as np

from mobilevision.weights.tensorflow.layers import QuantizedArray

try:
    import tflite
except ModuleNotFoundError:
    tflite = None

MAGIC = b"TFL3"
"""After the first four bytes of the file."""

DTYPES: dict[int, type[np.generic]] = {
    0: np.float32,
    1: np.float16,
    2: np.int32,
    3: np.uint8,
    4: np.int64,
    7: np.int16,
    9: np.int8,
}
"""By their number in the schema."""


class Quantization(NamedTuple):
    """Integers stand for ``(integer - zero_point) * scale``, per tensor or along one axis."""

    scale: np.ndarray
    zero_point: np.ndarray
    axis: int


class Operator(NamedTuple):
    """One operation, in the words of the schema."""

    kind: str
    inputs: list[int]
    output: int
    stored_options: Any
    """A flatbuffers table, or None."""

    def read_options(self, reader: Any) -> Any:
        """Read the options with an object of their own class.

        Raises:
            ValueError: They are missing.
        """
        if self.stored_options is None:
            raise ValueError(f"a {self.kind} has lost its options")
        reader.Init(self.stored_options.Bytes, self.stored_options.Pos)
        return reader


class TFLiteFile:
    """The first graph of a .tflite file.

    Args:
        data: The whole file.

    Raises:
        ValueError: The extra that reads it is not installed, or the file's counts exceed its size.
    """

    def __init__(self, data: bytes) -> None:
        if tflite is None:
            raise ValueError("a .tflite file is read with an optional part: pip install 'mobilevision[import]'")
        self._size = len(data)
        self._model = tflite.Model.GetRootAsModel(data, 0)
        self._check_count(self._model.SubgraphsLength(), at_least=1)
        self._check_count(self._model.BuffersLength())
        self._graph = self._model.Subgraphs(0)
        self._check_count(self._graph.TensorsLength())
        self._check_count(self._graph.InputsLength(), at_least=1)
        self._constants: dict[int, np.ndarray | QuantizedArray | None] = {}

    def operators(self) -> list[Operator]:
        """Return the operators in the order in which they run."""
        self._check_count(self._graph.OperatorsLength())
        return [self._operator(self._graph.Operators(index)) for index in range(self._graph.OperatorsLength())]

    @property
    def input(self) -> int:
        """The tensor of the images."""
        return int(self._graph.Inputs(0))

    def shape(self, index: int) -> tuple[int, ...]:
        """Return the shape of a tensor."""
        tensor = self._tensor(index)
        self._check_count(tensor.ShapeLength())
        return tuple(int(tensor.Shape(axis)) for axis in range(tensor.ShapeLength()))

    def name(self, index: int) -> str:
        """Return the name of a tensor: the first where a converter joined the names of all that it merged."""
        return (self._tensor(index).Name() or b"?").decode(errors="replace").split(";")[0]

    def dtype(self, index: int) -> type[np.generic]:
        """Return the type in which a tensor is stored.

        Raises:
            ValueError: It is not understood.
        """
        number = self._tensor(index).Type()
        if number not in DTYPES:
            raise ValueError(f"{self.name(index)} has a type that is not understood: number {number} of the schema")
        return DTYPES[number]

    def quantization(self, index: int) -> Quantization | None:
        """Return the quantization of a tensor, if it is quantized.

        Raises:
            ValueError: It is not understood.
        """
        stored = self._tensor(index).Quantization()
        if stored is None or stored.ScaleLength() == 0:
            return None
        if stored.DetailsType() != 0 or stored.ScaleLength() != stored.ZeroPointLength():
            raise ValueError(f"{self.name(index)} has a quantization that is not understood")
        return Quantization(stored.ScaleAsNumpy(), stored.ZeroPointAsNumpy(), stored.QuantizedDimension())

    def constant(self, index: int) -> np.ndarray | QuantizedArray | None:
        """Return the value of a tensor that the file stores: float32, quantized, or integers that are not quantized."""
        if index not in self._constants:
            self._constants[index] = self._read_constant(index)
        return self._constants[index]

    def _operator(self, stored: Any) -> Operator:
        self._check_count(stored.InputsLength())
        self._check_count(stored.OutputsLength(), at_least=1)
        code = self._model.OperatorCodes(stored.OpcodeIndex())
        # Files from before the schema's version 3a know the shorter number only.
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        return Operator(
            tflite.BUILTIN_OPCODE2NAME.get(number, f"operator {number}"),
            [int(stored.Inputs(position)) for position in range(stored.InputsLength())],
            int(stored.Outputs(0)),
            stored.BuiltinOptions(),
        )

    def _read_constant(self, index: int) -> np.ndarray | QuantizedArray | None:
        tensor = self._tensor(index)
        if tensor.Buffer() >= self._model.BuffersLength() or tensor.Sparsity() is not None:
            raise ValueError(f"{self.name(index)} is stored in a form that is not understood")
        buffer = self._model.Buffers(tensor.Buffer())
        if buffer.DataLength() == 0:
            return None
        stored = buffer.DataAsNumpy().view(self.dtype(index)).reshape(self.shape(index))
        quantization = self.quantization(index)
        if quantization is None:
            return np.asarray(stored, np.float32 if stored.dtype.kind == "f" else None)
        along = [1] * stored.ndim
        if len(quantization.scale) > 1:
            along[quantization.axis] = stored.shape[quantization.axis]
        zero_point = quantization.zero_point.astype(np.float32)
        return QuantizedArray(stored, quantization.scale.reshape(along), zero_point.reshape(along))

    def _tensor(self, index: int) -> Any:
        if not 0 <= index < self._graph.TensorsLength():
            raise ValueError(f"the file has no tensor {index}")
        return self._graph.Tensors(index)

    def _check_count(self, count: int, at_least: int = 0) -> None:
        # Flatbuffers checks nothing: a flipped byte would otherwise make a loop of four thousand million turns.
        if not at_least <= count <= self._size // 4:
            raise ValueError(f"the file states {count} of something, which its {self._size} bytes cannot hold")
