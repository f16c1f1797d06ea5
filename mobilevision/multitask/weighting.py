"""Add the losses of several tasks up."""

from collections.abc import Iterable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn


class FixedWeights(nn.Module):
    """Weigh every task's loss by a number of its own.

    Args:
        weights: By task.

    Raises:
        ValueError: One is negative.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        super().__init__()
        if any(weight < 0 for weight in weights.values()):
            raise ValueError(f"loss_weights must be at least 0, got {dict(weights)}")
        self.weights = dict(weights)

    def forward(self, losses: Mapping[str, Float[Tensor, ""]]) -> Float[Tensor, ""]:
        """Sum the losses that there are."""
        return torch.stack([self.weights[task] * loss for task, loss in losses.items()]).sum()


class LearnedUncertainty(nn.Module):
    """Weigh every task's loss by how certain the network is of it, which is learned with everything else.

    A loss L of variance v counts L / v + log(v) / 2: to doubt a task makes its loss small, and costs something.

    Args:
        tasks: All that can have a loss.

    Reference: Kendall et al., "Multi-Task Learning Using Uncertainty to Weigh Losses", CVPR 2018, section 3.2.
    """

    def __init__(self, tasks: Iterable[str]) -> None:
        super().__init__()
        self.log_variances = nn.ParameterDict({task: nn.Parameter(torch.zeros(())) for task in tasks})

    def forward(self, losses: Mapping[str, Float[Tensor, ""]]) -> Float[Tensor, ""]:
        """Sum the losses that there are; a task without one costs nothing."""
        terms = []
        for task, loss in losses.items():
            log_variance = self.log_variances[task]
            terms.append(loss * (-log_variance).exp() + log_variance / 2)
        return torch.stack(terms).sum()
