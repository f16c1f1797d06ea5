"""Outlines of the classes, around the origin, all of about the same size."""

from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Float

Outline = Float[np.ndarray, "N 2"]
"""Corners of a closed polygon; 1 is the shape's nominal radius."""


def circle() -> Outline:
    """Circle, as a polygon of 64 corners."""
    return _on_circle(np.linspace(0, 2 * np.pi, 64, endpoint=False)) * 0.95


def square() -> Outline:
    """Square."""
    return _on_circle(np.pi / 4 + np.arange(4) * np.pi / 2) * 1.2


def triangle() -> Outline:
    """Equilateral triangle."""
    return _on_circle(np.arange(3) * 2 * np.pi / 3 - np.pi / 2) * 1.3


def star() -> Outline:
    """Star of five points."""
    radius = np.where(np.arange(10) % 2 == 0, 1.3, 0.58)
    return _on_circle(np.arange(10) * np.pi / 5 - np.pi / 2) * radius[:, None]


def cross() -> Outline:
    """Cross of two bars of equal length."""
    near, far = 0.4, 1.15
    quarter_turn = np.array([(0, -1), (1, 0)])
    corners = [np.array([(near, near), (near, far), (-near, far)])]
    for _ in range(3):
        corners.append(corners[-1] @ quarter_turn.T)
    return np.concatenate(corners)


def heart() -> Outline:
    """Heart, as a polygon of 64 corners."""
    t = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)) - 2
    return np.stack([x, y], axis=1) / 14.5


SHAPES: Mapping[str, Callable[[], Outline]] = {
    "circle": circle,
    "cross": cross,
    "heart": heart,
    "square": square,
    "star": star,
    "triangle": triangle,
}
"""Outline by class name, in the order of the labels, which is also that of folders sorted by name."""


def _on_circle(angles: Float[np.ndarray, " N"]) -> Outline:
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)
