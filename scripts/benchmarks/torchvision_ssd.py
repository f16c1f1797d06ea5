"""The same detector put together from torchvision's parts: SSD, SSDLite's head, matcher, loss and selection."""

from collections import OrderedDict
from functools import partial

from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.ssdlite import SSDLiteHead

from mobilevision.detection.anchors import anchor_shapes
from mobilevision.detection.boxes import cxcywh_to_xyxy
from mobilevision.network import Network


class SixMaps(nn.Module):
    """The backbone and the extra layers of a detector, as the feature extractor that SSD wants."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.backbone, self.head = network.backbone, network.head
        # SSD has predictors of its own.
        self.head.class_predictors = self.head.box_predictors = nn.ModuleList()

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        """Return the maps of normalized images by name."""
        taps = self.backbone(images, self.head.taps).values()
        return OrderedDict((str(index), maps) for index, maps in enumerate(self.head.extract(*taps)))


class SameAnchors(nn.Module):
    """A detector's anchors for every image, where SSD has a generator."""

    def __init__(self, anchors: Tensor) -> None:
        super().__init__()
        self.boxes = cxcywh_to_xyxy(anchors)

    def num_anchors_per_location(self) -> list[int]:
        """Return the number of anchors at each place of each map."""
        return [len(shapes) for shapes in anchor_shapes(6)]

    def forward(self, images: ImageList, maps: list[Tensor]) -> list[Tensor]:
        """Return the anchors as xyxy."""
        return [self.boxes] * len(images.image_sizes)


def torchvision_ssd(network: Network, **options: object) -> SSD:
    """Build the peer on the layers of a detector, which is changed by this.

    Args:
        network: Its backbone and extra layers are used; its predictors are replaced.
        options: Of torchvision's SSD.
    """
    channels = [predictor.depthwise.conv.in_channels for predictor in network.head.class_predictors]
    generator = SameAnchors(network.head.anchors)
    num_classes = network.head.num_classes + 1
    norm = partial(nn.BatchNorm2d, eps=1e-3, momentum=0.03)
    head = SSDLiteHead(channels, generator.num_anchors_per_location(), num_classes, norm)
    mean, std = (values.tolist() for values in (network.normalization.mean, network.normalization.std))
    size = (network.input_size, network.input_size)
    return SSD(
        SixMaps(network),
        generator,
        size,
        num_classes,
        image_mean=mean,
        image_std=std,
        head=head,
        **options,
    )
