"""Draw predictions or ground truth on an image.

Lines and text grow with the image; an image that is too small for legible text is enlarged first.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image, ImageDraw, ImageFont

from mobilevision.segmentation.types import IGNORE_INDEX

Pixels = UInt8[np.ndarray, "H W 3"]
"""An RGB image."""

Color = tuple[int, int, int]

COLORS: tuple[Color, ...] = (
    (240, 60, 45), (45, 85, 245), (40, 215, 60), (255, 195, 45), (210, 0, 255),
    (120, 195, 255), (0, 110, 10), (255, 150, 210), (120, 60, 120), (75, 255, 210),
    (255, 0, 165), (150, 105, 30), (0, 120, 195), (165, 225, 90), (120, 0, 240),
    (225, 135, 45), (0, 135, 120), (165, 0, 30), (165, 120, 225), (90, 180, 105),
)  # fmt: skip
"""Colors that are easy to tell apart, the first ones most of all."""

NUM_BEST = 5
"""Number of classes in a ranking."""

MIN_DRAWN_SIDE = 320
MAX_ENLARGED_SIDE = 1600
MASK_OPACITY = 0.55
GRID_GAP = 8
PANEL_COLOR: Color = (255, 255, 255)
TEXT_COLOR: Color = (25, 25, 25)
BAR_COLOR: Color = (150, 190, 240)


class NamedScores(NamedTuple):
    """A score for every class, and the class names."""

    scores: Float[np.ndarray, " C"]
    class_names: Sequence[str] = ()


class NamedMask(NamedTuple):
    """The class of every pixel, and the class names."""

    mask: UInt8[np.ndarray, "H W"]
    class_names: Sequence[str] = ()


class NamedBoxes(NamedTuple):
    """The arguments of :func:`draw_boxes` behind the image."""

    boxes: Float[np.ndarray, "N 4"]
    labels: Int[np.ndarray, " N"]
    scores: Float[np.ndarray, " N"] | None = None
    class_names: Sequence[str] = ()


def class_color(label: int) -> Color:
    """Return the color of a class, the same in every image; after twenty classes the colors repeat, paler or darker.

    >>> class_color(0), class_color(20)
    ((240, 60, 45), (246, 147, 139))
    """
    turn, index = divmod(label, len(COLORS))
    target, share = (255, 0.45 + 0.1 * (turn // 2)) if turn % 2 else (0, 0.3 + 0.1 * (turn // 2 - 1) if turn else 0.0)
    share = min(share, 0.9)
    red, green, blue = (int(value + share * (target - value)) for value in COLORS[index])
    return red, green, blue


def mask_color(label: int) -> Color:
    """Return the color of a class of a mask: that of the class's boxes, whose labels do not count the background."""
    return class_color(label - 1)


def class_name(label: int, class_names: Sequence[str]) -> str:
    """Return the name of a class, or its number if it has no name."""
    return class_names[label] if label < len(class_names) else str(label)


def draw_classes(image: Pixels, scores: Float[np.ndarray, " C"], class_names: Sequence[str] = ()) -> Pixels:
    """Draw the best classes below an image, each with its score as a bar."""
    return draw_results(image, scores=[NamedScores(scores, class_names)])


def draw_mask(image: Pixels, mask: UInt8[np.ndarray, "H W"], class_names: Sequence[str] = ()) -> Pixels:
    """Draw a mask over its image, and below it a legend of class names and shares of the area, largest first.

    Class 0, the background, stays transparent, as does ``IGNORE_INDEX``.
    """
    return draw_results(image, masks=[NamedMask(mask, class_names)])


def draw_boxes(
    image: Pixels,
    boxes: Float[np.ndarray, "N 4"],
    labels: Int[np.ndarray, " N"],
    scores: Float[np.ndarray, " N"] | None = None,
    class_names: Sequence[str] = (),
) -> Pixels:
    """Draw boxes with class names, and with scores if given; the first box is on top.

    Args:
        image: RGB.
        boxes: xyxy in pixels of ``image``.
        labels: The class of each box.
        scores: The score of each box, in [0, 1].
        class_names: By label.
    """
    canvas, scale = _enlarge(image)
    font = _font(canvas)
    draw = ImageDraw.Draw(canvas)
    width = max(2, round(font.size / 7))
    for index in reversed(range(len(boxes))):
        label = int(labels[index])
        left, top, right, bottom = (float(value) * scale for value in boxes[index])
        corners = (left, top, max(right, left + width), max(bottom, top + width))
        draw.rectangle(corners, outline=class_color(label), width=width)
        score = "" if scores is None else f" {scores[index]:.2f}"
        _draw_tag(draw, class_name(label, class_names) + score, (left, top), class_color(label), font)
    return np.asarray(canvas)


