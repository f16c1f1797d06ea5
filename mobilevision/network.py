"""A network: normalization, one backbone, and a head for each question that is asked of an image."""

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self, cast

import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor, nn

from mobilevision.backbone.mobilenet_v2 import BackboneConfig, MobileNetV2
from mobilevision.backbone.normalization import SYMMETRIC_MEAN, SYMMETRIC_STD, Normalization, check_range
from mobilevision.head import Head
from mobilevision.options import split_options

Images = UInt8[Tensor, "B 3 H W"] | Float[Tensor, "B 3 H W"]
"""RGB, uint8 in [0, 255] or floats in [0, 1]."""


class Network(nn.Module):
    """Heads on one backbone: an image goes through the backbone once, however many heads read it.

    Its weights are in channels_last memory format.

    Args:
        backbone: Has the taps that the heads read.
        heads: At least one, by name. A name may be that of its task, or any other.
        normalization: Applied to the images first.

    Raises:
        ValueError: There are no heads, or heads with anchors are made for different sizes.
    """

    head_class: ClassVar[type[Head]]
    """The class of the only head, of a network for one task."""
    backbone_defaults: ClassVar[BackboneConfig] = BackboneConfig()

    def __init__(
        self, backbone: MobileNetV2, heads: Mapping[str, Head], normalization: Normalization | None = None
    ) -> None:
        super().__init__()
        sizes = {name: head.input_size for name, head in heads.items() if head.fixed_size}
        if not heads or len(set(sizes.values())) > 1:
            raise ValueError(f"heads must be at least one, those with anchors of one input_size, got {sizes}")
        self._range_checked = False
        self.normalization = normalization or Normalization()
        self.backbone = backbone
        self.heads = nn.ModuleDict(heads)
        # The one place where this is done: convolutions on a CPU are up to three times as fast.
        self.to(memory_format=torch.channels_last)

    @classmethod
    def from_options(
        cls, *, mean: Sequence[float] = SYMMETRIC_MEAN, std: Sequence[float] = SYMMETRIC_STD, **options: Any
    ) -> Self:
        """Build a network for one task with randomly initialized weights.

        Args:
            mean: Of the pixels, for red, green and blue in [0, 1].
            std: Standard deviation of the pixels, for red, green and blue in [0, 1].
            options: Fields of :class:`BackboneConfig` and of the head's config.

        Raises:
            ValueError: An unknown option, or a value that is not allowed.
        """
        head_class = cls.head_class
        backbone_options, head_options = split_options(
            cls.expand_options(options), BackboneConfig, head_class.config_class
        )
        backbone = MobileNetV2(cls.backbone_defaults, last="last" in head_class.taps, **backbone_options)
        head = head_class(backbone, head_class.config_class(**head_options))
        return cls(backbone, {head_class.task: head}, Normalization(mean, std))

    @classmethod
    def expand_options(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return options in which those that stand for several others are replaced by these."""
        return dict(options)

    @property
    def named_heads(self) -> dict[str, Head]:
        """The heads by name."""
        return {name: cast(Head, head) for name, head in self.heads.items()}

    @property
    def head(self) -> Head:
        """The only head.

        Raises:
            ValueError: There are several.
        """
        if len(self.heads) != 1:
            # An AttributeError would be replaced by nn.Module's own.
            raise ValueError(f"the network has several heads: use heads[name], one of {', '.join(self.heads)}")
        return next(iter(self.named_heads.values()))

    @property
    def input_size(self) -> int:
        """The side of the images it is made for, in pixels: that of its anchors if it has some, else the largest."""
        heads = self.named_heads.values()
        return max((head.input_size for head in heads if head.fixed_size), default=max(h.input_size for h in heads))

    def forward(self, images: Images, heads: Iterable[str] | None = None) -> Any:
        """Return what the field expects of a network: logits, a detector's offsets and logits, logits of every pixel.

        Args:
            images: RGB, uint8 in [0, 255] or floats in [0, 1]; of ``input_size`` where a head has anchors.
            heads: Names of the heads to run; all where None.

        Returns:
            The output of the only head, or outputs by name where the network has several heads.

        Raises:
            ValueError: An unknown head, images of a size that there are no anchors for, of integers other than uint8,
                or floats outside of [0, 1], which is looked at in the first batch.
        """
        size = images.shape[-2], images.shape[-1]
        outputs = self.compute(images, heads)
        outputs = {name: self.named_heads[name].upsample(output, size) for name, output in outputs.items()}
        return outputs if len(self.heads) > 1 else next(iter(outputs.values()))

    def compute(self, images: Images, heads: Iterable[str] | None = None) -> dict[str, Any]:
        """Return what the losses take, by head: a segmenter's logits are those at its output stride.

        Args:
            images: As in :meth:`forward`.
            heads: As in :meth:`forward`.

        Raises:
            ValueError: As in :meth:`forward`.
        """
        chosen = self._choose(heads)
        _check_size(images, chosen)
        features = self._compute_features(images, chosen)
        return {name: head(*features[name]) for name, head in chosen.items()}

    def extract_feat(self, images: Images) -> tuple[Tensor, ...]:
        """Return the feature maps that the heads read, head by head, for use in another project."""
        chosen = self.named_heads
        _check_size(images, chosen)
        features = self._compute_features(images, chosen)
        return tuple(feature for name, head in chosen.items() for feature in head.extract(*features[name]))

    def with_output_stride(self, output_stride: int) -> Self:
        """Return a network of the same parameters whose heads read the backbone at another output stride.

        Raises:
            ValueError: ``output_stride`` is not 8, 16 or 32, or a head is made for one output stride only.
        """
        other = copy.copy(self)
        other._modules = dict(self._modules)
        other.heads = nn.ModuleDict(
            {name: head.with_output_stride(output_stride) for name, head in self.named_heads.items()}
        )
        return other

    def _compute_features(self, images: Images, heads: Mapping[str, Head]) -> dict[str, tuple[Tensor, ...]]:
        # Once, since it waits for the device; subclasses of tensors stand for others while a program is recorded.
        if not self._range_checked and type(images) is Tensor and not torch.compiler.is_compiling():
            check_range(images)
            self._range_checked = images.is_floating_point()
        taps: dict[int, dict[str, None]] = {}
        for head in heads.values():
            taps.setdefault(head.output_stride, {}).update(dict.fromkeys(head.taps))
        maps = self.backbone.forward_strides(self.normalization(images), taps)
        return {name: tuple(maps[head.output_stride][tap] for tap in head.taps) for name, head in heads.items()}

    def _choose(self, heads: Iterable[str] | None) -> dict[str, Head]:
        known = self.named_heads
        names = tuple(known if heads is None else heads)
        if not names or not set(names) <= set(known):
            raise ValueError(f"heads must be among {', '.join(known)}, got {', '.join(names) or 'none'}")
        return {name: known[name] for name in names}


def _check_size(images: Shaped[Tensor, "B 3 H W"], heads: Mapping[str, Head]) -> None:
    height, width = images.shape[-2:]
    for head in heads.values():
        if head.fixed_size and (height, width) != (head.input_size, head.input_size):
            raise ValueError(f"images must be {head.input_size}x{head.input_size} pixels, got {width}x{height}")
