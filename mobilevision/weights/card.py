"""The description that travels with weights."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, NamedTuple, Self, TypeVar

from torch import Tensor

from mobilevision.backbone.mobilenet_v2 import BackboneConfig
from mobilevision.network import Network
from mobilevision.options import check_names, field_names

T = TypeVar("T")

FORMAT = "mobilevision"
VERSION = "2"


class HeadCard(NamedTuple):
    """The description of a head.

    Attributes:
        task: ``classification``, ``detection`` or ``segmentation``.
        config: The fields of its :class:`HeadConfig` that are known; the others are the defaults.
        class_names: As many names as classes, or none; of weights with rows that nobody uses, as the 91 outputs for
            COCO's 80 classes, the names of those that are used.
    """

    task: str
    config: Mapping[str, Any]
    class_names: tuple[str, ...] = ()


class WeightsCard(NamedTuple):
    """The description of weights: how their network is built, and where they come from.

    Attributes:
        backbone: What the backbone is built from.
        heads: By name; none for a backbone alone.
        provenance: Free text by key: ``source``, ``sha256``, ``licence``, ``published``, ``measured``; ``unknown``, the
            tensors of another program's file that are left out.
    """

    backbone: BackboneConfig = BackboneConfig()
    heads: Mapping[str, HeadCard] = {}
    provenance: Mapping[str, str] = {}

    @classmethod
    def of(cls, network: Network, **provenance: str) -> Self:
        """Describe a network."""
        heads = {
            name: HeadCard(head.task, asdict(head.config), head.class_names)
            for name, head in network.named_heads.items()
        }
        return cls(network.backbone.config, heads, provenance)

    @property
    def tasks(self) -> str:
        """The heads for a message: ``detection``, or ``classification, segmentation``."""
        named = [head.task if name == head.task else f"{name} ({head.task})" for name, head in self.heads.items()]
        return ", ".join(named) or "a backbone alone"

    @property
    def unknown(self) -> str:
        """The tensors that were left out, for the end of a message; empty where there are none."""
        return f"; unknown beside it: {self.provenance['unknown']}" if "unknown" in self.provenance else ""

    def to_metadata(self) -> dict[str, str]:
        """Return the card as safetensors stores it: text by key."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "backbone": json.dumps(asdict(self.backbone)),
            "heads": json.dumps({name: head._asdict() for name, head in self.heads.items()}),
            "provenance": json.dumps(dict(self.provenance)),
        }

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> Self:
        """Read a card.

        Raises:
            ValueError: The metadata was not written by this library, or a part of it is missing or damaged.
        """
        if metadata.get("format") != FORMAT or metadata.get("version") != VERSION:
            raise ValueError(
                f"it has no description of {FORMAT} in version {VERSION}, got {metadata.get('format')} in version "
                f"{metadata.get('version')}"
            )
        backbone, heads = read_json(metadata, "backbone", dict), read_json(metadata, "heads", dict)
        check_names("option of the backbone in its description", backbone, field_names(BackboneConfig))
        try:
            cards = {
                name: HeadCard(head["task"], dict(head["config"]), tuple(head["class_names"]))
                for name, head in heads.items()
            }
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"heads in its description must have task, config and class_names: {error!r}") from error
        return cls(BackboneConfig(**backbone), cards, read_json(metadata, "provenance", dict))


class Weights(NamedTuple):
    """Tensors by name, and their description.

    The names are those of a :class:`Network`: ``normalization.*``, ``backbone.*`` and ``heads.<name>.*``.
    """

    tensors: dict[str, Tensor]
    card: WeightsCard


def read_json(metadata: Mapping[str, str], key: str, kind: type[T]) -> T:
    """Read one part of a description.

    Raises:
        ValueError: It is missing, damaged or of another kind.
    """
    try:
        value = json.loads(metadata[key])
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"its description lacks {key}, or it is damaged there") from error
    if not isinstance(value, kind):
        raise ValueError(f"{key} in its description must be a {kind.__name__}, got {metadata[key]}")
    return value