def draw_results(
    image: Pixels,
    *,
    scores: Sequence[NamedScores] = (),
    masks: Sequence[NamedMask] = (),
    boxes: Sequence[NamedBoxes] = (),
) -> Pixels:
    """Draw results of several heads: masks over the image, boxes on top, legends and the best classes below.

    Args:
        image: RGB.
        scores: Class scores of the image.
        masks: The class of every pixel of ``image``.
        boxes: xyxy in pixels of ``image``, with their classes.
    """
    drawn = image
    for mask in masks:
        drawn = _blend(drawn, mask.mask)
    for found in boxes:
        drawn = draw_boxes(drawn, found.boxes * (drawn.shape[0] / image.shape[0]), *found[1:])
    canvas, _ = _enlarge(drawn)
    font, parts = _font(canvas), [canvas]
    parts += [_draw_legend(mask, canvas.width, font) for mask in masks]
    parts += [_draw_ranking(named, canvas.width, font) for named in scores]
    return np.concatenate([np.asarray(part) for part in parts])


def draw_outlines(image: Pixels, boxes: Float[np.ndarray, "N 4"], labels: Int[np.ndarray, " N"]) -> Pixels:
    """Draw boxes one pixel wide and without names.

    Args:
        image: RGB.
        boxes: xyxy in pixels of ``image``.
        labels: The class of each box.
    """
    canvas = Image.fromarray(image)
    draw = ImageDraw.Draw(canvas)
    for label, (left, top, right, bottom) in zip(labels.tolist(), boxes.tolist(), strict=True):
        draw.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=class_color(label))
    return np.asarray(canvas)


def contact_sheet(images: Sequence[Pixels], *, columns: int = 4, side: int = 320) -> Pixels:
    """Place images in the square cells of a grid, row by row, each resized to fit its cell.

    Args:
        images: One at least.
        columns: Cells in a row, at most.
        side: Of a cell, in pixels.
    """
    cells = [_fit_into_square(image, side) for image in images]
    return stack_grid([cells[start : start + columns] for start in range(0, len(cells), columns)])


def stack_grid(rows: Sequence[Sequence[Pixels]]) -> Pixels:
    """Place images in rows on white, each at the top left of its cell."""
    heights = [max(image.shape[0] for image in row) for row in rows]
    pitch = max(image.shape[1] for row in rows for image in row) + GRID_GAP
    size = sum(heights) + GRID_GAP * (len(rows) + 1), pitch * max(map(len, rows)) + GRID_GAP
    grid = np.full((*size, 3), PANEL_COLOR, np.uint8)
    top = GRID_GAP
    for row, row_height in zip(rows, heights, strict=True):
        for column, image in enumerate(row):
            left = GRID_GAP + column * pitch
            grid[top : top + image.shape[0], left : left + image.shape[1]] = image
        top += row_height + GRID_GAP
    return grid


def index_mask(mask: UInt8[np.ndarray, "H W"]) -> Image.Image:
    """Return a palette image whose pixels are the mask's class numbers and whose palette has the classes' colors.

    The background is black.
    """
    indexed = Image.fromarray(mask)
    indexed.putpalette([0, 0, 0, *(value for label in range(1, 256) for value in mask_color(label))])
    return indexed


def _blend(image: Pixels, mask: UInt8[np.ndarray, "H W"]) -> Pixels:
    opacity = np.where(_edges(mask), 1.0, MASK_OPACITY).astype(np.float32) * _is_shown(mask)
    colors = np.array([mask_color(label) for label in range(256)], np.float32)
    blended = image + opacity[..., None] * (colors[mask] - image)
    return np.asarray(blended.round(), np.uint8)


