"""The classifier's loss: cross-entropy with smoothed labels."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mobilevision.classification.types import ClassificationBatch


class ClassificationCriterion(nn.Module):
    """Cross-entropy of logits with labels or, where images were mixed, with distributions over the classes.

    Args:
        label_smoothing: Share of every label that is spread over all classes.
    """

    def __init__(self, *, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing

    def forward(self, outputs: Float[Tensor, "B C"], batch: ClassificationBatch) -> dict[str, Float[Tensor, ""]]:
        """Return the mean over the batch, as ``loss``."""
        return {"loss": F.cross_entropy(outputs, batch.labels, label_smoothing=self.label_smoothing)}
