"""Multi-scale evaluation: average the probabilities of passes at several scales and mirrored.

Reference: Chen et al., "Rethinking Atrous Convolution for Semantic Image Segmentation", 2017, section 4.1; the sizes
and the interpolation are those of TensorFlow's DeepLab.
"""

from collections.abc import Sequence

from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from mobilevision.network import Network
from mobilevision.segmentation.geometry import Size, reaches_corners, upsample_logits

PAPER_SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
"""The scales of the paper's figures with MF, mirrored as well, at output stride 8."""


def scale_size(size: Size, scale: float) -> Size:
    """Return the size of an image at ``scale``: as its corners keep their places, a side is one more than a length.

    >>> [scale_size((513, 513), scale)[0] for scale in PAPER_SCALES]
    [257, 385, 513, 641, 769, 897]
    """
    height, width = size
    return int((height - 1) * scale + 1), int((width - 1) * scale + 1)


def average_probabilities(
    network: Network,
    images: UInt8[Tensor, "B 3 S S"],
    scales: Sequence[float] = PAPER_SCALES,
    *,
    flip: bool = True,
) -> Float[Tensor, "B C S S"]:
    """Return every pixel's probabilities, the mean over the passes.

    Only one pass is in memory at a time, beside the sum.

    Args:
        network: With one head, in evaluation mode, at the output stride wanted.
        images: RGB.
        scales: Factors on the side.
        flip: Whether each scale is also run mirrored.
    """
    size = images.shape[-2], images.shape[-1]
    total: Tensor | None = None
    for scale in scales:
        scaled = _resize(images, scale_size(size, scale))
        for mirrored in (False, True) if flip else (False,):
            logits = _run(network, scaled.flip(-1) if mirrored else scaled)
            probabilities = upsample_logits(logits.flip(-1) if mirrored else logits, size).softmax(dim=1)
            total = probabilities if total is None else total.add_(probabilities)
    assert total is not None
    return total.div_(len(scales) * (1 + flip))


def _resize(images: UInt8[Tensor, "B 3 S S"], size: Size) -> UInt8[Tensor, "B 3 S S"] | Float[Tensor, "B 3 H W"]:
    if size == images.shape[-2:]:
        return images
    return F.interpolate(images.float() / 255, size=size, mode="bilinear", align_corners=True)


def _run(network: Network, images: UInt8[Tensor, "B 3 h w"]) -> Float[Tensor, "B C g v"]:
    """Return logits that are placed by enlarging them: those of the map if they are, or else those of every pixel."""
    (coarse,) = network.compute(images).values()
    size, cells = (images.shape[-2], images.shape[-1]), (coarse.shape[-2], coarse.shape[-1])
    stride, padding = network.head.output_stride, network.backbone.config.padding
    fits = reaches_corners(size, cells, output_stride=stride, padding=padding)
    logits: Tensor = coarse.float() if fits else network.head.upsample(coarse.float(), size)
    return logits
