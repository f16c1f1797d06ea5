"""Mixup and CutMix of a training batch."""

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor
from torchvision.transforms import v2

MAX_PIXEL = 255


class Mixing:
    """Blend of every image with its neighbor in the batch (Mixup), or paste of a part of the neighbor (CutMix).

    Where both are asked for, every batch gets one of the two, each as often as the other. The batch is expected in
    random order. The randomness comes from torch's generator on the CPU.

    Args:
        mixup_alpha: Both parameters of the Beta distribution of Mixup's shares; 0 is no Mixup.
        cutmix_alpha: Both parameters of the Beta distribution of CutMix's shares; 0 is no CutMix.

    Raises:
        ValueError: A parameter is negative.

    Reference: Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018; Yun et al., "CutMix", ICCV 2019.
    """

    def __init__(self, *, mixup_alpha: float = 0.0, cutmix_alpha: float = 0.0) -> None:
        self.ways: list[tuple[type[v2.MixUp] | type[v2.CutMix], float]] = []
        for name, alpha, way in (("mixup", mixup_alpha, v2.MixUp), ("cutmix", cutmix_alpha, v2.CutMix)):
            if alpha < 0:
                raise ValueError(f"{name}_alpha must be at least 0, got {alpha}")
            if alpha > 0:
                self.ways.append((way, alpha))

    def __call__(
        self, images: UInt8[Tensor, "B 3 H W"], labels: Int64[Tensor, " B"], num_classes: int
    ) -> tuple[UInt8[Tensor, "B 3 H W"] | Float[Tensor, "B 3 H W"], Int64[Tensor, " B"] | Float[Tensor, "B C"]]:
        """Return mixed images in [0, 1] and a distribution over the classes for each; both unchanged if none is on."""
        if not self.ways:
            return images, labels
        way, alpha = self.ways[int(torch.randint(len(self.ways), ()))]
        mixed, targets = way(alpha=alpha, num_classes=num_classes)(images.float() / MAX_PIXEL, labels)
        return mixed.contiguous(memory_format=torch.channels_last), targets
