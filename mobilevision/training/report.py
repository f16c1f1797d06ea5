"""What an evaluation found."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Report(NamedTuple):
    """Figures of one evaluation.

    Attributes:
        figures: Name to value, as logged but without the split: ``map``, ``miou``, ``top1``, ``loss``.
        per_class: Class name to its figures. A figure that a class does not have is NaN.
        num_images: Images that were evaluated.
        details: What is too much for a table - protocols, curves, confusions - as plain JSON values by name.
    """

    figures: Mapping[str, float]
    per_class: Mapping[str, Mapping[str, float]]
    num_images: int
    details: Mapping[str, Any] = {}
