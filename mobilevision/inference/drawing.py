"""Draw what a network found, or what is true, on its picture.

Lines and letters grow with the picture; one that is too small to read letters on is enlarged first.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image, ImageDraw, ImageFont

from mobilevision.segmentation.types import IGNORE_INDEX

Picture = UInt8[np.ndarray, "H W 3"]
Color = tuple[int, int, int]

COLORS: tuple[Color, ...] = (
    (240, 60, 45), (45, 85, 245), (40, 215, 60), (255, 195, 45), (210, 0, 255),
    (120, 195, 255), (0, 110, 10), (255, 150, 210), (120, 60, 120), (75, 255, 210),
    (255, 0, 165), (150, 105, 30), (0, 120, 195), (165, 225, 90), (120, 0, 240),
    (225, 135, 45), (0, 135, 120), (165, 0, 30), (165, 120, 225), (90, 180, 105),
)  # fmt: skip
"""Far apart from one another to the eye, the first ones furthest."""

NUM_BEST = 5
"""Classes that are listed."""

MIN_SIDE = 320
MAX_ENLARGED_SIDE = 1600
MASK_OPACITY = 0.55
SHEET_GAP = 8
PANEL_COLOR: Color = (255, 255, 255)
TEXT_COLOR: Color = (25, 25, 25)
BAR_COLOR: Color = (150, 190, 240)


class Scores(NamedTuple):
    """What a picture shows: a score for every class, and their names."""

    scores: Float[np.ndarray, " C"]
    class_names: Sequence[str] = ()


class Mask(NamedTuple):
    """What every pixel shows, and the names of the classes."""

    mask: UInt8[np.ndarray, "H W"]
    class_names: Sequence[str] = ()


class Boxes(NamedTuple):
    """Where objects are, as :func:`draw_boxes` takes it."""

    boxes: Float[np.ndarray, "N 4"]
    labels: Int[np.ndarray, " N"]
    scores: Float[np.ndarray, " N"] | None = None
    class_names: Sequence[str] = ()


def class_color(label: int) -> Color:
    """Give the colour of a class: the same in every picture; after twenty they come again, ever paler or darker.

    >>> class_color(0), class_color(20)
    ((240, 60, 45), (246, 147, 139))
    """
    turn, index = divmod(label, len(COLORS))
    target, share = (255, 0.45 + 0.1 * (turn // 2)) if turn % 2 else (0, 0.3 + 0.1 * (turn // 2 - 1) if turn else 0.0)
    share = min(share, 0.9)
    red, green, blue = (int(value + share * (target - value)) for value in COLORS[index])
    return red, green, blue


def mask_color(label: int) -> Color:
    """Give the colour of a mask's class: that of an object's box, which counts without the background."""
    return class_color(label - 1)


def class_name(label: int, class_names: Sequence[str]) -> str:
    """Give the name of a class, or its number where there are no names."""
    return class_names[label] if label < len(class_names) else str(label)


def draw_classes(image: Picture, scores: Float[np.ndarray, " C"], class_names: Sequence[str] = ()) -> Picture:
    """List the best classes below a picture, each with its score as a bar."""
    canvas, _ = _enlarge(image)
    return _stack(canvas, _ranking(scores, class_names, canvas.width, _font(canvas)))


def _ranking(
    scores: Float[np.ndarray, " C"], class_names: Sequence[str], width: int, font: ImageFont.FreeTypeFont
) -> Image.Image:
    line, column = round(font.size * 1.5), round(font.size * 3.3)
    best = np.argsort(-scores, kind="stable")[:NUM_BEST]
    panel = Image.new("RGB", (width, line * len(best) + line // 2), PANEL_COLOR)
    draw = ImageDraw.Draw(panel)
    for row, label in enumerate(best):
        top, score = line * row + line // 4, float(scores[label])
        draw.rectangle((0, top, round(score * width), top + line - 3), fill=BAR_COLOR)
        draw.text((column, top + line // 2), f"{score:.1%}", fill=TEXT_COLOR, font=font, anchor="rm")
        name = class_name(int(label), class_names)
        draw.text((column + font.size // 2, top + line // 2), name, fill=TEXT_COLOR, font=font, anchor="lm")
    return panel


def draw_boxes(
    image: Picture,
    boxes: Float[np.ndarray, "N 4"],
    labels: Int[np.ndarray, " N"],
    scores: Float[np.ndarray, " N"] | None = None,
    class_names: Sequence[str] = (),
) -> Picture:
    """Draw boxes with names, and scores where there are any; the first box ends on top.

    Args:
        image: RGB.
        boxes: xyxy in pixels of ``image``.
        labels: Class of each box.
        scores: Score of each box, in [0, 1].
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


