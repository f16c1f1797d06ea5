"""Checkpoints that torch.save has written, read without running anything of them."""

import pickle
import struct
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

ZIP_MAGIC = b"PK"

WRAPPERS = ("state_dict_ema", "model_ema", "ema", "state_dict", "model", "model_state_dict", "net")
"""Keys under which programs put their tensors; a moving average of the weights goes before the weights."""

PLAIN_OBJECTS = (
    "argparse.Namespace",
    "types.SimpleNamespace",
    *(f"pathlib.{kind}Path" for kind in ("", "Pure", "Posix", "PurePosix", "Windows", "PureWindows")),
    *(f"pathlib._local.{kind}Path" for kind in ("Posix", "PurePosix", "Windows", "PureWindows")),
    "numpy.dtype",
    "numpy.ndarray",
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
)
"""The types that training scripts save beside their tensors: an :class:`Ignored` is in their place, none is built."""

DAMAGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
)
"""Raised while a damaged file is read: its bytes are instructions to a parser."""


class Ignored:
    """Stands for an object in a checkpoint that nobody reads."""

    def __new__(cls, *_: object, **__: object) -> Self:
        """Build one whatever the arguments are."""
        return super().__new__(cls)

    def __init__(self, *_: object, **__: object) -> None: ...

    def __setstate__(self, state: object) -> None:
        """Forget the state."""


class Checkpoint(NamedTuple):
    """The tensors and the description in a checkpoint.

    Attributes:
        tensors: By name.
        card: The description that a checkpoint of this library carries, text by key.
    """

    tensors: dict[str, Tensor]
    card: Mapping[str, str] | None = None


def open_checkpoint(path: Path) -> Checkpoint:
    """Read the tensors of a checkpoint.

    Raises:
        ValueError: It is none, or damaged, or holds more than tensors and plain values.
    """
    try:
        with warnings.catch_warnings():
            # Of the forms of tensors that are refused below.
            warnings.simplefilter("ignore")
            with torch.serialization.safe_globals([(Ignored, name) for name in PLAIN_OBJECTS]):
                content: Any = _load(path)
    except pickle.UnpicklingError as error:
        raise ValueError("it is refused: it holds more than tensors and plain values, or it is damaged") from error
    except DAMAGE as error:
        raise ValueError(f"it is damaged, or no checkpoint of PyTorch: {_first_line(error)}") from error
    if not isinstance(content, dict):
        raise ValueError(f"expected tensors by name, found a {type(content).__name__}")
    card = content.get("card")
    if card is not None and not isinstance(card, dict):
        raise ValueError(f"expected a description in it, found a {type(card).__name__}")
    tensors = _find_tensors(content)
    _check_size(tensors, path)
    return Checkpoint(tensors, card)


def _load(path: Path) -> Any:
    with path.open("rb") as file:
        zipped = file.read(2) == ZIP_MAGIC
    if not zipped:
        return torch.load(path, map_location="cpu", weights_only=True)
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise ValueError("its parts are compressed, which torch.save does not do")
    if sum(member.file_size for member in members) > path.stat().st_size:
        raise ValueError("its parts are larger than the file")
    return torch.load(path, map_location="cpu", weights_only=True, mmap=True)


def _find_tensors(content: Mapping[Any, Any]) -> dict[str, Tensor]:
    for key in WRAPPERS:
        inner = content.get(key)
        if isinstance(inner, dict) and any(isinstance(value, Tensor | dict) for value in inner.values()):
            return _find_tensors(inner)
    tensors = {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if tensors:
        return tensors
    # Under a key of the script's own.
    inner = [value for value in content.values() if isinstance(value, dict) and _holds_tensors(value)]
    if len(inner) != 1:
        raise ValueError("it is a checkpoint of another program: there are no tensors by name in it")
    return _find_tensors(inner[0])


def _holds_tensors(content: Mapping[Any, Any]) -> bool:
    return any(isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items())


def _check_size(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Refuse tensors that are not what the file stores, but views that repeat it for ever.

    Raises:
        ValueError: A tensor is not dense, or they are larger than the file.
    """
    total = 0
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
            raise ValueError(f"expected {name} to be a dense tensor, found {tensor.layout} of {tensor.dtype}")
        total += tensor.numel() * tensor.element_size()
    if total > 2 * path.stat().st_size:
        raise ValueError(f"its tensors would take {total} bytes, far more than the file has")


def _first_line(error: BaseException) -> str:
    return str(error).split("\n")[0]
