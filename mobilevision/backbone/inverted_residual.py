"""The building block: expand, filter depthwise, project linearly.

Reference: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018, section 3.
"""

from itertools import islice
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from mobilevision.backbone.batch_norm import BatchNorm2d
from mobilevision.backbone.padding import Padding, conv2d
from mobilevision.backbone.stages import BlockPlan


class NormOptions(NamedTuple):
    """Batch normalisation as the paper's backbone has it; ``momentum`` in PyTorch's sense (1 - TensorFlow's decay)."""

    eps: float = 1e-3
    momentum: float = 0.003


class ConvNorm(nn.Sequential):
    """Convolution and batch normalisation, then ReLU6 unless ``activation`` says otherwise."""

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
    """Expand, filter depthwise, project linearly; add the input where the shapes allow it.

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

    @property
    def plan(self) -> BlockPlan:
        """At which stride and dilation it runs if nothing else is said."""
        conv = self.depthwise.conv
        return BlockPlan(conv.stride[0], conv.dilation[0])

    @property
    def residual(self) -> bool:
        """Whether the input is added, at its own stride."""
        return self._adds_input(self.plan)

    def forward(self, x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B D hs ws"]:
        """Run the whole block."""
        return self.finish(x, self.expand(x))

    def finish(
        self, x: Float[Tensor, "B C h w"], expanded: Float[Tensor, "B E h w"], plan: BlockPlan | None = None
    ) -> Float[Tensor, "B D hs ws"]:
        """Run what follows the expansion, so that the expansion itself can be tapped.

        Args:
            x: What the block was given.
            expanded: Its expansion.
            plan: To run at another stride and dilation than its own.
        """
        plan = None if plan == self.plan else plan
        out: Tensor = self.project(self.depthwise(expanded, plan))
        return x + out if self._adds_input(plan or self.plan) else out

    def _adds_input(self, plan: BlockPlan) -> bool:
        # From the actual channels and the actual stride, never from the block's place.
        return self.in_channels == self.out_channels and plan.stride == 1
