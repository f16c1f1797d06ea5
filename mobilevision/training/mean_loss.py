"""The validation loss of a whole set, whatever the number of processes and the size of the batches."""

from jaxtyping import Float, Int64, Shaped
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from mobilevision.training.rows import distinct_rows


class MeanLoss(Metric):
    """All images' losses over all that counted in them: pixels, positives or the images themselves.

    It keeps a sum and a count per image, so that repeats of a distributed sampler drop out and small batches weigh no
    more than large ones.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = False

    sums: list[Tensor]
    counts: list[Tensor]
    positions: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for name in ("sums", "counts", "positions"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, sums: Float[Tensor, " B"], counts: Shaped[Tensor, " B"], positions: Int64[Tensor, " B"]) -> None:
        """Add images: each one's summed loss, what counted in it, and its place in the set."""
        self.sums.append(sums.detach())
        self.counts.append(counts)
        self.positions.append(positions)

    def compute(self) -> Float[Tensor, ""]:
        """Give the mean over the set; 0 where nothing counted."""
        columns = [dim_zero_cat(column) for column in (self.positions, self.sums, self.counts)]
        _, sums, counts = distinct_rows(*columns)
        return sums.sum() / counts.sum().clamp(min=1)
