"""Weights files: safetensors with a card, checkpoints of a training run, and the files of other programs."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mobilevision.files import replacing
from mobilevision.network import Network
from mobilevision.weights.card import Weights, WeightsCard
from mobilevision.weights.checkpoint import Checkpoint, open_checkpoint
from mobilevision.weights.foreign import is_foreign, read_foreign
from mobilevision.weights.legacy import is_legacy, upgrade_weights
from mobilevision.weights.state_dict import read_state_dict
from mobilevision.weights.torchvision import to_torchvision
from mobilevision.weights.zoo import ZOO, fetch_entry

NETWORK_PREFIX = "network."
CHECKPOINT_STARTS = (b"PK\x03\x04", b"\x80\x02")
"""The first bytes of what torch.save writes: a zip, and the pickles before it."""
SAFETENSORS_START = b"{"
"""The first byte after the eight that hold the header's length."""


def save_weights(network: Network, path: str | Path, **provenance: str) -> None:
    """Write a network's tensors and description as safetensors, whole or not at all.

    Args:
        network: What to write.
        path: The file.
        provenance: Free text by key: ``source``, ``licence``, ``measured``.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata=WeightsCard.of(network, **provenance).to_metadata())


def save_as_torchvision(network: Network, path: str | Path) -> None:
    """Write a classifier for ``torchvision.models.mobilenet_v2``: safetensors, or for ``.pth`` what torch.load reads.

    Raises:
        ValueError: It is no classifier, or one that torchvision cannot compute.
    """
    tensors = to_torchvision(Weights(network.state_dict(), WeightsCard.of(network)))
    with replacing(path) as temporary:
        if temporary.suffix in (".pth", ".pt"):
            torch.save(tensors, temporary)
        else:
            save_file(tensors, temporary, metadata={"format": "pt"})


def locate_weights(source: str | Path) -> Path:
    """Return the file of a source of weights; published weights are fetched unless they are there.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: Published weights have another hash than they should.
        OSError: Published weights cannot be fetched.
    """
    if str(source) in ZOO and not Path(source).is_file():
        return fetch_entry(ZOO[str(source)])
    if not Path(source).is_file():
        raise FileNotFoundError(f"weights file not found: {source}")
    return Path(source)


def read_weights(source: str | Path) -> Weights:
    """Read weights of any known program; the format is recognized by the content.

    Args:
        source: A safetensors file of this library, a checkpoint of one of its tasks, a network of TensorFlow (frozen
            graph, .tflite, or an archive with either), a checkpoint of torchvision, timm, OpenMMLab or Hugging Face, or
            the name of published weights.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is none of them, or it is damaged; the message names it.
        OSError: Published weights cannot be fetched.
    """
    path = locate_weights(source)
    # A file goes before an entry of the same name.
    return _read(path) if path == Path(source) else ZOO[str(source)].describe(_read(path))


def _read(path: Path) -> Weights:
    with path.open("rb") as file:
        head = file.read(9)
    try:
        if head.endswith(SAFETENSORS_START) and int.from_bytes(head[:8], "little") < path.stat().st_size:
            return _read_safetensors(path)
        if head.startswith(CHECKPOINT_STARTS):
            return _read_checkpoint(path, open_checkpoint(path))
    except (SafetensorError, ArithmeticError, LookupError, TypeError, ValueError) as error:
        reason = str(error).split("\n")[0]
        raise ValueError(f"{path} is not a weights file of mobilevision: {reason}") from error
    if is_foreign(head):
        return read_foreign(path)
    raise ValueError(f"{path} is not a weights file of mobilevision: its first bytes are of no format that is known")


def _read_safetensors(path: Path) -> Weights:
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
        metadata = file.metadata() or {}
    if metadata.get("format") == "mobilevision":
        return _described(_own(tensors), metadata)
    return read_state_dict(tensors, path)


def _read_checkpoint(path: Path, checkpoint: Checkpoint) -> Weights:
    if checkpoint.card is None:
        return read_state_dict(checkpoint.tensors, path)
    tensors = {
        name.removeprefix(NETWORK_PREFIX): tensor
        for name, tensor in checkpoint.tensors.items()
        if name.startswith(NETWORK_PREFIX)
    }
    return _described(_own(tensors), checkpoint.card)


def _described(tensors: dict[str, Tensor], metadata: Mapping[str, str]) -> Weights:
    if is_legacy(metadata):
        return upgrade_weights(tensors, metadata)
    return Weights(tensors, WeightsCard.from_metadata(metadata))


def _own(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    # Without a copy they are pages of the file, and change with it.
    return {name: tensor.clone() for name, tensor in tensors.items()}
