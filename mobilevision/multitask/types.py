"""Records that pass between the files of this room."""

from typing import Literal, NamedTuple, get_args

from jaxtyping import Float
from torch import Tensor

from mobilevision.detection.types import RawPredictions

TaskName = Literal["classification", "detection", "segmentation"]
TASK_NAMES: tuple[TaskName, ...] = get_args(TaskName)


class Answers(NamedTuple):
    """What the heads say of a batch of images; None of a head that there is not or that was not asked.

    Attributes:
        classification: Logits of the classes.
        detection: Offsets and logits of every anchor.
        segmentation: Logits of every pixel.
    """

    classification: Float[Tensor, "B C"] | None = None
    detection: RawPredictions | None = None
    segmentation: Float[Tensor, "B C H W"] | None = None
