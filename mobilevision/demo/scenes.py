"""Drawn scenes: textured, turned, overlapping shapes on clutter, with exact truth."""

from typing import Literal, NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from mobilevision.demo.shapes import SHAPES, Outline
from mobilevision.demo.textures import Picture, mix, paint_background, paint_texture

Split = Literal["train", "val"]

CLASS_NAMES = tuple(SHAPES)
SCENE_SIDE = 160
MAX_OBJECTS = 5
EMPTY_SHARE = 0.05
"""The share of scenes without any object."""
MIN_VISIBLE = 0.6
"""Every object shows at least this share of itself: not more is cut off by the border or covered by later ones."""
RADIUS = (17, 40)
"""Nominal radius of an object, in pixels."""
TYPICAL_SHARE = 0.95
"""The share of a class's objects that are of about its own hue, as most things of a kind are; the others are of any."""
HUE_SPREAD = 0.03
SUPERSAMPLING = 4


class Scene(NamedTuple):
    """A picture and what is in it. All objects that are drawn are in the truth."""

    image: UInt8[np.ndarray, "S S 3"]
    instances: UInt8[np.ndarray, "S S"]
    """0 is background, i + 1 the visible part of object i."""
    labels: tuple[int, ...]
    """The class of every object."""


def draw_scene(seed: int, split: Split, index: int, side: int = SCENE_SIDE) -> Scene:
    """Draw one scene, a function of the arguments alone.

    Shapes are laid down one after the other; one that would hide another, or itself, by more than ``MIN_VISIBLE``
    allows is left out.
    """
    rng = np.random.default_rng((seed, ("train", "val").index(split), index))
    picture = paint_background(side, rng)
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
            picture = lay_down(picture, cover, label, rng)
            instances, whole_areas = covered, areas
            labels.append(label)
    noisy = picture + rng.uniform(1, 6) * rng.standard_normal(picture.shape, np.float32)
    return Scene(np.clip(noisy, 0, 255).astype(np.uint8), instances, tuple(labels))


def place_outline(outline: Outline, side: int, rng: np.random.Generator) -> Outline:
    """Turn, stretch and size an outline, and put it somewhere in the scene, in pixels."""
    angle, turn = rng.uniform(0, 2 * np.pi, 2)
    stretch = rng.uniform(0.88, 1.14)
    scaling = np.array([stretch, 1 / stretch]) * rng.uniform(*RADIUS)
    centre = rng.uniform(0.08, 0.92, 2) * side
    placed: Outline = (outline @ _rotation(angle).T * scaling) @ _rotation(turn).T + centre
    return placed


def rasterize(outline: Outline, side: int) -> Float[np.ndarray, "S S"]:
    """Give the share of every pixel that the outline covers, in [0, 1]."""
    fine = np.zeros((side * SUPERSAMPLING, side * SUPERSAMPLING), np.uint8)
    # fillPoly takes pixel centres, and its corners with 4 binary digits after the point.
    corners = np.round((outline * SUPERSAMPLING - 0.5) * 16).astype(np.int32)
    cv2.fillPoly(fine, [corners], 255, cv2.LINE_8, 4)
    return cv2.resize(fine, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def polygon_area(outline: Outline) -> float:
    """Give the area of a polygon, in pixels."""
    x, y = outline.T
    return float(abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2)


def lay_down(picture: Picture, cover: Float[np.ndarray, "S S"], label: int, rng: np.random.Generator) -> Picture:
    """Paint a textured surface where ``cover`` says, with a soft shadow below and to the right of it."""
    typical = rng.uniform() < TYPICAL_SHARE
    hue = label / len(CLASS_NAMES) + rng.normal(0, HUE_SPREAD) if typical else rng.uniform()
    side = cover.shape[0]
    shift = np.array([[1, 0, side / 64], [0, 1, side / 64]], np.float32)
    shadow = cv2.GaussianBlur(cv2.warpAffine(cover, shift, (side, side)), (0, 0), side / 64)
    shaded = picture * cv2.merge([1 - 0.5 * shadow] * 3)
    inner = cv2.erode(cover, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5)))
    rim = np.full_like(picture, 245)
    return mix(shaded, mix(rim, paint_texture(side, side, rng, hue), inner), cover)


def class_mask(scene: Scene) -> UInt8[np.ndarray, "S S"]:
    """Give every pixel's class, 0 for the background and label + 1 for an object."""
    mask: UInt8[np.ndarray, "S S"] = np.array([0, *(label + 1 for label in scene.labels)], np.uint8)[scene.instances]
    return mask


def visible_mask(scene: Scene, number: int) -> Bool[np.ndarray, "S S"]:
    """Give the visible part of object ``number``."""
    visible: Bool[np.ndarray, "S S"] = scene.instances == number + 1
    return visible


def box_of(mask: Bool[np.ndarray, "S S"]) -> tuple[int, int, int, int]:
    """Give the smallest box around a mask, ``xyxy`` in pixels, the far edges exclusive."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _rotation(angle: float) -> Float[np.ndarray, "2 2"]:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
