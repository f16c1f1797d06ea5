"""Weights files: safetensors with a card, the checkpoints of a training run, and what other programs have trained."""

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mobilevision.backbone.image_network import ImageNetwork
from mobilevision.outputs import replacing
from mobilevision.weights.card import Weights, WeightsCard
from mobilevision.weights.foreign import is_foreign, read_foreign

NETWORK_PREFIX = "network."
BACKBONE_PREFIXES = ("backbone.", "normalization.")
OPTIONAL_PREFIX = "backbone.last."
ZIP_MAGIC = b"PK\x03\x04"
SAFETENSORS_START = b"{"
"""After eight bytes that give the length of what it begins."""

DAMAGE = (
    SafetensorError,
    BadZipFile,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What reading a damaged file raises: its bytes are instructions to a parser."""

BACKBONE_OPTIONS = ("padding", "norm_eps")
NETWORK_OPTIONS = (*BACKBONE_OPTIONS, "head_norm_eps", "score_function")
"""What tensors were trained with and does not show in their shapes: under another they compute something else."""


def save_weights(network: ImageNetwork, path: str | Path, **provenance: str) -> None:
    """Write a network's tensors and card as safetensors, whole or not at all."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata=WeightsCard.of(network, **provenance).to_metadata())


def read_weights(path: str | Path) -> Weights:
    """Read a safetensors file of this library, a checkpoint of one of its tasks, or a TensorFlow network.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is none of them, or it is damaged; the message names it.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"weights file not found: {path}")
    with path.open("rb") as file:
        head = file.read(9)
    if is_foreign(head) and not head.endswith(SAFETENSORS_START):
        return read_foreign(path)
    try:
        return _read_checkpoint(path) if head.startswith(ZIP_MAGIC) else _read_safetensors(path)
    except pickle.UnpicklingError as error:
        raise ValueError(f"{path} is refused: it holds more than tensors and plain values") from error
    except DAMAGE as error:
        reason = str(error).split("\n")[0]
        raise ValueError(f"{path} is not a weights file of mobilevision: {reason}") from error


def load_network(network: ImageNetwork, path: str | Path) -> None:
    """Load all of a network from a file of the same model and class count.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file holds another model, another class count, or other options.
    """
    fill_network(network, read_weights(path), path)


def fill_network(network: ImageNetwork, weights: Weights, path: str | Path) -> None:
    """Load all of a network from weights that were read from ``path``.

    Raises:
        ValueError: They are of another model, another class count, or other options.
    """
    tensors, card = weights
    if card.model != network.model_name:
        raise ValueError(f"{path} holds {card.model}, this network is {network.model_name}")
    if card.options.get("num_classes") != network.num_classes:
        raise ValueError(
            f"{path} has {card.options.get('num_classes')} classes, this network has {network.num_classes}"
        )
    _check_options(network, card, NETWORK_OPTIONS, path)
    _load(network, tensors, path)
    network.class_names = card.class_names


def load_backbone(network: ImageNetwork, path: str | Path) -> None:
    """Load the backbone of a network, and its normalisation, from a file of any model of this library.

    The last convolution, which a segmenter's backbone does not have, is left out where either side lacks it.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file's backbone has another width, padding or epsilon.
    """
    tensors, card = read_weights(path)
    _check_options(network, card, BACKBONE_OPTIONS, path)
    expected = network.state_dict()
    taken = {
        name: tensor for name, tensor in tensors.items() if name.startswith(BACKBONE_PREFIXES) and name in expected
    }
    kept = {
        name: tensor
        for name, tensor in expected.items()
        if not name.startswith(BACKBONE_PREFIXES) or name.startswith(OPTIONAL_PREFIX)
    }
    _load(network, kept | taken, path)


def _read_safetensors(path: Path) -> Weights:
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
        return Weights(tensors, WeightsCard.from_metadata(file.metadata() or {}))


def _read_checkpoint(path: Path) -> Weights:
    checkpoint: Any = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("card"), dict):
        raise ValueError("it is a checkpoint of another program")
    tensors = {
        name.removeprefix(NETWORK_PREFIX): tensor
        for name, tensor in checkpoint["state_dict"].items()
        if name.startswith(NETWORK_PREFIX)
    }
    return Weights(tensors, WeightsCard.from_metadata(checkpoint["card"]))


def _check_options(network: ImageNetwork, card: WeightsCard, names: Sequence[str], path: str | Path) -> None:
    for name in names:
        theirs, ours = card.options.get(name), network.options.get(name)
        if None not in (theirs, ours) and theirs != ours:
            raise ValueError(
                f"{path} was trained with {name} {theirs}, this network has {ours}: set {name} to {theirs}"
            )


def _load(network: ImageNetwork, tensors: Mapping[str, Tensor], path: str | Path) -> None:
    expected = network.state_dict()
    misfits = [
        name
        for name in sorted(expected.keys() | tensors.keys())
        if name not in expected or name not in tensors or expected[name].shape != tensors[name].shape
    ]
    if misfits:
        raise ValueError(
            f"{path} does not fit: {len(misfits)} of {len(expected)} tensors differ in name or shape, first "
            f"{misfits[0]}; was it made with another width or head?"
        )
    network.load_state_dict(tensors)