def _is_shown(mask: UInt8[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    shown: Bool[np.ndarray, "H W"] = (mask > 0) & (mask != IGNORE_INDEX)
    return shown


def _edges(mask: UInt8[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """Return which pixels have a neighbor of another class."""
    edges = np.zeros(mask.shape, bool)
    across, down = mask[:, 1:] != mask[:, :-1], mask[1:] != mask[:-1]
    edges[:, 1:] |= across
    edges[:, :-1] |= across
    edges[1:] |= down
    edges[:-1] |= down
    return edges


def _draw_ranking(named: NamedScores, width: int, font: ImageFont.FreeTypeFont) -> Image.Image:
    line, column = round(font.size * 1.5), round(font.size * 3.3)
    best = np.argsort(-named.scores, kind="stable")[:NUM_BEST]
    panel = Image.new("RGB", (width, line * len(best) + line // 2), PANEL_COLOR)
    draw = ImageDraw.Draw(panel)
    for row, label in enumerate(best):
        top, score = line * row + line // 4, float(named.scores[label])
        draw.rectangle((0, top, round(score * width), top + line - 3), fill=BAR_COLOR)
        draw.text((column, top + line // 2), f"{score:.1%}", fill=TEXT_COLOR, font=font, anchor="rm")
        name = class_name(int(label), named.class_names)
        draw.text((column + font.size // 2, top + line // 2), name, fill=TEXT_COLOR, font=font, anchor="lm")
    return panel


def _draw_legend(named: NamedMask, width: int, font: ImageFont.FreeTypeFont) -> Image.Image:
    line, gap = round(font.size * 1.6), round(font.size / 2)
    labels, counts = np.unique(named.mask[_is_shown(named.mask)], return_counts=True)
    panel = Image.new("RGB", (width, line * (len(labels) + 1)), PANEL_COLOR)
    draw = ImageDraw.Draw(panel)
    x, y = gap, 0
    for index in np.argsort(-counts, kind="stable"):
        label = int(labels[index])
        text = f"{class_name(label, named.class_names)} {counts[index] / named.mask.size:.0%}"
        needed = line + round(font.getlength(text)) + gap
        if x > gap and x + needed > width:
            x, y = gap, y + line
        draw.rectangle((x, y + line // 4, x + line // 2, y + line * 3 // 4), fill=mask_color(label))
        draw.text((x + line * 3 // 4, y + line // 2), text, fill=TEXT_COLOR, font=font, anchor="lm")
        x += needed
    return panel.crop((0, 0, width, y + line))


def _draw_tag(
    draw: ImageDraw.ImageDraw, text: str, corner: tuple[float, float], color: Color, font: ImageFont.FreeTypeFont
) -> None:
    """Write on a filled background above ``corner``, or below it if there is no room, and within the image."""
    image_width, image_height = draw.im.size
    width, height = font.getlength(text) + font.size // 2, round(font.size * 1.25)
    x = min(max(corner[0], 0.0), max(image_width - width, 0.0))
    y = corner[1] - height if corner[1] >= height else min(max(corner[1], 0.0), image_height - height)
    draw.rectangle((x, y, x + width, y + height), fill=color)
    luminance = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]
    letters = (0, 0, 0) if luminance > 140 else (255, 255, 255)
    draw.text((x + font.size // 4, y + height / 2), text, fill=letters, font=font, anchor="lm")


def _enlarge(image: Pixels) -> tuple[Image.Image, float]:
    canvas = Image.fromarray(image)
    scale = max(1.0, min(MIN_DRAWN_SIDE / min(canvas.size), MAX_ENLARGED_SIDE / max(canvas.size)))
    if scale == 1.0:
        return canvas, scale
    return canvas.resize((round(canvas.width * scale), round(canvas.height * scale)), Image.Resampling.BICUBIC), scale


def _fit_into_square(image: Pixels, side: int) -> Pixels:
    scale = side / max(image.shape[:2])
    height, width = (max(1, round(length * scale)) for length in image.shape[:2])
    square = Image.new("RGB", (side, side), PANEL_COLOR)
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS)
    square.paste(resized, ((side - width) // 2, (side - height) // 2))
    return np.asarray(square)


def _font(canvas: Image.Image) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(max(14, round(min(canvas.size) / 24)))
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font
