"""Batch normalisation that trains on a batch of one, whatever the size of the map."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class BatchNorm2d(nn.BatchNorm2d):
    """PyTorch's, but for a lone value per channel: a map of 1x1 in a batch of one, where PyTorch raises in training.

    One value has no spread. It is normalised with the running statistics, which it leaves as they are.
    """

    def forward(self, input: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:  # noqa: A002 - nn.BatchNorm2d's own name
        """Normalise every channel: with the batch's statistics in training, with the running ones otherwise."""
        if self.training and input.shape[0] * input.shape[2] * input.shape[3] == 1:
            return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(input)
