"""Say from the channels and blocks of a trained backbone with which options it is built."""

from collections.abc import Callable, Sequence
from itertools import product

from mobilevision.backbone.image_network import Scalar
from mobilevision.backbone.stages import LAST_CHANNELS, STAGES, STEM_CHANNELS, deepen_stages, round_channels

WIDTHS = (
    1.0,
    1.4,
    1.3,
    0.75,
    0.5,
    0.35,
    *(step / 20 for step in range(1, 81)),
    *(step / 100 for step in range(1, 401)),
)
"""Those that are published first: several widths have the same channels."""

DEPTHS = (1.2, 1.4, *(step / 10 for step in range(1, 41)))
"""Likewise: several depths have the same blocks."""


def width_options(
    channels: tuple[int, ...],
    last: int | None = None,
    *,
    min_channels: int = 8,
    scale_last: bool | None = None,
    fits: Callable[[float], bool] = lambda width: True,
) -> dict[str, Scalar]:
    """Say with which width and rounding a backbone has these channels.

    Args:
        channels: Of the stem and the seven stages.
        last: Of the last convolution, if there is one.
        min_channels: As the network that is built has it.
        scale_last: Likewise; where it is not settled, it is found out, and an option says so where it is true.
        fits: Whether a width gives the channels of what stands behind the backbone.

    Raises:
        ValueError: No width up to 4 gives them.

    >>> width_options((16, 8, 16, 16, 32, 48, 80, 160), 1280)
    {'width_mult': 0.5, 'round_to': 8}
    """
    plain = (STEM_CHANNELS, *(stage.channels for stage in STAGES))
    for scaled, round_to, width in product((False, True) if scale_last is None else (scale_last,), (8, 1), WIDTHS):
        last_width = width if scaled else max(width, 1.0)
        if (
            channels == tuple(round_channels(count * width, round_to, min_channels) for count in plain)
            and last in (None, round_channels(LAST_CHANNELS * last_width, round_to, min_channels))
            and fits(width)
        ):
            found: dict[str, Scalar] = {"width_mult": width, "round_to": round_to}
            return {**found, "scale_last": True} if scaled and scale_last is None else found
    raise _no_width(channels, last)


def size_options(channels: tuple[int, ...], last: int | None, num_blocks: Sequence[int]) -> dict[str, Scalar]:
    """Say with which width and depth a backbone has these channels and blocks.

    Args:
        channels: Of the stem and the seven stages.
        last: Of the last convolution, if there is one.
        num_blocks: Of the seven stages.

    Raises:
        ValueError: No width and depth up to 4 give them.

    >>> size_options((32, 24, 32, 40, 80, 112, 192, 384), 1280, (1, 3, 5, 6, 5, 5, 1))
    {'width_mult': 1.2, 'round_to': 8, 'depth_mult': 1.4, 'fixed_ends': True}
    """
    if tuple(num_blocks) == tuple(stage.num_blocks for stage in STAGES):
        return width_options(channels, last)
    for fixed_ends in (True, False):
        for depth in DEPTHS:
            stages = deepen_stages(depth, fixed_ends=fixed_ends)
            if tuple(num_blocks) == tuple(stage.num_blocks for stage in stages):
                # With ends that stay, stem and last say nothing of the width.
                scaled = (
                    {"width_mult": _stage_width(channels, last), "round_to": 8}
                    if fixed_ends
                    else width_options(channels, last)
                )
                return {**scaled, "depth_mult": depth, "fixed_ends": fixed_ends}
    raise ValueError(f"no depth of MobileNetV2 has stages of {', '.join(map(str, num_blocks))} blocks")


def _stage_width(channels: tuple[int, ...], last: int | None) -> float:
    for width in WIDTHS:
        stages = tuple(round_channels(stage.channels * width) for stage in STAGES)
        if channels == (STEM_CHANNELS, *stages) and last in (None, LAST_CHANNELS):
            return width
    raise _no_width(channels, last)


def _no_width(channels: tuple[int, ...], last: int | None) -> ValueError:
    ending = "" if last is None else f" and {last}"
    return ValueError(f"no width of MobileNetV2 has stages of {', '.join(map(str, channels))}{ending} channels")
