"""The building block: expand, filter depthwise, project linearly.

Reference: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018, section 3.
"""

from itertools import islice
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mobilevision.backbone.convolution import Padding, conv2d
from mobilevision.backbone.stages import BlockPlan


class NormOptions(NamedTuple):
    """Batch normalization as the paper's backbone has it; ``momentum`` in PyTorch's sense (1 - TensorFlow's decay)."""

    eps: float = 1e-3
    momentum: float = 0.003


class BatchNorm2d(nn.BatchNorm2d):
    """Batch normalization that trains on a single value per channel: a 1x1 map in a batch of one, where PyTorch raises.

    One value has no spread. It is normalized with the running statistics, which stay as they are.
    """

    def forward(self, input: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:  # noqa: A002 - nn.BatchNorm2d's own name
        """Normalize every channel: with the batch's statistics in training, with the running ones otherwise."""
        if self.training and input.shape[0] * input.shape[2] * input.shape[3] == 1:
            return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(input)


class ConvNorm(nn.Sequential):
    """Convolution, batch normalization, and ReLU6 unless another ``activation`` or None is given."""

    conv: nn.Conv2d
    norm: BatchNorm2d

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        padding: Padding = "symmetric",
        activation: type[nn.ReLU] | type[nn.ReLU6] | None = nn.ReLU6,
        norm: NormOptions = NormOptions(),
    ) -> None:
        super().__init__()
        self.conv = conv2d(
            in_channels, out_channels, kernel_size, stride=stride, dilation=dilation, groups=groups, padding=padding
        )
        self.norm = BatchNorm2d(out_channels, eps=norm.eps, momentum=norm.momentum)
        if activation is not None:
            self.activation = activation(inplace=True)

    def forward(self, input: Float[Tensor, "B C h w"], plan: BlockPlan | None = None) -> Float[Tensor, "B D hs ws"]:  # noqa: A002 - nn.Sequential's own name
        """Run all of it, the convolution at its own stride and dilation or at those of ``plan``."""
        x: Tensor = self.conv(input) if plan is None else self.conv(input, **plan._asdict())
        for module in islice(self, 1, None):
            x = module(x)
        return x


class InvertedResidual(nn.Module):
    """Inverted residual: expand, filter depthwise, project linearly; add the input where the shapes allow it.

    Args:
        in_channels: Of the input.
        out_channels: Of the output.
        expansion: The expanded channels over ``in_channels``.
        plan: Stride and dilation, unless a pass is given another.
        padding: Of the depthwise convolution.
        norm: Of the three batch normalizations.

    Reference: section 3.3 and Table 1.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        expansion: int,
        plan: BlockPlan,
        padding: Padding = "symmetric",
        norm: NormOptions = NormOptions(),
    ) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.expand = ConvNorm(in_channels, hidden, norm=norm) if expansion > 1 else nn.Identity()
        self.depthwise = ConvNorm(
            hidden, hidden, 3, stride=plan.stride, dilation=plan.dilation, groups=hidden, padding=padding, norm=norm
        )
        self.project = ConvNorm(hidden, out_channels, activation=None, norm=norm)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.expanded_channels = hidden
        self.plan = plan

    def adds_input(self, plan: BlockPlan | None = None) -> bool:
        """Return whether the input is added: decided by the actual channels and stride, never by the block's place."""
        return self.in_channels == self.out_channels and (plan or self.plan).stride == 1

    def forward(self, x: Float[Tensor, "B C h w"], plan: BlockPlan | None = None) -> Float[Tensor, "B D hs ws"]:
        """Run the whole block."""
        return self.finish(x, self.expand(x), plan)

    def finish(
        self, x: Float[Tensor, "B C h w"], expanded: Float[Tensor, "B E h w"], plan: BlockPlan | None = None
    ) -> Float[Tensor, "B D hs ws"]:
        """Run what follows the expansion, so that the expansion itself can be a tap.

        Args:
            x: The block's input.
            expanded: Its expansion.
            plan: Another stride and dilation than its own.
        """
        # At its own plan nothing is passed on, so that any module may stand in for the depthwise part.
        out: Tensor = self.depthwise(expanded) if plan in (None, self.plan) else self.depthwise(expanded, plan)
        out = self.project(out)
        return x + out if self.adds_input(plan) else out
