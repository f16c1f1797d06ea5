"""Frozen TensorFlow graphs as graphs of layers."""

from collections.abc import Mapping

import numpy as np

from mobilevision.backbone.convolution import Padding
from mobilevision.weights.tensorflow.graphdef import Node, parse_graph, read_tensor
from mobilevision.weights.tensorflow.layers import (
    Activation,
    Array,
    Filters,
    Layer,
    LayerGraph,
    Norm,
    explicit_padding,
)

ALIASES = frozenset(
    {"BatchToSpaceND", "Cast", "CheckNumerics", "ExpandDims", "Identity", "Reshape", "SpaceToBatchND", "Squeeze"}
)
"""Operations that return their first input's numbers in another type or shape."""

CONVOLUTIONS = frozenset({"Conv2D", "DepthwiseConv2dNative", "MatMul"})
NORMS = frozenset({"FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"})
ADDITIONS = frozenset({"Add", "AddV2", "BiasAdd"})
ACTIVATIONS: Mapping[str, Activation] = {"Relu": "relu", "Relu6": "relu6"}

KINDS = {
    **dict.fromkeys(ADDITIONS, "add"),
    "AvgPool": "pool",
    "ConcatV2": "concat",
    "Mul": "multiply",
    "Pad": "pad",
    "RealDiv": "divide",
    "Sigmoid": "sigmoid",
    "Softmax": "softmax",
    "Sub": "subtract",
}

COMMUTATIVE = frozenset({"Mul", *ADDITIONS})
ARITHMETIC = frozenset({"RealDiv", "Sub", *COMMUTATIVE})


def read_frozen_graph(data: bytes) -> LayerGraph:
    """Read a frozen graph: one whose variables have become constants.

    Raises:
        ValueError: The extra that reads it is not installed, or the file is damaged or not understood.
    """
    nodes = parse_graph(data)
    try:
        return _GraphReader(nodes).read()
    except (KeyError, IndexError) as error:
        raise ValueError(f"the graph is damaged: it lacks {error}") from error


