"""Networks written as TensorFlow writes them, so that every width, head and storage can be read back."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flatbuffers
import numpy as np
import pytest
import tflite
import torch
from torch import nn

from mobilevision.backbone.inverted_residual import ConvNorm
from mobilevision.backbone.stages import BlockPlan, plan_strides
from mobilevision.network import Network
from mobilevision.weights.tensorflow.graphdef import message_class

IMAGE = "image"
ACTIVATIONS = {nn.ReLU6: "Relu6", nn.ReLU: "Relu"}
TF_COORDINATES = [1, 0, 3, 2]

TFLITE_OPERATORS = {"Add": 0, "ConcatV2": 2, "Sigmoid": 14, "Reshape": 22, "Softmax": 25, "Mean": 40, "Exp": 47}
TFLITE_TYPES = {"float32": 0, "float16": 1, "int32": 2, "uint8": 3, "int8": 9}
TFLITE_ACTIVATIONS = {None: 0, "Relu": 1, "Relu6": 3}


PADS = [[0, 0], [1, 1], [1, 1], [0, 0]]


class Convolution(NamedTuple):
    """A convolution and what follows it."""

    conv: nn.Conv2d
    norm: nn.BatchNorm2d | None = None
    activation: str | None = None
    plan: BlockPlan | None = None

    @property
    def depthwise(self) -> bool:
        return self.conv.groups > 1

    @property
    def stride_and_dilation(self) -> tuple[int, int]:
        return self.plan or (self.conv.stride[0], self.conv.dilation[0])

    @property
    def padded_apart(self) -> bool:
        """Whether the graph must pad by itself: where TensorFlow's SAME differs from symmetric padding."""
        return self.conv.kernel_size == (3, 3) and self.stride_and_dilation[0] > 1 and self.conv.padding != (0, 0)


class NetworkWriter:
    """Write a network with one head in the order in which its forward pass goes.

    Args:
        network: To write.
        writer: Of a format.
    """

    def __init__(self, network: Network, writer: "GraphWriter | TFLiteWriter") -> None:
        self._network, self._writer = network, writer
        self._taps: dict[str, str] = {}

    def write(self) -> bytes:
        self._write_backbone()
        heads = {"classification": self._classifier, "detection": self._detector, "segmentation": self._segmenter}
        heads[self._network.head.task](self._network.head)
        return self._writer.finish(self._network)

    def _write_backbone(self) -> None:
        backbone = self._network.backbone
        plans = plan_strides(self._network.head.output_stride, backbone.table)
        x = self._conv_norm(IMAGE, backbone.stem)
        for (name, blocks), stage_plans in zip(backbone.stages.items(), plans, strict=True):
            for block, plan in zip(blocks, stage_plans, strict=True):
                expanded = self._conv_norm(x, block.expand) if isinstance(block.expand, ConvNorm) else x
                self._taps.setdefault(f"{name}_expansion", expanded)
                projected = self._conv_norm(self._conv_norm(expanded, block.depthwise, plan), block.project)
                x = self._writer.operation("Add", [projected, x]) if block.adds_input(plan) else projected
            self._taps[name] = x
        if backbone.last is not None:
            self._taps["last"] = self._conv_norm(x, backbone.last)

    def _conv_norm(self, source: str, module: ConvNorm, plan: BlockPlan | None = None) -> str:
        activation = next((name for kind, name in ACTIVATIONS.items() if isinstance(list(module)[-1], kind)), None)
        return self._writer.convolution(source, Convolution(module.conv, module.norm, activation, plan))

    def _classifier(self, head: nn.Module) -> None:
        logits = self._writer.operation("Mean", [self._taps["last"]])
        logits = self._predict(logits, pointwise(head.linear.weight[:, :, None, None], head.linear.bias))
        self._writer.operation("Softmax", [self._writer.operation("Reshape", [logits])])

    def _predict(self, source: str, conv: nn.Conv2d) -> str:
        return self._writer.convolution(source, Convolution(conv))

    def _segmenter(self, head: nn.Module) -> None:
        end, operation = self._taps["stage7"], self._writer.operation
        pooled = self._conv_norm(operation("Mean", [end]), head.pool)
        branches = [operation("ResizeBilinear", [pooled]), self._conv_norm(end, head.pixel)]
        projected = self._conv_norm(operation("ConcatV2", branches), head.project)
        operation("ResizeBilinear", [self._predict(projected, head.logits)])

    def _detector(self, head: nn.Module) -> None:
        maps = [self._taps["stage6_expansion"], self._taps["last"]]
        for extra in head.extras:
            x = maps[-1]
            for part in (extra.squeeze, extra.depthwise, extra.widen):
                x = self._conv_norm(x, part)
            maps.append(x)
        boxes, classes = [], []
        for x, box, label in zip(maps, head.box_predictors, head.class_predictors, strict=True):
            order = torch.arange(box.pointwise.out_channels).reshape(-1, 4)[:, TF_COORDINATES].flatten()
            reordered = pointwise(box.pointwise.weight[order], box.pointwise.bias[order])
            boxes.append(self._predict(self._conv_norm(x, box.depthwise), reordered))
            classes.append(self._predict(self._conv_norm(x, label.depthwise), label.pointwise))
        for outputs, ending in ((boxes, "Exp"), (classes, "Sigmoid")):
            flat = [self._writer.operation("Reshape", [output]) for output in outputs]
            self._writer.operation(ending, [self._writer.operation("ConcatV2", flat)])


