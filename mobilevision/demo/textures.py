"""Textures of two colors, and cluttered backgrounds."""

import colorsys
from collections.abc import Callable

import cv2
import numpy as np
from jaxtyping import Float

Blend = Float[np.ndarray, "H W"]
"""The share of the second color in each pixel, in [0, 1]."""

Canvas = Float[np.ndarray, "H W 3"]
"""RGB in [0, 255], float32."""


def stripes(x: Blend, y: Blend, rng: np.random.Generator) -> Blend:
    """Parallel bands."""
    return _soft_step(np.sin(x * _wave_number(rng)))


def checks(x: Blend, y: Blend, rng: np.random.Generator) -> Blend:
    """Squares of a chessboard."""
    k = _wave_number(rng)
    return _soft_step(np.sin(x * k) * np.sin(y * k))


def dots(x: Blend, y: Blend, rng: np.random.Generator) -> Blend:
    """Round dots on a grid."""
    k = _wave_number(rng)
    return _soft_step(np.cos(x * k) + np.cos(y * k) - 0.5)


def gradient(x: Blend, y: Blend, rng: np.random.Generator) -> Blend:
    """From the first color on one side to the second on the other."""
    blend: Blend = np.clip((x - x.min()) / max(float(np.ptp(x)), 1e-6), 0, 1)
    return blend


def clouds(x: Blend, y: Blend, rng: np.random.Generator) -> Blend:
    """Smooth noise."""
    return smooth_noise(x.shape[0], x.shape[1], cells=5, rng=rng)


TEXTURES: tuple[Callable[[Blend, Blend, np.random.Generator], Blend], ...] = (stripes, checks, dots, gradient, clouds)
"""Functions of the pixels' coordinates, which are rotated into the direction of the texture."""


def paint_texture(height: int, width: int, rng: np.random.Generator, hue: float) -> Canvas:
    """Paint a rectangle with a random texture of two shades of a hue, in [0, 1]."""
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    rotated = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    blend = TEXTURES[rng.integers(len(TEXTURES))](*rotated, rng)
    bright = _color(hue, rng.uniform(0.5, 0.95), rng.uniform(0.8, 1.0))
    dark = _color(hue + rng.normal(0, 0.04), rng.uniform(0.6, 1.0), rng.uniform(0.35, 0.7))
    return mix(bright, dark, blend) if rng.uniform() < 0.5 else mix(dark, bright, blend)


def paint_background(side: int, rng: np.random.Generator) -> Canvas:
    """Paint a square of clutter without objects: a gradient, clouds, blobs and curves in muted colors."""
    y, x = np.mgrid[:side, :side].astype(np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    ramp = gradient(x * np.cos(angle) + y * np.sin(angle), y, rng)
    canvas = mix(_muted(rng), _muted(rng), ramp)
    canvas = mix(canvas, _muted(rng), 0.6 * smooth_noise(side, side, cells=int(rng.integers(3, 9)), rng=rng))
    for _ in range(rng.integers(0, 4)):
        blob = _soft_step((smooth_noise(side, side, cells=4, rng=rng) - 0.72) * 8)
        canvas = mix(canvas, _muted(rng), 0.8 * blob)
    for _ in range(rng.integers(2, 9)):
        start, middle, end = rng.uniform(-0.1 * side, 1.1 * side, (3, 2))
        t = np.linspace(0, 1, 24)[:, None]
        curve = (1 - t) ** 2 * start + 2 * t * (1 - t) * middle + t**2 * end
        points = np.round(curve * 16).astype(np.int32)
        cv2.polylines(canvas, [points], False, _muted(rng).tolist(), int(rng.integers(1, 4)), cv2.LINE_AA, 4)
    return canvas


def smooth_noise(height: int, width: int, *, cells: int, rng: np.random.Generator) -> Blend:
    """Draw noise in [0, 1] with about ``cells`` features along each side."""
    coarse = rng.uniform(0, 1, (cells + 1, cells + 1)).astype(np.float32)
    return np.clip(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), 0, 1)


def mix(first: Float[np.ndarray, "*any"], second: Float[np.ndarray, "*any"], blend: Blend) -> Canvas:
    """Blend two canvases or colors pixel by pixel."""
    weight = cv2.merge([blend.astype(np.float32)] * 3)
    return np.asarray(first + (second - first) * weight, np.float32)


def _wave_number(rng: np.random.Generator) -> float:
    return 2 * np.pi / float(rng.uniform(7, 16))


def _soft_step(values: Blend) -> Blend:
    return np.clip(0.5 + 1.5 * values, 0, 1)


def _color(hue: float, saturation: float, value: float) -> Float[np.ndarray, "3"]:
    return np.array(colorsys.hsv_to_rgb(hue % 1, saturation, value), np.float32) * 255


def _muted(rng: np.random.Generator) -> Float[np.ndarray, "3"]:
    return _color(rng.uniform(), rng.uniform(0.05, 0.35), rng.uniform(0.3, 0.95))
