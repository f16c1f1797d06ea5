"""MobileNetV2, with every row of the paper's Table 2 as a named tap.

Reference: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018, sections 3 and 4.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, cast

from jaxtyping import Float
from torch import Tensor, nn

from mobilevision.backbone.batch_norm import BatchNorm2d
from mobilevision.backbone.padding import Padding, conv2d


class Stage(NamedTuple):
    """One row of Table 2."""

    expansion: int
    channels: int
    num_blocks: int
    stride: int


STEM_CHANNELS = 32
STAGES = (
    #     t    c  n  s
    Stage(1, 16, 1, 1),
    Stage(6, 24, 2, 2),
    Stage(6, 32, 3, 2),
    Stage(6, 64, 4, 2),
    Stage(6, 96, 3, 1),
    Stage(6, 160, 3, 2),
    Stage(6, 320, 1, 1),
)
LAST_CHANNELS = 1280

EXPANSION_STAGE = "stage6"
"""The stage whose first block's expansion is a tap: SSDLite reads it."""

OUTPUT_STRIDES = (8, 16, 32)

INIT_STD = 0.09


class NormOptions(NamedTuple):
    """Batch normalisation as the paper's backbone has it; ``momentum`` in PyTorch's sense (1 - TensorFlow's decay)."""

    eps: float = 1e-3
    momentum: float = 0.003


class FeatureInfo(NamedTuple):
    """What a tap gives: its channels, and its stride to the input."""

    channels: int
    stride: int


class BlockPlan(NamedTuple):
    """Stride and dilation of one block's depthwise convolution."""

    stride: int
    dilation: int


