"""MobileNetV2, with every row of the paper's Table 2 as a named tap.

Reference: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018, sections 3 and 4.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, cast

from jaxtyping import Float
from torch import Tensor, nn

from mobilevision.backbone.convolution import Padding
from mobilevision.backbone.inverted_residual import ConvNorm, InvertedResidual, NormOptions
from mobilevision.backbone.stages import (
    LAST_CHANNELS,
    STEM_CHANNELS,
    BlockPlan,
    deepen_stages,
    plan_strides,
    round_channels,
)
from mobilevision.options import trained

EXPANSION_STAGE = "stage6"
"""The stage whose first block's expansion is a tap: SSDLite reads it."""

NOMINAL_STRIDE = 32
"""The output stride of the paper's Table 2."""

INIT_STD = 0.09


@dataclass(frozen=True, kw_only=True)
class BackboneConfig:
    """The plain values that a backbone is built from.

    Attributes:
        width_mult: Channel multiplier, above 0. The paper uses 0.35 to 1.4.
        padding: ``symmetric`` (weights trained in PyTorch) or ``tf_same`` (weights trained in TensorFlow).
        round_to: Channels are rounded to multiples of this.
        min_channels: No stage is narrower than this. The Object Detection API uses 16.
        scale_last: Whether a ``width_mult`` below 1 narrows the last convolution too, as in the Object Detection API.
        depth_mult: Multiplier of every stage's number of blocks, above 0, rounded up. The paper has 1; timm's
            ``mobilenetv2_110d`` and ``_120d`` have 1.2 and 1.4.
        fixed_ends: Whether the ends stay as they are whatever the multipliers: 32 channels in the stem, 1280 in the
            last convolution, one block in the first and last stage. These two networks of timm's have it.
        norm_eps: Batch normalization's epsilon. 1e-3 is the paper's; torchvision's weights want 1e-5.
        norm_momentum: Batch normalization's momentum in PyTorch's sense: 0.003 is TensorFlow's decay of 0.997. It
            forgets over thousands of steps: a short run wants 0.03 or more.

    Raises:
        ValueError: A value outside what is said above.
    """

    width_mult: float = 1.0
    padding: Padding = trained("symmetric")
    round_to: int = 8
    min_channels: int = 8
    scale_last: bool = False
    depth_mult: float = 1.0
    fixed_ends: bool = False
    norm_eps: float = trained(1e-3)
    norm_momentum: float = 0.003

    def __post_init__(self) -> None:
        for name, multiplier in (("width_mult", self.width_mult), ("depth_mult", self.depth_mult)):
            if multiplier <= 0:
                raise ValueError(f"{name} must be above 0, got {multiplier}")
        if self.round_to < 1:
            raise ValueError(f"round_to must be at least 1, got {self.round_to}")


class FeatureInfo(NamedTuple):
    """Channels of a tap, and its stride to the input."""

    channels: int
    stride: int


