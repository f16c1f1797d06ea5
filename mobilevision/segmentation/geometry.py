"""Three sizes and the ways between them: the file's, the network's square, and the map of logits.

An image is fitted into the square - as it is where it fits, scaled down where it does not - with padding below and to
the right. Its logits come back the same way.
"""

from jaxtyping import Float, Int64, UInt8
from torch import Tensor
from torch.nn import functional as F

from mobilevision.backbone.convolution import Padding

Size = tuple[int, int]
"""Height and width, in pixels."""


def fit_size(size: Size, input_size: int) -> Size:
    """Return the size at which an image is put into a square: its own, unless its long side has to shrink.

    >>> fit_size((375, 500), 513), fit_size((1026, 513), 513)
    ((375, 500), (513, 256))
    """
    height, width = size
    scale = min(1.0, input_size / max(size))
    return max(1, round(height * scale)), max(1, round(width * scale))


def fill_size(size: Size, input_size: int) -> Size:
    """Return the size at which an image covers a square: its short side is the square's.

    >>> fill_size((375, 500), 513)
    (513, 684)
    """
    height, width = size
    scale = input_size / min(size)
    return max(input_size, round(height * scale)), max(input_size, round(width * scale))


def upsample_logits(logits: Float[Tensor, "B C h w"], size: Size) -> Float[Tensor, "B C H W"]:
    """Interpolate a map of logits to ``size`` with aligned corners, as DeepLab does for its loss and its prediction."""
    if logits.shape[-2:] == size:
        return logits
    # Class after class in memory: the softmax that follows takes half the time of channels last.
    return F.interpolate(logits.contiguous(), size=size, mode="bilinear", align_corners=True)


def place_logits(
    logits: Float[Tensor, "B C h w"], size: Size, *, output_stride: int, padding: Padding
) -> Float[Tensor, "B C H W"]:
    """Interpolate a map of logits to the pixels of its image, every cell where its center lies.

    On sides that are one more than a multiple of the output stride, as DeepLab's are, that is with aligned corners. On
    others the outermost cells do not lie on the edge, and what is beyond them is like them. A map of ``size`` is placed
    already.

    Args:
        logits: Of an image of ``size``.
        size: Of that image.
        output_stride: Between the cells, in pixels.
        padding: Of the convolutions in between, which shifts the cells of even sides.
    """
    if logits.shape[-2:] == size:
        return logits
    top, left = (find_first_cell(side, output_stride, padding) for side in size)
    height, width = ((cells - 1) * output_stride + 1 for cells in logits.shape[-2:])
    beyond = (left, size[1] - width - left, top, size[0] - height - top)
    return F.pad(upsample_logits(logits, (height, width)), beyond, mode="replicate")


def pad_to_aligned_corners(
    logits: Float[Tensor, "B C h w"], masks: UInt8[Tensor, "B H W"], *, output_stride: int, padding: Padding, fill: int
) -> tuple[Float[Tensor, "B C g v"], UInt8[Tensor, "B G V"]]:
    """Pad a map and the masks of its images until their corners are aligned, with every cell on its pixel.

    Where :func:`place_logits` aligns corners nothing is changed; elsewhere it sees the same logits and masks.

    Args:
        logits: Of images of the masks' size.
        masks: Of these images.
        output_stride: Between the cells, in pixels.
        padding: Of the convolutions in between.
        fill: The value of masks beyond the images.
    """
    beyond_cells: list[int] = []
    beyond_pixels: list[int] = []
    for side, cells in zip(reversed(masks.shape[-2:]), reversed(logits.shape[-2:]), strict=True):
        before = find_first_cell(side, output_stride, padding)
        after = side - 1 - before - (cells - 1) * output_stride
        more = [-(-before // output_stride), -(-after // output_stride)]
        beyond_cells += more
        beyond_pixels += [more[0] * output_stride - before, more[1] * output_stride - after]
    if not any(beyond_cells):
        return logits, masks
    return F.pad(logits, beyond_cells, mode="replicate"), F.pad(masks, beyond_pixels, value=fill)


def reaches_corners(size: Size, cells: Size, *, output_stride: int, padding: Padding) -> bool:
    """Return whether the outermost cells lie on the corners of an image, so that a map is placed by upsampling it."""
    return all(
        find_first_cell(side, output_stride, padding) == 0 and (count - 1) * output_stride + 1 == side
        for side, count in zip(size, cells, strict=True)
    )


def find_first_cell(side: int, output_stride: int, padding: Padding) -> int:
    """Return the pixel in which the center of a map's first cell lies.

    >>> find_first_cell(513, 16, "tf_same"), find_first_cell(320, 16, "tf_same"), find_first_cell(320, 16, "symmetric")
    (0, 15, 0)
    """
    pixel, step = 0, 1
    while step < output_stride and padding == "tf_same":
        # An even side is padded behind only: the first filter's center is the second pixel.
        pixel += step * (side % 2 == 0)
        side, step = -(-side // 2), step * 2
    return pixel


def restore_logits(
    coarse: Float[Tensor, "C h w"],
    input_size: int,
    size: Size,
    *,
    output_stride: int,
    padding: Padding,
    stretched: bool = False,
) -> Float[Tensor, "C H W"]:
    """Return the map of an image in the network's square at the pixels of its file.

    The map is upsampled, its padding cropped, and the scaling of the image undone.

    Args:
        coarse: Logits at the output stride, or at the size of the square.
        input_size: Side of the square.
        size: Of the file.
        output_stride: Between the cells, in pixels.
        padding: Of the convolutions in between.
        stretched: Whether the image was resized to the square whatever its aspect, instead of fitted into it.
    """
    square = input_size, input_size
    content = height, width = square if stretched else fit_size(size, input_size)
    placed = place_logits(coarse[None].float(), square, output_stride=output_stride, padding=padding)
    logits = placed[..., :height, :width]
    if content != size:
        logits = F.interpolate(logits, size=size, mode="bilinear")
    return logits[0]


def pick_classes(logits: Float[Tensor, "C H W"]) -> Int64[Tensor, "H W"]:
    """Return every pixel's best class, the first of equals."""
    # Eight times as fast on a CPU as argmax, which has no kernel of its own for an outer dimension.
    return logits.max(dim=0).indices
