"""The paper's Table 2, at any width, depth and output stride.

Reference: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018, section 4.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple


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

OUTPUT_STRIDES = (8, 16, 32)


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
    """Return Table 2 with ``depth_mult`` times as many blocks in every stage, rounded up.

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
    """Return the stride and dilation of every block of every stage under ``output_stride``.

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
