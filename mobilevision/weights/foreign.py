"""Weights files of TensorFlow, recognized by their content."""

import hashlib
from pathlib import Path

from mobilevision.weights.archive import MAGIC as GZIP_MAGIC
from mobilevision.weights.archive import read_archived_graph
from mobilevision.weights.card import Weights
from mobilevision.weights.tensorflow.frozen import read_frozen_graph
from mobilevision.weights.tensorflow.layers import LayerGraph
from mobilevision.weights.tensorflow.recognition import recognize_network
from mobilevision.weights.tensorflow.tflite import read_tflite

TFLITE_MAGIC = b"TFL3"
"""After the first four bytes."""

NODE_TAG = b"\n"
"""A frozen graph is a list of nodes, and this announces one."""


def is_foreign(head: bytes) -> bool:
    """Return whether a file of these first eight bytes is one for :func:`read_foreign`."""
    return head.startswith((GZIP_MAGIC, NODE_TAG)) or head[4:8] == TFLITE_MAGIC


def read_foreign(path: Path) -> Weights:
    """Read a network of TensorFlow as weights of the network that computes the same.

    Args:
        path: A .tflite file, a frozen graph, or a ``.tar.gz`` with one of them.

    Raises:
        ValueError: It is damaged, or not a network that is known; the message names it and what was found.
    """
    data = path.read_bytes()
    provenance = {"source": path.name, "sha256": hashlib.sha256(data).hexdigest()}
    try:
        weights = recognize_network(_read_graph(read_archived_graph(path) if data.startswith(GZIP_MAGIC) else data))
    except ValueError as error:
        raise ValueError(f"{path} cannot be imported: {error}") from error
    return weights._replace(card=weights.card._replace(provenance=provenance))


def _read_graph(data: bytes) -> LayerGraph:
    return read_tflite(data) if data[4:8] == TFLITE_MAGIC else read_frozen_graph(data)
