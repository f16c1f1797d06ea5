"""What of a network stays as it is while the rest is trained, and in which epochs."""

from typing import Literal, NamedTuple

from torch import nn

from mobilevision.backbone.image_network import ImageNetwork


class Freezing(NamedTuple):
    """When the backbone, and the statistics of batch normalisation, are left as they are.

    Attributes:
        backbone_epochs: The backbone is, in this many epochs at the beginning; infinitely many are always.
        norm: Whose statistics are: everything's (True) or the backbone's; nothing's where False.
        norm_from: The first epoch, counted from 0, in which they are.
    """

    backbone_epochs: float = 0
    norm: bool | Literal["backbone"] = False
    norm_from: int = 0

    def holds_backbone(self, epoch: int) -> bool:
        """Say whether the backbone is frozen in an epoch."""
        return epoch < self.backbone_epochs

    def find_still_norms(self, network: ImageNetwork, epoch: int) -> list[nn.BatchNorm2d]:
        """List the normalisations that keep their statistics in an epoch: those of a frozen backbone too."""
        norm = self.norm if epoch >= self.norm_from else False
        if not norm and not self.holds_backbone(epoch):
            return []
        part: nn.Module = network if norm is True else network.backbone
        return [module for module in part.modules() if isinstance(module, nn.BatchNorm2d)]