def round_channels(channels: float, divisor: int = 8, minimum: int = 8) -> int:
    """Round to a multiple of ``divisor``, never below ``minimum`` and never by more than a tenth downwards.

    >>> [round_channels(width * 24) for width in (0.35, 0.5, 1.4)]
    [8, 16, 32]
    """
    rounded = max(minimum, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def deepen_stages(depth_mult: float, *, fixed_ends: bool = False) -> tuple[Stage, ...]:
    """Give Table 2 with ``depth_mult`` times as many blocks in every stage, rounded up.

    Args:
        depth_mult: Above 0.
        fixed_ends: Whether the first and the last stage keep their one block.

    >>> [stage.num_blocks for stage in deepen_stages(1.2, fixed_ends=True)]
    [1, 3, 4, 5, 4, 4, 1]
    """
    ends = (STAGES[0], STAGES[-1]) if fixed_ends else ()
    return tuple(
        stage if stage in ends else stage._replace(num_blocks=math.ceil(stage.num_blocks * depth_mult))
        for stage in STAGES
    )


def plan_strides(output_stride: int, stages: Sequence[Stage] = STAGES) -> list[list[BlockPlan]]:
    """Say for every block of every stage at which stride and dilation it runs under ``output_stride``.

    A block whose stride is taken away keeps the dilation of the blocks before it; the blocks after it see its stride
    as dilation. This is the rule the TensorFlow weights were trained with.

    Raises:
        ValueError: ``output_stride`` is not 8, 16 or 32.

    >>> plan_strides(16)[5]
    [BlockPlan(stride=1, dilation=1), BlockPlan(stride=1, dilation=2), BlockPlan(stride=1, dilation=2)]
    """
    if output_stride not in OUTPUT_STRIDES:
        raise ValueError(f"output_stride must be 8, 16 or 32, got {output_stride}")
    plans: list[list[BlockPlan]] = []
    current, dilation = 2, 1
    for stage in stages:
        plan = []
        for index in range(stage.num_blocks):
            nominal = stage.stride if index == 0 else 1
            if current == output_stride:
                plan.append(BlockPlan(1, dilation))
                dilation *= nominal
            else:
                plan.append(BlockPlan(nominal, dilation))
                current *= nominal
        plans.append(plan)
    return plans


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
    def residual(self) -> bool:
        """Whether the input is added: from the actual channels and the actual stride, never from the block's place."""
        return self.in_channels == self.out_channels and self.depthwise.conv.stride == (1, 1)

    def forward(self, x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B D hs ws"]:
        """Run the whole block."""
        return self.finish(x, self.expand(x))

    def finish(self, x: Float[Tensor, "B C h w"], expanded: Float[Tensor, "B E h w"]) -> Float[Tensor, "B D hs ws"]:
        """Run what follows the expansion, so that the expansion itself can be tapped."""
        out: Tensor = self.project(self.depthwise(expanded))
        return x + out if self.residual else out


class MobileNetV2(nn.Module):
    """The backbone: normalised pixels in, named feature maps out.

    Taps are the rows of Table 2: ``stem``, ``stage1`` to ``stage7`` and ``last`` (the 1x1 convolution to 1280
    channels); ``stage6_expansion`` is the expansion inside stage 6's first block, after ReLU6: SSDLite's first map.
    :attr:`feature_info` gives the channels and stride of each.

    Args:
        width_mult: Channel multiplier, above 0. The paper uses 0.35 to 1.4.
        output_stride: 8, 16 or 32; below 32 the later stages dilate instead of striding. It can be changed later on the
            same weights with :meth:`set_output_stride`.
        padding: ``symmetric`` (weights trained in PyTorch) or ``tf_same`` (weights trained in TensorFlow).
        round_to: Channels are rounded to multiples of this.
        min_channels: No stage is narrower than this. The Object Detection API uses 16.
        last: Whether to build the ``last`` convolution. DeepLab stops before it.
        scale_last: Whether a ``width_mult`` below 1 narrows ``last`` too, as it does in the Object Detection API.
        depth_mult: Multiplier of every stage's number of blocks, above 0, rounded up. The paper has 1; timm's
            ``mobilenetv2_110d`` and ``_120d`` have 1.2 and 1.4.
        fixed_ends: Whether the ends stay as they are whatever the multipliers: 32 channels in the stem, 1280 in
            ``last``, one block in the first and last stage. These two networks of timm's have it.
        norm_eps: Batch normalisation's epsilon. 1e-3 is the paper's; torchvision's weights want 1e-5.
        norm_momentum: Batch normalisation's momentum in PyTorch's sense: 0.003 is TensorFlow's decay of 0.997.

    Raises:
        ValueError: An argument outside what is said above.

    >>> import torch
    >>> backbone = MobileNetV2().eval()
    >>> taps = backbone(torch.zeros(1, 3, 64, 64), taps=("stage6_expansion", "last"))
    >>> [(name, tuple(x.shape[1:])) for name, x in taps.items()]
    [('stage6_expansion', (576, 4, 4)), ('last', (1280, 2, 2))]
    """

    def __init__(
        self,
        *,
        width_mult: float = 1.0,
        output_stride: int = 32,
        padding: Padding = "symmetric",
        round_to: int = 8,
        min_channels: int = 8,
        last: bool = True,
        scale_last: bool = False,
        depth_mult: float = 1.0,
        fixed_ends: bool = False,
        norm_eps: float = 1e-3,
        norm_momentum: float = 0.003,
    ) -> None:
        super().__init__()
        for name, multiplier in (("width_mult", width_mult), ("depth_mult", depth_mult)):
            if multiplier <= 0:
                raise ValueError(f"{name} must be above 0, got {multiplier}")
        if round_to < 1:
            raise ValueError(f"round_to must be at least 1, got {round_to}")
        norm = NormOptions(norm_eps, norm_momentum)

        def scaled(channels: int) -> int:
            return round_channels(channels * width_mult, round_to, min_channels)

        self.plan = deepen_stages(depth_mult, fixed_ends=fixed_ends)
        channels = STEM_CHANNELS if fixed_ends else scaled(STEM_CHANNELS)
        self.stem = ConvNorm(3, channels, 3, stride=2, padding=padding, norm=norm)
        self.stages = nn.ModuleDict()
        for number, (stage, plans) in enumerate(
            zip(self.plan, plan_strides(output_stride, self.plan), strict=True), start=1
        ):
            blocks = nn.ModuleList()
            for plan in plans:
                out_channels = scaled(stage.channels)
                blocks.append(
                    InvertedResidual(
                        channels, out_channels, expansion=stage.expansion, plan=plan, padding=padding, norm=norm
                    )
                )
                channels = out_channels
            self.stages[f"stage{number}"] = blocks
        last_width = 1.0 if fixed_ends else width_mult if scale_last else max(width_mult, 1.0)
        last_channels = round_channels(LAST_CHANNELS * last_width, round_to, min_channels)
        self.last = ConvNorm(channels, last_channels, norm=norm) if last else None
        self.padding: Padding = padding
        self.width_mult = width_mult
        self.output_stride = output_stride
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the convolutions from a normal distribution of deviation 0.09, cut off at two deviations."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.trunc_normal_(module.weight, std=INIT_STD, a=-2 * INIT_STD, b=2 * INIT_STD)

    def blocks(self) -> Iterator[tuple[str, list[InvertedResidual]]]:
        """Go through the stages: name and blocks of each."""
        for name, blocks in self.stages.items():
            yield name, cast(list[InvertedResidual], list(cast(nn.ModuleList, blocks)))

    @property
    def feature_info(self) -> dict[str, FeatureInfo]:
        """Channels and stride of every tap, in the order in which they are computed."""
        stride = 2
        info = {"stem": FeatureInfo(self.stem.conv.out_channels, stride)}
        for name, blocks in self.blocks():
            if name == EXPANSION_STAGE:
                info[f"{name}_expansion"] = FeatureInfo(blocks[0].expanded_channels, stride)
            for block in blocks:
                stride *= block.depthwise.conv.stride[0]
            info[name] = FeatureInfo(blocks[-1].out_channels, stride)
        if self.last is not None:
            info["last"] = FeatureInfo(self.last.conv.out_channels, stride)
        return info

    def set_output_stride(self, output_stride: int) -> None:
        """Run the same weights at another output stride: accuracy against speed, chosen after training.

        Raises:
            ValueError: ``output_stride`` is not 8, 16 or 32.
        """
        for (_, blocks), plans in zip(self.blocks(), plan_strides(output_stride, self.plan), strict=True):
            for block, plan in zip(blocks, plans, strict=True):
                conv = block.depthwise.conv
                conv.stride = (plan.stride, plan.stride)
                conv.dilation = (plan.dilation, plan.dilation)
                conv.padding = (0, 0) if self.padding == "tf_same" else (plan.dilation, plan.dilation)
        self.output_stride = output_stride

    def forward(self, x: Float[Tensor, "B 3 H W"], taps: Iterable[str] = ("last",)) -> dict[str, Tensor]:
        """Run as far as the deepest tap and return those asked for, by name.

        Args:
            x: Normalised pixels.
            taps: Names from :attr:`feature_info`.

        Returns:
            The maps ``[B, channels, ceil(H / stride), ceil(W / stride)]``, in the order of ``taps``.

        Raises:
            ValueError: A tap that this backbone does not have.
        """
        wanted = tuple(taps)
        unknown = set(wanted) - set(self.feature_info)
        if unknown:
            raise ValueError(f"taps must be among {', '.join(self.feature_info)}, got {', '.join(sorted(unknown))}")
        maps: dict[str, Tensor] = {}
        for name, feature in self._walk(x):
            if name in wanted:
                maps[name] = feature
            if len(maps) == len(set(wanted)):
                break
        return {name: maps[name] for name in wanted}

    def _walk(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        x = self.stem(x)
        yield "stem", x
        for name, blocks in self.blocks():
            for index, block in enumerate(blocks):
                if name == EXPANSION_STAGE and index == 0:
                    expanded = block.expand(x)
                    yield f"{name}_expansion", expanded
                    x = block.finish(x, expanded)
                else:
                    x = block(x)
            yield name, x
        if self.last is not None:
            yield "last", self.last(x)