def draw_mask(image: Picture, mask: UInt8[np.ndarray, "H W"], class_names: Sequence[str] = ()) -> Picture:
    """Lay the classes of a mask over their picture, with a legend of their names and shares below, largest first.

    Class 0, the background, stays clear; so does ``IGNORE_INDEX``.
    """
    canvas, _ = _enlarge(_blend(image, mask))
    return _stack(canvas, _mask_legend(mask, class_names, canvas.width, _font(canvas)))


def draw_answers(
    image: Picture,
    *,
    scores: Scores | None = None,
    mask: Mask | None = None,
    boxes: Boxes | None = None,
) -> Picture:
    """Draw several answers on one picture: its mask over it, its boxes on top, a legend and the best classes below.

    Args:
        image: RGB.
        scores: Of the classes of the picture.
        mask: Class of every pixel.
        boxes: Of the objects.
    """
    drawn = image if mask is None else _blend(image, mask.mask)
    if boxes is not None:
        drawn = draw_boxes(drawn, *boxes)
    canvas, _ = _enlarge(drawn)
    font, stacked = _font(canvas), np.asarray(canvas)
    if mask is not None:
        stacked = _stack(Image.fromarray(stacked), _mask_legend(*mask, canvas.width, font))
    if scores is not None:
        stacked = _stack(Image.fromarray(stacked), _ranking(*scores, canvas.width, font))
    return stacked


def draw_outlines(image: Picture, boxes: Float[np.ndarray, "N 4"], labels: Int[np.ndarray, " N"]) -> Picture:
    """Draw boxes one pixel wide and without names.

    Args:
        image: RGB.
        boxes: xyxy in pixels of ``image``.
        labels: Class of each box.
    """
    canvas = Image.fromarray(image)
    draw = ImageDraw.Draw(canvas)
    for label, (left, top, right, bottom) in zip(labels.tolist(), boxes.tolist(), strict=True):
        draw.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=class_color(label))
    return np.asarray(canvas)


