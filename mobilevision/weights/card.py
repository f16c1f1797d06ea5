"""What a weights file says of itself."""

import json
from collections.abc import Mapping
from typing import NamedTuple, Self, TypeVar

from torch import Tensor

from mobilevision.backbone.image_network import ImageNetwork, Scalar

T = TypeVar("T")


class WeightsCard(NamedTuple):
    """The description that travels with tensors: how to build their network again, and where they come from.

    Attributes:
        model: A name that ``get_model`` knows.
        options: The scalars to build it with.
        class_names: As many names as classes, or none.
        provenance: Free text by key: ``source``, ``sha256``, ``licence``, ``published``, ``measured``.
    """

    model: str
    options: Mapping[str, Scalar]
    class_names: tuple[str, ...] = ()
    provenance: Mapping[str, str] = {}

    @classmethod
    def of(cls, network: ImageNetwork, **provenance: str) -> Self:
        """Describe a network."""
        return cls(network.model_name, network.options, network.class_names, provenance)

    def to_metadata(self) -> dict[str, str]:
        """Give the card as safetensors stores it: text by key."""
        return {
            "format": "mobilevision",
            "model": self.model,
            "options": json.dumps(dict(self.options)),
            "class_names": json.dumps(list(self.class_names)),
            "provenance": json.dumps(dict(self.provenance)),
        }

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> Self:
        """Read a card back.

        Raises:
            ValueError: The metadata is not of this library, or a part of it is missing or damaged.
        """
        if metadata.get("format") != "mobilevision":
            raise ValueError("it does not carry a description of this library")
        if not metadata.get("model"):
            raise ValueError("its description lacks model")
        return cls(
            metadata["model"],
            _parse(metadata, "options", dict),
            tuple(_parse(metadata, "class_names", list)),
            _parse(metadata, "provenance", dict),
        )


class Weights(NamedTuple):
    """Tensors by name, and what they are."""

    tensors: dict[str, Tensor]
    card: WeightsCard


def _parse(metadata: Mapping[str, str], key: str, kind: type[T]) -> T:
    try:
        value = json.loads(metadata[key])
    except (KeyError, json.JSONDecodeError) as error:
        raise ValueError(f"its description lacks {key}, or it is damaged there") from error
    if not isinstance(value, kind):
        raise ValueError(f"{key} in its description must be a {kind.__name__}, got {metadata[key]}")
    return value
