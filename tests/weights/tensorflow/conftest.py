"""Write networks of ours as TensorFlow would have, so that every width, head and storage can be read back."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import flatbuffers
import numpy as np
import pytest
import tflite
import torch
from torch import nn

from mobilevision.backbone.image_network import ImageNetwork
from mobilevision.backbone.inverted_residual import ConvNorm
from mobilevision.classification import Classifier
from mobilevision.detection import SSDLite
from mobilevision.segmentation import DeepLabV3
from mobilevision.weights.tensorflow.graphdef import message_class

IMAGE = "image"
ACTIVATIONS = {nn.ReLU6: "Relu6", nn.ReLU: "Relu"}
TF_COORDINATES = [1, 0, 3, 2]

TFLITE_OPERATORS = {"Add": 0, "ConcatV2": 2, "Sigmoid": 14, "Reshape": 22, "Softmax": 25, "Mean": 40, "Exp": 47}
TFLITE_TYPES = {"float32": 0, "float16": 1, "int32": 2, "uint8": 3, "int8": 9}
TFLITE_ACTIVATIONS = {None: 0, "Relu": 1, "Relu6": 3}


class Writer(Protocol):
    """One of the two formats."""

    def convolution(self, source: str, conv: nn.Conv2d, norm: nn.BatchNorm2d | None, activation: str | None) -> str: ...
    def operation(self, kind: str, sources: Sequence[str]) -> str: ...
    def finish(self, network: ImageNetwork) -> bytes: ...


def randomize(network: ImageNetwork) -> ImageNetwork:
    """Give every tensor values of its own, such as training would have left."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.5)
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
        elif isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            nn.init.normal_(module.bias)
    return network.eval()


def write_network(network: ImageNetwork, writer: Writer) -> bytes:
    """Write a network in the order in which its forward pass goes."""

    def conv_norm(source: str, module: ConvNorm) -> str:
        activation = next((name for kind, name in ACTIVATIONS.items() if isinstance(list(module)[-1], kind)), None)
        return writer.convolution(source, module.conv, module.norm, activation)

    x = conv_norm(IMAGE, network.backbone.stem)
    taps = {}
    for name, blocks in network.backbone.blocks():
        for block in blocks:
            expanded = conv_norm(x, block.expand) if isinstance(block.expand, ConvNorm) else x
            taps.setdefault(f"{name}_expansion", expanded)
            projected = conv_norm(conv_norm(expanded, block.depthwise), block.project)
            x = writer.operation("Add", [projected, x]) if block.residual else projected
    if network.backbone.last is not None:
        taps["last"] = conv_norm(x, network.backbone.last)
    taps["end"] = x
    match network:
        case Classifier():
            _write_classifier(network, writer, taps)
        case DeepLabV3():
            _write_segmenter(network, writer, taps, conv_norm)
        case SSDLite():
            _write_detector(network, writer, taps, conv_norm)
    return writer.finish(network)


def _write_classifier(network: Classifier, writer: Writer, taps: dict[str, str]) -> None:
    conv = nn.Conv2d(network.head.linear.in_features, network.num_classes, 1)
    conv.weight.data = network.head.linear.weight.data[:, :, None, None]
    conv.bias = network.head.linear.bias
    logits = writer.convolution(writer.operation("Mean", [taps["last"]]), conv, None, None)
    writer.operation("Softmax", [writer.operation("Reshape", [logits])])


def _write_segmenter(network: DeepLabV3, writer: Writer, taps: dict[str, str], conv_norm: Any) -> None:
    pooled = conv_norm(writer.operation("Mean", [taps["end"]]), network.head.pool)
    branches = [writer.operation("ResizeBilinear", [pooled]), conv_norm(taps["end"], network.head.pixel)]
    projected = conv_norm(writer.operation("ConcatV2", branches), network.head.project)
    writer.operation("ResizeBilinear", [writer.convolution(projected, network.head.logits, None, None)])


def _write_detector(network: SSDLite, writer: Writer, taps: dict[str, str], conv_norm: Any) -> None:
    maps = [taps["stage6_expansion"], taps["last"]]
    for extra in network.head.extras:
        maps.append(conv_norm(conv_norm(conv_norm(maps[-1], extra.squeeze), extra.depthwise), extra.widen))
    boxes, classes = [], []
    for x, box, label in zip(maps, network.head.box_predictors, network.head.class_predictors, strict=True):
        order = torch.arange(box.pointwise.out_channels).reshape(-1, 4)[:, TF_COORDINATES].flatten()
        conv = nn.Conv2d(box.pointwise.in_channels, box.pointwise.out_channels, 1)
        conv.weight.data, conv.bias.data = box.pointwise.weight.data[order], box.pointwise.bias.data[order]
        boxes.append(writer.operation("Reshape", [writer.convolution(conv_norm(x, box.depthwise), conv, None, None)]))
        logits = writer.convolution(conv_norm(x, label.depthwise), label.pointwise, None, None)
        classes.append(writer.operation("Reshape", [logits]))
    writer.operation("Exp", [writer.operation("ConcatV2", boxes)])
    writer.operation("Sigmoid", [writer.operation("ConcatV2", classes)])