def contact_sheet(pictures: Sequence[Picture], *, columns: int = 4, side: int = 320) -> Picture:
    """Put pictures into the cells of a grid, row by row, each as large as its cell allows.

    Args:
        pictures: One at least.
        columns: Cells in a row, at most.
        side: Of a cell, in pixels.
    """
    columns = min(columns, len(pictures))
    pitch = side + SHEET_GAP
    size = columns * pitch + SHEET_GAP, -(-len(pictures) // columns) * pitch + SHEET_GAP
    sheet = Image.new("RGB", size, PANEL_COLOR)
    for index, picture in enumerate(pictures):
        cell = Image.fromarray(picture)
        scale = side / max(cell.size)
        cell = cell.resize([max(1, round(length * scale)) for length in cell.size], Image.Resampling.LANCZOS)
        row, column = divmod(index, columns)
        left, top = (SHEET_GAP + place * pitch for place in (column, row))
        sheet.paste(cell, (left + (side - cell.width) // 2, top + (side - cell.height) // 2))
    return np.asarray(sheet)


def index_mask(mask: UInt8[np.ndarray, "H W"]) -> Image.Image:
    """Make a picture whose pixels are the mask's numbers and whose palette has their colours, the background black."""
    indexed = Image.fromarray(mask)
    indexed.putpalette([0, 0, 0, *(value for label in range(1, 256) for value in mask_color(label))])
    return indexed


def _blend(image: Picture, mask: UInt8[np.ndarray, "H W"]) -> Picture:
    opacity = np.where(_edges(mask), 1.0, MASK_OPACITY).astype(np.float32) * _is_shown(mask)
    colors = np.array([mask_color(label) for label in range(256)], np.float32)
    blended = image + opacity[..., None] * (colors[mask] - image)
    return np.asarray(blended.round(), np.uint8)


def _is_shown(mask: UInt8[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    shown: Bool[np.ndarray, "H W"] = (mask > 0) & (mask != IGNORE_INDEX)
    return shown


def _mask_legend(
    mask: UInt8[np.ndarray, "H W"], class_names: Sequence[str], width: int, font: ImageFont.FreeTypeFont
) -> Image.Image:
    labels, counts = np.unique(mask[_is_shown(mask)], return_counts=True)
    entries = [
        (mask_color(int(labels[i])), f"{class_name(int(labels[i]), class_names)} {counts[i] / mask.size:.0%}")
        for i in np.argsort(-counts, kind="stable")
    ]
    return _legend(entries, width, font)


def _legend(entries: Iterable[tuple[Color, str]], width: int, font: ImageFont.FreeTypeFont) -> Image.Image:
    line, gap = round(font.size * 1.6), round(font.size / 2)
    places: list[tuple[int, int, Color, str]] = []
    x, row = gap, 0
    for color, text in entries:
        needed = line + round(font.getlength(text)) + gap
        if x > gap and x + needed > width:
            x, row = gap, row + 1
        places.append((x, row * line, color, text))
        x += needed
    panel = Image.new("RGB", (width, (row + 1) * line), PANEL_COLOR)
    draw = ImageDraw.Draw(panel)
    for x, y, color, text in places:
        draw.rectangle((x, y + line // 4, x + line // 2, y + line * 3 // 4), fill=color)
        draw.text((x + line * 3 // 4, y + line // 2), text, fill=TEXT_COLOR, font=font, anchor="lm")
    return panel


def _draw_tag(
    draw: ImageDraw.ImageDraw, text: str, corner: tuple[float, float], color: Color, font: ImageFont.FreeTypeFont
) -> None:
    """Write on a filled ground above ``corner``, or below it where there is no room, and within the picture."""
    picture_width, picture_height = draw.im.size
    width, height = font.getlength(text) + font.size // 2, round(font.size * 1.25)
    x = min(max(corner[0], 0.0), max(picture_width - width, 0.0))
    y = corner[1] - height if corner[1] >= height else min(max(corner[1], 0.0), picture_height - height)
    draw.rectangle((x, y, x + width, y + height), fill=color)
    luminance = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]
    letters = (0, 0, 0) if luminance > 140 else (255, 255, 255)
    draw.text((x + font.size // 4, y + height / 2), text, fill=letters, font=font, anchor="lm")


def _edges(mask: UInt8[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W"]:
    edges = np.zeros(mask.shape, bool)
    across, down = mask[:, 1:] != mask[:, :-1], mask[1:] != mask[:-1]
    edges[:, 1:] |= across
    edges[:, :-1] |= across
    edges[1:] |= down
    edges[:-1] |= down
    return edges


def _enlarge(image: Picture) -> tuple[Image.Image, float]:
    canvas = Image.fromarray(image)
    scale = max(1.0, min(MIN_SIDE / min(canvas.size), MAX_ENLARGED_SIDE / max(canvas.size)))
    if scale == 1.0:
        return canvas, scale
    return canvas.resize((round(canvas.width * scale), round(canvas.height * scale)), Image.Resampling.BICUBIC), scale


def _font(canvas: Image.Image) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(max(14, round(min(canvas.size) / 24)))
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font


def _stack(canvas: Image.Image, panel: Image.Image) -> Picture:
    stacked = Image.new("RGB", (canvas.width, canvas.height + panel.height))
    stacked.paste(canvas, (0, 0))
    stacked.paste(panel, (0, canvas.height))
    return np.asarray(stacked)