class MobileNetV2(nn.Module):
    """MobileNetV2 backbone: normalized pixels in, named feature maps out.

    Taps are the rows of Table 2: ``stem``, ``stage1`` to ``stage7`` and ``last`` (the 1x1 convolution to 1280
    channels); ``stage6_expansion`` is the expansion inside stage 6's first block, after ReLU6: SSDLite's first map.

    Args:
        config: What it is built from.
        last: Whether to build the ``last`` convolution. DeepLab stops before it.
        options: Fields of :class:`BackboneConfig`; they override those of ``config``.

    Raises:
        ValueError: A value outside what :class:`BackboneConfig` says.
        TypeError: An option that is none of its fields.

    >>> import torch
    >>> backbone = MobileNetV2().eval()
    >>> taps = backbone(torch.zeros(1, 3, 64, 64), taps=("stage6_expansion", "last"))
    >>> [(name, tuple(x.shape[1:])) for name, x in taps.items()]
    [('stage6_expansion', (576, 4, 4)), ('last', (1280, 2, 2))]
    """

    def __init__(self, config: BackboneConfig = BackboneConfig(), *, last: bool = True, **options: Any) -> None:
        super().__init__()
        self.config = config = replace(config, **options)
        norm = NormOptions(config.norm_eps, config.norm_momentum)
        self.table = deepen_stages(config.depth_mult, fixed_ends=config.fixed_ends)
        channels = STEM_CHANNELS if config.fixed_ends else self._scale(STEM_CHANNELS, config.width_mult)
        self.stem = ConvNorm(3, channels, 3, stride=2, padding=config.padding, norm=norm)
        self.stages = nn.ModuleDict()
        plans = plan_strides(NOMINAL_STRIDE, self.table)
        for number, (stage, stage_plans) in enumerate(zip(self.table, plans, strict=True), start=1):
            blocks = nn.ModuleList()
            for plan in stage_plans:
                out_channels = self._scale(stage.channels, config.width_mult)
                blocks.append(
                    InvertedResidual(
                        channels, out_channels, expansion=stage.expansion, plan=plan, padding=config.padding, norm=norm
                    )
                )
                channels = out_channels
            self.stages[f"stage{number}"] = blocks
        width = config.width_mult if config.scale_last else max(config.width_mult, 1.0)
        last_channels = self._scale(LAST_CHANNELS, 1.0 if config.fixed_ends else width)
        self.last = ConvNorm(channels, last_channels, norm=norm) if last else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the convolutions from a normal distribution of deviation 0.09, cut off at two deviations."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.trunc_normal_(module.weight, std=INIT_STD, a=-2 * INIT_STD, b=2 * INIT_STD)

    @property
    def feature_info(self) -> dict[str, FeatureInfo]:
        """Channels and stride of every tap, in the order of the computation, at the paper's output stride 32."""
        stride = 2
        info: dict[str, FeatureInfo] = {}
        for name, blocks in self._blocks():
            # Another stem may stand in for it.
            info.setdefault("stem", FeatureInfo(blocks[0].in_channels, stride))
            if name == EXPANSION_STAGE:
                info[f"{name}_expansion"] = FeatureInfo(blocks[0].expanded_channels, stride)
            for block in blocks:
                stride *= block.plan.stride
            info[name] = FeatureInfo(blocks[-1].out_channels, stride)
        if self.last is not None:
            info["last"] = FeatureInfo(self.last.conv.out_channels, stride)
        return info

    def forward(
        self, x: Float[Tensor, "B 3 H W"], taps: Iterable[str] = ("last",), output_stride: int = NOMINAL_STRIDE
    ) -> dict[str, Tensor]:
        """Return the maps that are asked for, by name, running no further than the deepest.

        Args:
            x: Normalized pixels.
            taps: Names from :attr:`feature_info`.
            output_stride: 8, 16 or 32: below 32 the later stages dilate instead of striding.

        Returns:
            The maps ``[B, channels, ceil(H / stride), ceil(W / stride)]``, in the order of ``taps``.

        Raises:
            ValueError: A tap that this backbone does not have, or another ``output_stride``.
        """
        return self.forward_strides(x, {output_stride: taps})[output_stride]

    def forward_strides(
        self, x: Float[Tensor, "B 3 H W"], taps: Mapping[int, Iterable[str]]
    ) -> dict[int, dict[str, Tensor]]:
        """Return maps at several output strides from one pass: what they have in common is computed once.

        That is everything up to the block that strides at one and dilates at another, its expansion too.

        Args:
            x: Normalized pixels.
            taps: Names from :attr:`feature_info`, by output stride.

        Returns:
            The maps by output stride and name, in the order of ``taps``.

        Raises:
            ValueError: A tap that this backbone does not have, or an output stride that is not 8, 16 or 32.
        """
        wanted = {stride: tuple(names) for stride, names in taps.items()}
        known = self.feature_info
        unknown = {name for names in wanted.values() for name in names if name not in known}
        if unknown:
            raise ValueError(f"taps must be among {', '.join(known)}, got {', '.join(sorted(unknown))}")
        maps: dict[int, dict[str, Tensor]] = {stride: {} for stride in wanted}
        running = {stride: plan_strides(stride, self.table) for stride, names in wanted.items() if names}
        for tap, features in self._walk(x, running):
            for stride, names in wanted.items():
                if tap in names:
                    maps[stride][tap] = features[stride]
                    if len(maps[stride]) == len(set(names)):
                        del running[stride]
            if not running:
                break
        return {stride: {name: maps[stride][name] for name in names} for stride, names in wanted.items()}

    def _walk(self, x: Tensor, plans: dict[int, list[list[BlockPlan]]]) -> Iterator[tuple[str, dict[int, Tensor]]]:
        """Yield one tap after the other, by output stride; what is taken out of ``plans`` is not run further."""
        features = dict.fromkeys(plans, self.stem(x))
        yield "stem", features
        for number, (name, blocks) in enumerate(self._blocks()):
            for index, block in enumerate(blocks):
                expanded = _run_each_once(block.expand, {stride: (features[stride],) for stride in plans})
                if name == EXPANSION_STAGE and index == 0:
                    yield f"{name}_expansion", expanded
                given = {stride: (features[stride], expanded[stride], plans[stride][number][index]) for stride in plans}
                features = _run_each_once(block.finish, given)
            yield name, features
        if self.last is not None:
            yield "last", _run_each_once(self.last, {stride: (features[stride],) for stride in plans})

    def _blocks(self) -> Iterator[tuple[str, list[InvertedResidual]]]:
        for name, blocks in self.stages.items():
            yield name, cast(list[InvertedResidual], list(cast(nn.ModuleList, blocks)))

    def _scale(self, channels: int, width: float) -> int:
        return round_channels(channels * width, self.config.round_to, self.config.min_channels)


def _run_each_once(
    run: Callable[..., Tensor], given: Mapping[int, tuple[Tensor | BlockPlan, ...]]
) -> dict[int, Tensor]:
    done: dict[tuple[int | BlockPlan, ...], Tensor] = {}
    results = {}
    for stride, arguments in given.items():
        key = tuple(id(value) if isinstance(value, Tensor) else value for value in arguments)
        if key not in done:
            done[key] = run(*arguments)
        results[stride] = done[key]
    return results