class GraphWriter:
    """Write a frozen graph: nodes that are called nothing in particular, in no particular order.

    Args:
        dilations: Whether dilation is an attribute, or batches are spread in space around the convolution.
    """

    def __init__(self, *, dilations: bool = False) -> None:
        self._graph = message_class("GraphDef")()
        self._dilations = dilations

    def convolution(self, source: str, conv: nn.Conv2d, norm: nn.BatchNorm2d | None, activation: str | None) -> str:
        depthwise = conv.groups > 1
        weight = conv.weight.detach().numpy().transpose((2, 3, 0, 1) if depthwise else (2, 3, 1, 0))
        (stride, _), (dilation, _) = conv.stride, conv.dilation
        spread = dilation > 1 and not self._dilations
        symmetric = conv.kernel_size == (3, 3) and stride > 1 and conv.padding != (0, 0)
        if spread:
            source = self._add("SpaceToBatchND", [source, self._constant([dilation] * 2), self._constant([[0, 0]] * 2)])
        elif symmetric:
            source = self._add("Pad", [source, self._constant([[0, 0], [1, 1], [1, 1], [0, 0]])])
        output = self._add(
            "DepthwiseConv2dNative" if depthwise else "Conv2D",
            [source, self._add("Identity", [self._constant(weight)])],
            strides=[1, stride, stride, 1],
            dilations=[1, dilation, dilation, 1] if self._dilations else [1, 1, 1, 1],
            padding=b"VALID" if spread or symmetric else b"SAME",
        )
        if spread:
            output = self._add("BatchToSpaceND", [output, self._constant([dilation] * 2)])
        if norm is None:
            output = self._add("BiasAdd", [output, self._constant(conv.bias.detach().numpy())])
        else:
            vectors = [norm.weight.detach(), norm.bias.detach(), norm.running_mean, norm.running_var]
            constants = [self._constant(vector.numpy()) for vector in vectors]
            output = self._add("FusedBatchNormV3", [output, *constants], epsilon=norm.eps)
        return self._add(activation, [output]) if activation else output

    def operation(self, kind: str, sources: Sequence[str]) -> str:
        extras = {"Mean": [1, 2], "ConcatV2": 3, "ResizeBilinear": [9, 9], "Reshape": [-1, 6]}
        constants = [self._constant(extras[kind])] if kind in extras else []
        return self._add(kind, [*sources, *constants], **({"align_corners": True} if kind == "ResizeBilinear" else {}))

    def finish(self, network: ImageNetwork) -> bytes:
        """Put the pixels' arithmetic in front of the image."""
        factor = 1 / (255 * network.normalization.std.numpy())
        offset = -network.normalization.mean.numpy() / network.normalization.std.numpy()
        placeholder = self._add("Placeholder", [])
        shape = self._attribute("shape").shape
        for side in (1, network.input_size, network.input_size, 3):
            shape.dim.add(size=side)
        scaled = self._add("Mul", [self._constant(factor.reshape(1, 1, 1, 3)), placeholder])
        self._add("Sub", [scaled, self._constant(-offset)], name=IMAGE)
        nodes = list(self._graph.node)
        shuffled = message_class("GraphDef")()
        shuffled.node.extend(nodes[index] for index in torch.randperm(len(nodes)).tolist())
        return shuffled.SerializeToString()

    def _constant(self, value: Any) -> str:
        values = np.asarray(value)
        values = values.astype(np.float32 if values.dtype.kind == "f" else np.int32)
        name = self._add("Const", [])
        tensor = self._attribute("value").tensor
        tensor.dtype, tensor.tensor_content = (1 if values.dtype == np.float32 else 3), values.tobytes()
        for side in values.shape:
            tensor.tensor_shape.dim.add(size=side)
        return name

    def _add(self, op: str, inputs: Sequence[str], name: str | None = None, **attributes: Any) -> str:
        name = name or f"node{len(self._graph.node)}"
        self._graph.node.add(name=name, op=op, input=inputs)
        for key, value in attributes.items():
            stored = self._attribute(key)
            match value:
                case list():
                    stored.list.i.extend(value)
                case bool():
                    stored.b = value
                case bytes():
                    stored.s = value
                case _:
                    stored.f = value
        return name

    def _attribute(self, key: str) -> Any:
        return self._graph.node[-1].attr.add(key=key).value