class _GraphReader:
    def __init__(self, nodes: list[Node]) -> None:
        self._nodes = {node.name: node for node in nodes}
        self._origins: dict[str, str] = {}
        self._readers: dict[str, list[Node]] = {}
        for node in nodes:
            if node.op not in ALIASES and node.op != "Shape":
                for source in self._sources(node):
                    self._readers.setdefault(source, []).append(node)

    def read(self) -> LayerGraph:
        layers: dict[str, Layer] = {}
        absorbed: set[str] = set()
        for node in self._nodes.values():
            if node.op in CONVOLUTIONS:
                chain = self._chain(node)
                absorbed |= {link.name for link in chain}
                layers[node.name] = self._convolution(chain)
        for node in self._nodes.values():
            if node.op not in ALIASES and node.op != "Const" and node.name not in absorbed:
                layers[node.name] = self._other(node)
        return LayerGraph(layers.values())

    def _chain(self, node: Node) -> list[Node]:
        """Return a convolution and what follows it alone: normalization or bias, then an activation."""
        chain = [node]
        while len(readers := self._readers.get(chain[-1].name, [])) == 1:
            follower = readers[0]
            bias = follower.op in ADDITIONS and any(self._is_constant(name) for name in follower.inputs)
            if len(chain) == 1 and (follower.op in NORMS or bias):
                chain.append(follower)
            elif follower.op in ACTIVATIONS:
                return [*chain, follower]
            else:
                break
        return chain

    def _convolution(self, chain: list[Node]) -> Layer:
        node = chain[0]
        filters = self._matrix(node) if node.op == "MatMul" else self._spatial(node)
        for follower in chain[1:]:
            if follower.op in NORMS:
                filters = filters._replace(norm=self._norm(follower))
            elif follower.op in ACTIVATIONS:
                filters = filters._replace(activation=ACTIVATIONS[follower.op])
            else:
                filters = filters._replace(bias=self._arithmetic_constant(follower))
        source = self._entry(node)
        if source.op == "Pad":
            source = self._entry(source)
        return Layer("convolution", node.name, (self._origin(source.name),), chain[-1].name, filters)

    def _matrix(self, node: Node) -> Filters:
        weight = self._weight(node, 2)
        transposed = "transpose_b" in node.attributes and node.attributes["transpose_b"].b
        return Filters((weight if transposed else weight.T)[:, :, None, None], depthwise=False)

    def _spatial(self, node: Node) -> Filters:
        if "data_format" in node.attributes and node.attributes["data_format"].s != b"NHWC":
            raise ValueError(f"expected channels last in {node.name}, found another order")
        weight = self._weight(node, 4)
        depthwise = node.op == "DepthwiseConv2dNative"
        dilation = _middle(node, "dilations")
        entry = self._entry(node)
        if entry.op == "SpaceToBatchND":
            dilation = int(self._known(entry.inputs[1]).flat[0])
        return Filters(
            weight.transpose((2, 3, 0, 1) if depthwise else (3, 2, 0, 1)),
            depthwise,
            stride=_middle(node, "strides"),
            dilation=dilation,
            padding=self._padding(node, entry) if len(weight) > 1 else None,
        )

    def _weight(self, node: Node, num_dimensions: int) -> Array:
        weight = self._known(node.inputs[1])
        if weight.ndim != num_dimensions or weight.dtype != np.float32:
            raise ValueError(
                f"expected floats of {num_dimensions} dimensions in {node.name}, found {weight.dtype} of {weight.ndim}"
            )
        return weight

    def _padding(self, node: Node, entry: Node) -> Padding | None:
        if node.attributes["padding"].s == b"SAME":
            return "tf_same"
        if entry.op == "SpaceToBatchND":
            return None
        return explicit_padding(self._known(entry.inputs[1]).tolist() if entry.op == "Pad" else [])

    def _norm(self, node: Node) -> Norm:
        gamma, beta, mean, variance = (self._known(name) for name in node.inputs[1:5])
        return Norm(gamma, beta, mean, variance, node.attributes["epsilon"].f if "epsilon" in node.attributes else 1e-4)

    def _other(self, node: Node) -> Layer:
        kind, constant = KINDS.get(node.op, node.op), None
        if node.op in ARITHMETIC:
            constant = self._arithmetic_constant(node)
        elif node.op == "Placeholder" and "shape" in node.attributes:
            kind, constant = "input", np.array([dim.size for dim in node.attributes["shape"].shape.dim][1:3])
        elif node.op == "ResizeBilinear":
            aligned = "align_corners" in node.attributes and node.attributes["align_corners"].b
            kind = "resize" if aligned else "resize without aligned corners"
            constant = self._known(node.inputs[1]) if self._is_constant(node.inputs[1]) else None
        elif node.op == "Mean" and self._is_constant(node.inputs[1]):
            kind = "pool" if sorted(self._known(node.inputs[1]).flat) == [1, 2] else kind
        return Layer(kind, node.name, tuple(self._sources(node)), node.name, constant=constant)

    def _arithmetic_constant(self, node: Node) -> np.ndarray | None:
        operands = node.inputs[:2] if node.op in COMMUTATIVE else node.inputs[1:2]
        return next((self._known(name) for name in operands if self._is_constant(name)), None)

    def _sources(self, node: Node) -> list[str]:
        return [self._origin(name) for name in node.inputs if not name.startswith("^") and not self._is_constant(name)]

    def _entry(self, node: Node) -> Node:
        """Return the node whose output a node reads first, past those that do nothing."""
        source = self._node(node.inputs[0])
        for _ in self._nodes:
            if source.op != "Identity":
                break
            source = self._node(source.inputs[0])
        return source

    def _origin(self, name: str) -> str:
        """Return the name of the node that computes an input."""
        if name not in self._origins:
            node = self._node(name)
            for _ in self._nodes:
                if node.op not in ALIASES:
                    break
                node = self._node(node.inputs[0])
            self._origins[name] = node.name
        return self._origins[name]

    def _node(self, name: str) -> Node:
        key = name.partition(":")[0]
        if key not in self._nodes:
            raise ValueError(f"the graph has no node {key!r}")
        return self._nodes[key]

    def _is_constant(self, name: str) -> bool:
        return self._nodes[self._origin(name)].op == "Const"

    def _known(self, name: str) -> np.ndarray:
        node = self._nodes[self._origin(name)]
        if node.op != "Const":
            raise ValueError(
                f"expected {name} to be constant, found {node.op}: is the graph frozen, without quantization?"
            )
        return read_tensor(node.attributes["value"].tensor)


def _middle(node: Node, key: str) -> int:
    """Return the height's value of an attribute that has one for each of batch, height, width and channels."""
    values = list(node.attributes[key].list.i) if key in node.attributes else [1, 1, 1, 1]
    if len(values) != 4 or values[1] != values[2]:
        raise ValueError(f"expected the same {key} in height and width of {node.name}, found {values}")
    return int(values[1])