def pointwise(weight: torch.Tensor, bias: torch.Tensor) -> nn.Conv2d:
    conv = nn.Conv2d(weight.shape[1], weight.shape[0], 1)
    conv.weight, conv.bias = nn.Parameter(weight), nn.Parameter(bias)
    return conv


class GraphWriter:
    """Write a frozen graph: nodes whose names mean nothing, in no particular order.

    Args:
        dilations: Whether dilation is an attribute, or batches are spread in space around the convolution.
    """

    def __init__(self, *, dilations: bool = False) -> None:
        self._graph = message_class("GraphDef")()
        self._dilations = dilations

    def convolution(self, source: str, part: Convolution) -> str:
        conv, norm, activation, _ = part
        weight = conv.weight.detach().numpy().transpose((2, 3, 0, 1) if part.depthwise else (2, 3, 1, 0))
        stride, dilation = part.stride_and_dilation
        spread = dilation > 1 and not self._dilations
        if spread:
            source = self._add("SpaceToBatchND", [source, self._constant([dilation] * 2), self._constant([[0, 0]] * 2)])
        elif part.padded_apart:
            source = self._add("Pad", [source, self._constant(PADS)])
        output = self._add(
            "DepthwiseConv2dNative" if part.depthwise else "Conv2D",
            [source, self._add("Identity", [self._constant(weight)])],
            strides=[1, stride, stride, 1],
            dilations=[1, dilation, dilation, 1] if self._dilations else [1, 1, 1, 1],
            padding=b"VALID" if spread or part.padded_apart else b"SAME",
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

    def finish(self, network: Network) -> bytes:
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
    """Write a .tflite file, normalization folded into the filters.

    Args:
        storage: ``float32``; ``float16``, dequantized in the graph; ``uint8``, per tensor; ``int8``, per channel.
    """

    def __init__(self, storage: str = "float32") -> None:
        self._storage = storage
        self._builder = flatbuffers.Builder(2**20)
        self._buffers = [self._table("Buffer")]
        self._tensors: list[int] = []
        self._operators: list[int] = []
        self._codes: list[int] = []

    def convolution(self, source: str, part: Convolution) -> str:
        weight, bias = fold(part.conv, part.norm)
        stride, dilation = part.stride_and_dilation
        inputs = [self._index(source)]
        if part.padded_apart:
            inputs = [self._operator(34, [*inputs, self._tensor(np.array(PADS, np.int32))])]
        weight = weight.transpose((1, 2, 3, 0) if part.depthwise else (0, 2, 3, 1))
        inputs += self._parameters(weight, bias, part.depthwise)
        options = {
            "Padding": int(part.padded_apart),
            "StrideW": stride,
            "StrideH": stride,
            "FusedActivationFunction": TFLITE_ACTIVATIONS[part.activation],
            "DilationWFactor": dilation,
            "DilationHFactor": dilation,
        }
        if part.depthwise:
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

    def finish(self, network: Network) -> bytes:
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

    def start(self, network: Network) -> None:
        """Add the tensor of the image, which the file has first; quantized it holds the normalization of the pixels."""
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
    """Return the filters and biases that are left when normalization is folded away."""
    if norm is None:
        return conv.weight.detach().numpy(), conv.bias.detach().numpy()
    factor = norm.weight / (norm.running_var + norm.eps).sqrt()
    weight = conv.weight * factor.view(-1, 1, 1, 1)
    return weight.detach().numpy(), (norm.bias - norm.running_mean * factor).detach().numpy()


@pytest.fixture
def write_graph() -> Callable[..., bytes]:
    """Write a network as a frozen graph."""

    def write(network: Network, *, dilations: bool = False) -> bytes:
        return NetworkWriter(network, GraphWriter(dilations=dilations)).write()

    return write


@pytest.fixture
def write_tflite() -> Callable[..., bytes]:
    """Write a network as a .tflite file."""

    def write(network: Network, storage: str = "float32") -> bytes:
        writer = TFLiteWriter(storage)
        writer.start(network)
        return NetworkWriter(network, writer).write()

    return write
