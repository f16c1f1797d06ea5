"""Statistics of batch normalization, restored in a network whose file had folded them away."""

from collections.abc import Iterable

import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from mobilevision.backbone.inverted_residual import ConvNorm
from mobilevision.network import Network


class ChannelStatistics:
    """Mean and variance of every channel of a module's output, over all that it is run on."""

    def __init__(self) -> None:
        self._count = 0
        self._mean: Tensor | float = 0.0
        self._mean_square: Tensor | float = 0.0

    def update(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """Add the values of a batch, as a forward hook."""
        count = output.numel() // output.shape[1]
        self._count += count
        share = count / self._count
        variance, mean = (moment.double() for moment in torch.var_mean(output, dim=(0, 2, 3), correction=0))
        self._mean += share * (mean - self._mean)
        self._mean_square += share * (variance + mean.square() - self._mean_square)

    def compute(self) -> tuple[Tensor, Tensor]:
        """Compute mean and variance, in double precision.

        Raises:
            ValueError: There were no values.
        """
        if self._count == 0:
            raise ValueError("images must not be empty: there is nothing to calibrate with")
        mean = torch.as_tensor(self._mean)
        return mean, (self._mean_square - mean.square()).clamp(min=0)


@torch.no_grad()
def calibrate(network: Network, images: Iterable[UInt8[Tensor, "B 3 H W"]]) -> None:
    """Make a network trainable whose normalization was folded into its filters, without changing what it computes.

    Every normalization gets the statistics that its convolution really has on ``images``, and weight and bias that
    undo them. The filters are scaled to unit norm first: under normalization their size sets nothing but their
    effective learning rate, and folded ones differ a hundredfold.

    Args:
        network: Changed in place.
        images: Batches like those it will be trained on; some hundreds of images suffice.

    Raises:
        ValueError: There are no images.
    """
    pairs = [(module, ChannelStatistics()) for module in network.modules() if isinstance(module, ConvNorm)]
    hooks = [module.conv.register_forward_hook(statistics.update) for module, statistics in pairs]
    was_training = network.training
    network.eval()
    try:
        for batch in images:
            network(batch)
    finally:
        network.train(was_training)
        for hook in hooks:
            hook.remove()
    computed = [(module, *statistics.compute()) for module, statistics in pairs]
    for module, mean, variance in computed:
        _renormalize(module, mean, variance)


def _renormalize(module: ConvNorm, mean: Tensor, variance: Tensor) -> None:
    norm, weight = module.norm, module.conv.weight
    assert norm.running_mean is not None
    assert norm.running_var is not None
    size = torch.linalg.vector_norm(weight.double().flatten(1), dim=1)
    # A filter of zeros has no direction to keep.
    size = size.where(size > 0, 1.0)
    factor = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    offset = norm.bias.double() - factor * norm.running_mean.double()
    weight.div_(size.to(weight.dtype).view(-1, 1, 1, 1))
    variance = variance / size.square()
    norm.weight.copy_(factor * size * (variance + norm.eps).sqrt())
    norm.bias.copy_(offset + factor * mean)
    norm.running_mean.copy_(mean / size)
    norm.running_var.copy_(variance)
