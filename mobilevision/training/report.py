"""What an evaluation found."""

from collections.abc import Mapping
from typing import NamedTuple


class Report(NamedTuple):
    """Figures of one evaluation.

    Attributes:
        figures: Name to value, as logged but without the split: ``map``, ``miou``, ``top1``, ``loss``.
        per_class: Class name to its figures. A figure that a class does not have is NaN.
        num_images: Images that were evaluated.
    """

    figures: Mapping[str, float]
    per_class: Mapping[str, Mapping[str, float]]
    num_images: int
