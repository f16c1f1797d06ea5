"""The config of a backbone, found from the channels and blocks of its weights."""

from collections.abc import Callable, Iterator, Sequence
from itertools import product

from mobilevision.backbone.mobilenet_v2 import BackboneConfig
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
"""In the order in which they are tried. Several widths have the same channels: published ones come first."""

DEPTHS = (1.0, 1.2, 1.4, *(step / 10 for step in range(1, 41)))
"""In the order in which they are tried. Several depths have the same blocks: published ones come first."""

NUM_BLOCKS = tuple(stage.num_blocks for stage in STAGES)


def find_config(
    channels: tuple[int, ...],
    last: int | None = None,
    num_blocks: Sequence[int] = NUM_BLOCKS,
    *,
    min_channels: int = 8,
    scale_last: bool | None = None,
    accept: Callable[[float], bool] = lambda width: True,
) -> BackboneConfig:
    """Return the width, depth and rounding with which a backbone has these channels and blocks.

    Args:
        channels: Of the stem and the seven stages.
        last: Of the last convolution, if there is one.
        num_blocks: Of the seven stages.
        min_channels: No stage is narrower than this.
        scale_last: Whether the last convolution is narrowed with the others; both are tried where None.
        accept: Whether a width fits what stands behind the backbone.

    Raises:
        ValueError: No width and depth up to 4 have them.

    >>> find_config((16, 8, 16, 16, 32, 48, 80, 160), 1280).width_mult
    0.5
    >>> deeper = find_config((32, 24, 32, 40, 80, 112, 192, 384), 1280, (1, 3, 5, 6, 5, 5, 1))
    >>> deeper.width_mult, deeper.depth_mult, deeper.fixed_ends
    (1.2, 1.4, True)
    """
    depths = list(_find_depths(tuple(num_blocks)))
    if not depths:
        raise ValueError(f"no depth of MobileNetV2 has stages of {', '.join(map(str, num_blocks))} blocks")
    scalings = (False, True) if scale_last is None else (scale_last,)
    for (depth, fixed_ends), scaled, round_to, width in product(depths, scalings, (8, 1), WIDTHS):
        config = BackboneConfig(
            width_mult=width,
            round_to=round_to,
            min_channels=min_channels,
            scale_last=scaled,
            depth_mult=depth,
            fixed_ends=fixed_ends,
        )
        *stages, widest = count_channels(config)
        if tuple(stages) == channels and last in (None, widest) and accept(width):
            return config
    ending = "" if last is None else f" and {last}"
    raise ValueError(f"no width of MobileNetV2 has stages of {', '.join(map(str, channels))}{ending} channels")


def count_channels(config: BackboneConfig) -> tuple[int, ...]:
    """Return the channels of the stem, the seven stages and the last convolution.

    >>> count_channels(BackboneConfig(width_mult=0.35))
    (16, 8, 8, 16, 24, 32, 56, 112, 1280)
    """

    def scale(channels: int, width: float) -> int:
        return round_channels(channels * width, config.round_to, config.min_channels)

    width = config.width_mult
    ends = 1.0 if config.fixed_ends else width
    return (
        STEM_CHANNELS if config.fixed_ends else scale(STEM_CHANNELS, width),
        *(scale(stage.channels, width) for stage in STAGES),
        scale(LAST_CHANNELS, ends if config.scale_last else max(ends, 1.0)),
    )


def _find_depths(num_blocks: tuple[int, ...]) -> Iterator[tuple[float, bool]]:
    """Yield the first depth that has these blocks without fixed ends, and the first that has them with fixed ends."""
    for fixed_ends in (False, True):
        for depth in DEPTHS:
            if num_blocks == tuple(stage.num_blocks for stage in deepen_stages(depth, fixed_ends=fixed_ends)):
                yield depth, fixed_ends
                break