class TFLiteWriter:
    """Write a .tflite file, normalisation folded into the filters.

    Args:
        storage: ``float32``; ``float16``, dequantised in the graph; ``uint8``, per tensor; ``int8``, per channel.
    """

    def __init__(self, storage: str = "float32") -> None:
        self._storage = storage
        self._builder = flatbuffers.Builder(2**20)
        self._buffers = [self._table("Buffer")]
        self._tensors: list[int] = []
        self._operators: list[int] = []
        self._codes: list[int] = []

    def convolution(self, source: str, conv: nn.Conv2d, norm: nn.BatchNorm2d | None, activation: str | None) -> str:
        weight, bias = fold(conv, norm)
        depthwise = conv.groups > 1
        (stride, _), (dilation, _) = conv.stride, conv.dilation
        inputs = [self._index(source)]
        symmetric = conv.kernel_size == (3, 3) and stride > 1 and conv.padding != (0, 0)
        if symmetric:
            pads = self._tensor(np.array([[0, 0], [1, 1], [1, 1], [0, 0]], np.int32))
            inputs = [self._operator(34, [*inputs, pads])]
        inputs += self._parameters(weight.transpose((1, 2, 3, 0) if depthwise else (0, 2, 3, 1)), bias, depthwise)
        options = {
            "Padding": int(symmetric),
            "StrideW": stride,
            "StrideH": stride,
            "FusedActivationFunction": TFLITE_ACTIVATIONS[activation],
            "DilationWFactor": dilation,
            "DilationHFactor": dilation,
        }
        if depthwise:
            return str(
                self._operator(4, inputs, 2, self._table("DepthwiseConv2DOptions", DepthMultiplier=1, **options))
            )
        return str(self._operator(3, inputs, 1, self._table("Conv2DOptions", **options)))

    def operation(self, kind: str, sources: Sequence[str]) -> str:
        inputs = [self._index(source) for source in sources]
        if kind == "ResizeBilinear":
            inputs.append(self._tensor(np.array([9, 9], np.int32)))
            return str(self._operator(23, inputs, 15, self._table("ResizeBilinearOptions", AlignCorners=True)))
        shape = (1, 1, 1, 8) if kind == "Mean" else (1, 9, 9, 8)
        return str(self._operator(TFLITE_OPERATORS[kind], inputs, shape=shape))

    def finish(self, network: ImageNetwork) -> bytes:
        """Put the tables together."""
        builder = self._builder
        subgraph = self._table(
            "SubGraph",
            Tensors=self._offsets(self._tensors),
            Inputs=builder.CreateNumpyVector(np.array([0], np.int32)),
            Operators=self._offsets(self._operators),
        )
        codes = [self._table("OperatorCode", DeprecatedBuiltinCode=code, BuiltinCode=code) for code in self._codes]
        model = self._table(
            "Model",
            Version=3,
            OperatorCodes=self._offsets(codes),
            Subgraphs=self._offsets([subgraph]),
            Buffers=self._offsets(self._buffers),
        )
        builder.Finish(model, file_identifier=b"TFL3")
        return bytes(builder.Output())

    def start(self, network: ImageNetwork) -> None:
        """Make the tensor of the image, which the file has first; quantised it says how pixels are normalised."""
        shape = (1, network.input_size, network.input_size, 3)
        if self._storage not in ("uint8", "int8"):
            self._tensor(None, shape=shape)
            return
        scale = 1 / (255 * network.normalization.std.numpy()[:1])
        zero_point = np.rint(network.normalization.mean.numpy()[:1] * 255) - 128 * (self._storage == "int8")
        self._tensor(None, shape=shape, kind=self._storage, scale=scale, zero_point=zero_point)

    def _parameters(self, weight: np.ndarray, bias: np.ndarray, depthwise: bool) -> list[int]:
        if self._storage == "float32":
            return [self._tensor(weight), self._tensor(bias)]
        if self._storage == "float16":
            stored = [self._tensor(values.astype(np.float16)) for values in (weight, bias)]
            return [self._operator(6, [index]) for index in stored]
        axis = (3 if depthwise else 0) if self._storage == "int8" else None
        others = tuple(other for other in range(4) if other != axis)
        if self._storage == "int8":
            scale = np.abs(weight).max(axis=others, keepdims=True) / 127
            zero_point = np.zeros_like(scale)
        else:
            scale = np.array((weight.max() - weight.min()) / 255)
            zero_point = np.rint(-weight.min() / scale)
        integers = np.clip(np.rint(weight / scale) + zero_point, *((-127, 127) if axis is not None else (0, 255)))
        fine = np.full(scale.size, 1e-6, np.float32)
        return [
            self._tensor(integers, kind=self._storage, scale=scale, zero_point=zero_point, axis=axis or 0),
            self._tensor(np.rint(bias / 1e-6), kind="int32", scale=fine, zero_point=np.zeros(scale.size)),
        ]

    def _index(self, source: str) -> int:
        return 0 if source == IMAGE else int(source)

    def _operator(
        self, code: int, inputs: list[int], kind: int = 0, options: int = 0, shape: tuple[int, ...] = (1, 9, 9, 8)
    ) -> int:
        output = self._tensor(None, shape=shape)
        if code not in self._codes:
            self._codes.append(code)
        vectors = [self._builder.CreateNumpyVector(np.array(indices, np.int32)) for indices in (inputs, [output])]
        fields = {"OpcodeIndex": self._codes.index(code), "Inputs": vectors[0], "Outputs": vectors[1]}
        if options:
            fields |= {"BuiltinOptionsType": kind, "BuiltinOptions": options}
        self._operators.append(self._table("Operator", **fields))
        return output

    def _tensor(
        self,
        values: np.ndarray | None,
        *,
        shape: tuple[int, ...] = (),
        kind: str | None = None,
        scale: np.ndarray | None = None,
        zero_point: np.ndarray | None = None,
        axis: int = 0,
    ) -> int:
        builder = self._builder
        fields: dict[str, int] = {}
        kind = kind or ("float32" if values is None else str(values.dtype))
        if values is not None:
            data = np.frombuffer(values.astype(kind).tobytes(), np.uint8)
            self._buffers.append(self._table("Buffer", Data=builder.CreateNumpyVector(data)))
            fields["Buffer"] = len(self._buffers) - 1
        if scale is not None and zero_point is not None:
            fields["Quantization"] = self._table(
                "QuantizationParameters",
                Scale=builder.CreateNumpyVector(scale.reshape(-1).astype(np.float32)),
                ZeroPoint=builder.CreateNumpyVector(zero_point.reshape(-1).astype(np.int64)),
                QuantizedDimension=axis,
            )
        sides = np.array(shape if values is None else values.shape, np.int32)
        name = builder.CreateString(f"tensor{len(self._tensors)};merged")
        fields |= {"Shape": builder.CreateNumpyVector(sides), "Type": TFLITE_TYPES[kind], "Name": name}
        self._tensors.append(self._table("Tensor", **fields))
        return len(self._tensors) - 1

    def _table(self, name: str, **fields: int) -> int:
        getattr(tflite, f"{name}Start")(self._builder)
        for field, value in fields.items():
            getattr(tflite, f"{name}Add{field}")(self._builder, value)
        return int(getattr(tflite, f"{name}End")(self._builder))

    def _offsets(self, offsets: list[int]) -> int:
        self._builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self._builder.PrependUOffsetTRelative(offset)
        return int(self._builder.EndVector())


def fold(conv: nn.Conv2d, norm: nn.BatchNorm2d | None) -> tuple[np.ndarray, np.ndarray]:
    """Give the filters and biases that are left when normalisation is folded away."""
    if norm is None:
        return conv.weight.detach().numpy(), conv.bias.detach().numpy()
    factor = norm.weight / (norm.running_var + norm.eps).sqrt()
    weight = conv.weight * factor.view(-1, 1, 1, 1)
    return weight.detach().numpy(), (norm.bias - norm.running_mean * factor).detach().numpy()


@pytest.fixture
def write_graph() -> Callable[..., bytes]:
    """Write a network as a frozen graph."""

    def write(network: ImageNetwork, *, dilations: bool = False) -> bytes:
        return write_network(network, GraphWriter(dilations=dilations))

    return write


@pytest.fixture
def write_tflite() -> Callable[..., bytes]:
    """Write a network as a .tflite file."""

    def write(network: ImageNetwork, storage: str = "float32") -> bytes:
        writer = TFLiteWriter(storage)
        writer.start(network)
        return write_network(network, writer)

    return write


@pytest.fixture
def trained() -> Callable[[ImageNetwork], ImageNetwork]:
    """Give a fresh network tensors such as training would have left."""
    return randomize
