"""Look at a picture at several scales and mirrored, one pass after the other, and average the probabilities.

Reference: Chen et al., "Rethinking Atrous Convolution for Semantic Image Segmentation", 2017, section 4.1; the sizes
and the interpolation are those of TensorFlow's DeepLab.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from mobilevision.segmentation.deeplabv3 import DeepLabV3
from mobilevision.segmentation.geometry import Size, reaches_corners, upsample_logits

PAPER_SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
"""Of the paper's figures with MF, mirrored as well, at output stride 8."""


def scale_size(size: Size, scale: float) -> Size:
    """Give the size of a picture at ``scale``: as its corners keep their places, a side is one more than a length.

    >>> [scale_size((513, 513), scale)[0] for scale in PAPER_SCALES]
    [257, 385, 513, 641, 769, 897]
    """
    height, width = size
    return int((height - 1) * scale + 1), int((width - 1) * scale + 1)


def average_probabilities(
    network: DeepLabV3,
    images: UInt8[Tensor, "B 3 S S"],
    scales: Sequence[float] = PAPER_SCALES,
    *,
    flip: bool = True,
) -> Float[Tensor, "B C S S"]:
    """Give every pixel's probabilities, the mean over the passes.

    Only one pass is in memory at a time, beside the sum.

    Args:
        network: In evaluation mode, at the output stride wanted.
        images: RGB.
        scales: Factors on the side.
        flip: Look at each scale mirrored as well.
    """
    size = images.shape[-2], images.shape[-1]
    total: Tensor | None = None
    for scale in scales:
        scaled = _resize(images, scale_size(size, scale))
        for mirrored in (False, True) if flip else (False,):
            logits = _look(network, scaled.flip(-1) if mirrored else scaled)
            probabilities = upsample_logits(logits.flip(-1) if mirrored else logits, size).softmax(dim=1)
            total = probabilities if total is None else total.add_(probabilities)
    assert total is not None
    return total.div_(len(scales) * (1 + flip))


@contextmanager
def running_at(network: DeepLabV3, output_stride: int) -> Iterator[None]:
    """Run the same weights at another output stride for as long as the block lasts.

    Raises:
        ValueError: ``output_stride`` is not 8, 16 or 32.
    """
    before = network.output_stride
    network.set_output_stride(output_stride)
    try:
        yield
    finally:
        network.set_output_stride(before)


def _resize(images: UInt8[Tensor, "B 3 S S"], size: Size) -> UInt8[Tensor, "B 3 S S"] | Float[Tensor, "B 3 H W"]:
    if size == images.shape[-2:]:
        return images
    return F.interpolate(images.float() / 255, size=size, mode="bilinear", align_corners=True)


def _look(network: DeepLabV3, images: UInt8[Tensor, "B 3 h w"]) -> Float[Tensor, "B C g v"]:
    """Give logits that are placed by enlarging them: those of the map if they are, or else those of every pixel."""
    coarse = network.predict_coarse(images).float()
    size, cells = (images.shape[-2], images.shape[-1]), (coarse.shape[-2], coarse.shape[-1])
    stride, padding = network.output_stride, network.backbone.padding
    fits = reaches_corners(size, cells, output_stride=stride, padding=padding)
    return coarse if fits else network.place(coarse, images)
