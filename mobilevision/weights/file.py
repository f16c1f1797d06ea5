"""Weights files: safetensors with a card, the checkpoints of a training run, and what other programs have trained."""

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mobilevision.backbone.image_network import ImageNetwork
from mobilevision.files import replacing
from mobilevision.weights.card import Weights, WeightsCard
from mobilevision.weights.checkpoint import Checkpoint, open_checkpoint
from mobilevision.weights.fitting import FitReport, fill_network, fit_backbone
from mobilevision.weights.foreign import is_foreign, read_foreign
from mobilevision.weights.state_dict import read_state_dict
from mobilevision.weights.torchvision import to_torchvision
from mobilevision.weights.zoo import ZOO, fetch_entry

NETWORK_PREFIX = "network."
CHECKPOINT_STARTS = (b"PK\x03\x04", b"\x80\x02")
"""Of a zip, and of the pickles that came before: what torch.save writes."""
SAFETENSORS_START = b"{"
"""After eight bytes that give the length of what it begins."""


def save_weights(network: ImageNetwork, path: str | Path, **provenance: str) -> None:
    """Write a network's tensors and card as safetensors, whole or not at all."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata=WeightsCard.of(network, **provenance).to_metadata())


def save_as_torchvision(network: ImageNetwork, path: str | Path) -> None:
    """Write a classifier for ``torchvision.models.mobilenet_v2``: safetensors, or what torch.load reads for ``.pth``.

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
    """Give the file that a source of weights stands for; one of the zoo is fetched unless it is there.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is one of the zoo and has another hash than it should.
        OSError: It is one of the zoo and cannot be fetched.
    """
    if str(source) in ZOO and not Path(source).is_file():
        return fetch_entry(ZOO[str(source)])
    if not Path(source).is_file():
        raise FileNotFoundError(f"weights file not found: {source}")
    return Path(source)


def read_weights(source: str | Path) -> Weights:
    """Read weights, whatever has written them; the format is known by the content.

    Args:
        source: A safetensors file of this library, a checkpoint of one of its tasks, a network of TensorFlow's (frozen
            graph, .tflite, or an archive with either), a checkpoint of torchvision, timm, OpenMMLab or Hugging Face, or
            a name of the zoo.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is none of them, or it is damaged; the message names it.
        OSError: It is one of the zoo and cannot be fetched.
    """
    path = locate_weights(source)
    # A file goes before an entry of the same name.
    return _read(path) if path == Path(source) else ZOO[str(source)].describe(_read(path))


def load_network(network: ImageNetwork, path: str | Path) -> FitReport:
    """Load all of a network from weights of the same model and classes; a background it does not have is dropped.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file holds another model, lacks a class, or was made with other options.
    """
    return fill_network(network, read_weights(path), path)


def load_backbone(network: ImageNetwork, path: str | Path) -> FitReport:
    """Load the backbone of a network, and its normalisation, from weights of any model.

    The last convolution, which a segmenter's backbone does not have, is left out where either side lacks it.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file's backbone has another width, padding or epsilon.
    """
    return fit_backbone(network, read_weights(path), path)


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
        return Weights(_own(tensors), WeightsCard.from_metadata(metadata))
    return read_state_dict(tensors, path)


def _read_checkpoint(path: Path, checkpoint: Checkpoint) -> Weights:
    if checkpoint.card is None:
        return read_state_dict(checkpoint.tensors, path)
    tensors = {
        name.removeprefix(NETWORK_PREFIX): tensor
        for name, tensor in checkpoint.tensors.items()
        if name.startswith(NETWORK_PREFIX)
    }
    return Weights(_own(tensors), WeightsCard.from_metadata(checkpoint.card))


def _own(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    # Until then they are pages of the file, whatever is written to it.
    return {name: tensor.clone() for name, tensor in tensors.items()}
