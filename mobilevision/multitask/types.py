"""Records that pass between the files of this room."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, get_args

from jaxtyping import Float, UInt8
from torch import Tensor

from mobilevision.detection.types import Batch as BoxBatch
from mobilevision.detection.types import RawPredictions
from mobilevision.segmentation.types import Batch as MaskBatch

TaskName = Literal["classification", "detection", "segmentation"]
TASK_NAMES: tuple[TaskName, ...] = get_args(TaskName)

BOTH = "both"
"""What the pictures with boxes and masks are called beside the sets of one task."""


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


class BoxesAndMasks(NamedTuple):
    """Images with both kinds of labels, for one pass."""

    boxed: BoxBatch
    masks: UInt8[Tensor, "B S S"]

    @property
    def parts(self) -> dict[str, Any]:
        """The batch of each task; the images are the same."""
        masked = MaskBatch(self.boxed.images, self.masks, self.boxed.positions)
        return {"detection": self.boxed, "segmentation": masked}


def passes_of(step: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Give the passes of a training step, each with the batches of the tasks that its images have labels for."""
    return [
        batch.parts if isinstance(batch, BoxesAndMasks) else {name: batch}
        for name, batch in step.items()
        if batch is not None
    ]
