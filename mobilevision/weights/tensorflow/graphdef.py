"""The messages of a frozen graph: its structure and its constants.

No light package carries TensorFlow's own descriptors without taking over Lightning's default logger, so the few fields
that are read are declared here and protobuf does the rest. It passes over all others.

Reference: ``graph.proto``, ``node_def.proto``, ``attr_value.proto``, ``tensor.proto`` and ``tensor_shape.proto`` under
``tensorflow/core/framework``.
"""

import math
from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

import numpy as np

try:
    from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory
except ModuleNotFoundError:
    message = None


class Field(NamedTuple):
    """One field of a message: its number and its type, another message's name among them."""

    number: int
    type: str
    repeated: bool = False


SCHEMA: Mapping[str, Mapping[str, Field]] = {
    "GraphDef": {"node": Field(1, "NodeDef", repeated=True)},
    "NodeDef": {
        "name": Field(1, "string"),
        "op": Field(2, "string"),
        "input": Field(3, "string", repeated=True),
        "attr": Field(5, "Attribute", repeated=True),
    },
    # On the wire a map is its repeated entries.
    "Attribute": {"key": Field(1, "string"), "value": Field(2, "AttrValue")},
    "AttrValue": {
        "list": Field(1, "ListValue"),
        "s": Field(2, "bytes"),
        "i": Field(3, "int64"),
        "f": Field(4, "float"),
        "b": Field(5, "bool"),
        "shape": Field(7, "TensorShapeProto"),
        "tensor": Field(8, "TensorProto"),
    },
    "ListValue": {"i": Field(3, "int64", repeated=True)},
    "TensorShapeProto": {"dim": Field(2, "Dim", repeated=True)},
    "Dim": {"size": Field(1, "int64")},
    "TensorProto": {
        "dtype": Field(1, "int32"),
        "tensor_shape": Field(2, "TensorShapeProto"),
        "tensor_content": Field(4, "bytes"),
        "float_val": Field(5, "float", repeated=True),
        "int_val": Field(7, "int32", repeated=True),
        "int64_val": Field(10, "int64", repeated=True),
        "half_val": Field(13, "int32", repeated=True),
    },
}

DTYPES: Mapping[int, tuple[type[np.generic], str]] = {
    1: (np.float32, "float_val"),
    3: (np.int32, "int_val"),
    9: (np.int64, "int64_val"),
    19: (np.float16, "half_val"),
}
"""By the number of TensorFlow's ``DataType``: the type, and the field that holds values one by one."""


MAX_REPEATED = 2**16
"""Elements for which one stored value can stand: enough for a bias of zeros, too few to fill the memory."""


class Node(NamedTuple):
    """One operation of the graph."""

    name: str
    op: str
    inputs: tuple[str, ...]
    attributes: Mapping[str, Any]


def parse_graph(data: bytes) -> list[Node]:
    """Read the nodes of a frozen graph.

    Raises:
        ValueError: The extra that reads it is not installed, or the bytes are not a graph.
    """
    if message is None:
        raise ValueError("a frozen graph is read with an optional part: pip install 'mobilevision[import]'")
    graph = message_class("GraphDef")()
    try:
        graph.ParseFromString(data)
    except message.DecodeError as error:
        raise ValueError(
            "it is neither a format that is known nor a frozen TensorFlow graph, or it is damaged"
        ) from error
    return [
        Node(node.name, node.op, tuple(node.input), {entry.key: entry.value for entry in node.attr})
        for node in graph.node
    ]


def read_tensor(tensor: Any) -> np.ndarray:
    """Read a stored ``TensorProto`` as an array: float32, or the integers that it holds.

    Raises:
        ValueError: Its type is not understood, or its shape does not go with its values.
    """
    if tensor.dtype not in DTYPES:
        raise ValueError(f"a constant has a type that is not understood: number {tensor.dtype} of TensorFlow's")
    dtype, field = DTYPES[tensor.dtype]
    shape = tuple(dim.size for dim in tensor.tensor_shape.dim)
    size = math.prod(shape)
    if tensor.tensor_content:
        values = np.frombuffer(tensor.tensor_content, dtype)
    else:
        stored = getattr(tensor, field)
        values = np.array(stored, np.uint16).view(dtype) if dtype is np.float16 else np.array(stored, dtype)
    if len(values) == 1 and 0 <= size <= MAX_REPEATED:
        values = np.broadcast_to(values, size)
    if len(values) != size or min(shape, default=0) < 0:
        raise ValueError(f"a constant of shape {list(shape)} has {len(values)} values")
    return values.reshape(shape).astype(np.float32 if values.dtype.kind == "f" else dtype, copy=False)


@cache
def message_class(name: str) -> Any:
    """Return the class of a message of :data:`SCHEMA`."""
    types = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="mobilevision_graphdef.proto", package="mobilevision", syntax="proto3"
    )
    for message_name, fields in SCHEMA.items():
        described = file.message_type.add(name=message_name)
        for field_name, field in fields.items():
            added = described.field.add(name=field_name, number=field.number)
            added.label = types.LABEL_REPEATED if field.repeated else types.LABEL_OPTIONAL
            if field.type in SCHEMA:
                added.type, added.type_name = types.TYPE_MESSAGE, f".mobilevision.{field.type}"
            else:
                added.type = types.Type.Value(f"TYPE_{field.type.upper()}")
    # A pool of its own: a program that loads TensorFlow as well keeps its descriptors to itself.
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"mobilevision.{name}"))
