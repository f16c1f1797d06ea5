"""Generated scenes: textured, rotated, overlapping shapes on a cluttered background, with exact ground truth."""

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from mobilevision.demo.shapes import SHAPES, Outline
from mobilevision.demo.textures import Canvas, mix, paint_background, paint_texture

SPLITS = ("train", "val")
CLASS_NAMES = tuple(SHAPES)
SCENE_SIDE = 160
MAX_OBJECTS = 5
EMPTY_SHARE = 0.05
"""Share of scenes without objects."""
MIN_VISIBLE = 0.6
"""Share of its area that every object shows at least: the rest is beyond the border or covered by later objects."""
RADIUS = (17, 40)
"""Nominal radius of an object, in pixels."""
TYPICAL_SHARE = 0.95
"""Share of a class's objects that have about the class's own hue; the others have any hue."""
HUE_SPREAD = 0.03
SUPERSAMPLING = 4


class Scene(NamedTuple):
    """An image and its ground truth.

    Attributes:
        image: RGB.
        instances: 0 for the background, i + 1 for the visible part of object i.
        labels: The class of every object.
    """

    image: UInt8[np.ndarray, "S S 3"]
    instances: UInt8[np.ndarray, "S S"]
    labels: tuple[int, ...]

    @property
    def mask(self) -> UInt8[np.ndarray, "S S"]:
        """The class of every pixel: 0 for the background, label + 1 for an object."""
        classes = np.array([0, *(label + 1 for label in self.labels)], np.uint8)
        mask: UInt8[np.ndarray, "S S"] = classes[self.instances]
        return mask

    def visible(self, number: int) -> Bool[np.ndarray, "S S"]:
        """Return the visible part of an object."""
        visible: Bool[np.ndarray, "S S"] = self.instances == number + 1
        return visible

    def box(self, number: int) -> tuple[int, int, int, int]:
        """Return the smallest box around the visible part of an object: xyxy in pixels, the far edges exclusive."""
        rows, columns = (np.flatnonzero(self.visible(number).any(axis=axis)) for axis in (1, 0))
        return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def draw_scene(seed: int, split: str, index: int, side: int = SCENE_SIDE) -> Scene:
    """Draw a scene that depends on the arguments alone.

    Shapes are painted one after the other; one that would hide more than ``MIN_VISIBLE`` allows of another, or of
    itself, is left out.

    Args:
        seed: Of all scenes.
        split: ``train`` or ``val``.
        index: Of the scene in its split.
        side: Of the image, in pixels.
    """
    rng = np.random.default_rng((seed, SPLITS.index(split), index))
    canvas = paint_background(side, rng)
    instances = np.zeros((side, side), np.uint8)
    labels: list[int] = []
    whole_areas: list[float] = []
    for _ in range(0 if rng.uniform() < EMPTY_SHARE else rng.integers(1, MAX_OBJECTS + 1)):
        label = int(rng.integers(len(CLASS_NAMES)))
        outline = place_outline(tuple(SHAPES.values())[label](), side, rng)
        cover = rasterize(outline, side)
        covered = np.where(cover >= 0.5, np.uint8(len(labels) + 1), instances)
        areas = [*whole_areas, polygon_area(outline)]
        visible = np.bincount(covered.ravel(), minlength=len(areas) + 1)[1:]
        if np.all(visible >= MIN_VISIBLE * np.asarray(areas)):
            canvas = paint_object(canvas, cover, label, rng)
            instances, whole_areas = covered, areas
            labels.append(label)
    noisy = canvas + rng.uniform(1, 6) * rng.standard_normal(canvas.shape, np.float32)
    return Scene(np.clip(noisy, 0, 255).astype(np.uint8), instances, tuple(labels))


def place_outline(outline: Outline, side: int, rng: np.random.Generator) -> Outline:
    """Rotate, stretch and scale an outline at random and move it to a random place in the scene, in pixels."""
    angle, turn = rng.uniform(0, 2 * np.pi, 2)
    stretch = rng.uniform(0.88, 1.14)
    scaling = np.array([stretch, 1 / stretch]) * rng.uniform(*RADIUS)
    center = rng.uniform(0.08, 0.92, 2) * side
    placed: Outline = (outline @ _rotation(angle).T * scaling) @ _rotation(turn).T + center
    return placed


def rasterize(outline: Outline, side: int) -> Float[np.ndarray, "S S"]:
    """Compute the share of every pixel that the outline covers, in [0, 1]."""
    fine = np.zeros((side * SUPERSAMPLING, side * SUPERSAMPLING), np.uint8)
    # fillPoly takes the centers of pixels, and its corners with 4 binary digits after the point.
    corners = np.round((outline * SUPERSAMPLING - 0.5) * 16).astype(np.int32)
    cv2.fillPoly(fine, [corners], 255, cv2.LINE_8, 4)
    return cv2.resize(fine, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def polygon_area(outline: Outline) -> float:
    """Compute the area of a polygon, in pixels."""
    x, y = outline.T
    return float(abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2)


def paint_object(canvas: Canvas, cover: Float[np.ndarray, "S S"], label: int, rng: np.random.Generator) -> Canvas:
    """Paint a textured object with a bright rim, and a soft shadow below and to the right of it.

    Args:
        canvas: Not changed.
        cover: Share of every pixel that the object covers.
        label: Decides the hue.
        rng: Draws hue and texture.
    """
    typical = rng.uniform() < TYPICAL_SHARE
    hue = label / len(CLASS_NAMES) + rng.normal(0, HUE_SPREAD) if typical else rng.uniform()
    side = cover.shape[0]
    shift = np.array([[1, 0, side / 64], [0, 1, side / 64]], np.float32)
    shadow = cv2.GaussianBlur(cv2.warpAffine(cover, shift, (side, side)), (0, 0), side / 64)
    shaded = canvas * cv2.merge([1 - 0.5 * shadow] * 3)
    inner = cv2.erode(cover, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5)))
    rim = np.full_like(canvas, 245)
    return mix(shaded, mix(rim, paint_texture(side, side, rng, hue), inner), cover)


def _rotation(angle: float) -> Float[np.ndarray, "2 2"]:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
