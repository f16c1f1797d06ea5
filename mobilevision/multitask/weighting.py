"""The weighted sum of the losses of several heads."""

from collections.abc import Iterable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn


class FixedWeights(nn.Module):
    """Sum of losses with a fixed weight for each head.

    Args:
        weights: By head.

    Raises:
        ValueError: One is negative.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        super().__init__()
        if any(weight < 0 for weight in weights.values()):
            raise ValueError(f"loss_weights must be at least 0, got {dict(weights)}")
        self.weights = dict(weights)

    def forward(self, losses: Mapping[str, Float[Tensor, ""]]) -> Float[Tensor, ""]:
        """Return the weighted sum of the losses that there are."""
        return torch.stack([self.weights[name] * loss for name, loss in losses.items()]).sum()


class LearnedUncertainty(nn.Module):
    """Sum of losses whose weights are learned with everything else, by the uncertainty of each head.

    A loss L of variance v counts L / v + log(v) / 2: a large variance makes the loss small, and costs something.

    Args:
        heads: All that can have a loss.

    Reference: Kendall et al., "Multi-Task Learning Using Uncertainty to Weigh Losses", CVPR 2018, section 3.2.
    """

    def __init__(self, heads: Iterable[str]) -> None:
        super().__init__()
        self.log_variances = nn.ParameterDict({name: nn.Parameter(torch.zeros(())) for name in heads})

    def forward(self, losses: Mapping[str, Float[Tensor, ""]]) -> Float[Tensor, ""]:
        """Return the weighted sum of the losses that there are; a head without one costs nothing."""
        terms = []
        for name, loss in losses.items():
            log_variance = self.log_variances[name]
            terms.append(loss * (-log_variance).exp() + log_variance / 2)
        return torch.stack(terms).sum()
