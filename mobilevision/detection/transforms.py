"""Training augmentation of images with boxes."""

import random
from collections.abc import Callable
from typing import NamedTuple

import albumentations as A
import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int64, UInt8

from mobilevision.detection.preprocess import LabeledImage, TransformedImage
from mobilevision.images import Pixels, to_tensor

COVERAGES = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
"""The shares of an object that a crop must hold, one of them drawn for each image."""

CROP_AREA = (0.1, 1.0)
CROP_ASPECT = (0.5, 2.0)
CROP_TRIES = 100
KEEP_WHOLE = 0.15
"""The share of images that are not cropped."""

MIN_VISIBLE_SIDE = 1.0
"""Boxes whose visible part is thinner than this many pixels of the file are dropped."""

MAX_ZOOM_OUT = 4.0
"""The largest side of the canvas that an image is put on, as a multiple of the image's."""

ZOOM_OUT_SHARE = 0.5
MEAN_PIXEL = 128
"""The value of the canvas: next to 0 once normalized."""

Window = Int64[np.ndarray, "4"]
"""xyxy in whole pixels of the file; where it is zoomed out, it reaches beyond the image."""

LOW, HIGH = [0, 1, 0, 1], [2, 3, 2, 3]
"""Of a window, its near and its far corner, twice: what boxes are moved and clipped by."""


class View(NamedTuple):
    """Which part of the file a transformed image shows, and where.

    Attributes:
        part: The part, in pixels of the file.
        place: The place of the part in the square; around it is canvas.
        side: The side of the square, in pixels.
        mirrored: Whether the square is mirrored after that.
    """

    part: Window
    place: Window
    side: int
    mirrored: bool = False

    def show_mask(self, mask: UInt8[np.ndarray, "H W"], fill: int) -> UInt8[np.ndarray, "S S"]:
        """Transform a mask of the file as its image is transformed, with ``fill`` on the canvas."""
        left, top, right, bottom = self.part
        place = self.place
        square = np.full((self.side, self.side), fill, dtype=np.uint8)
        square[place[1] : place[3], place[0] : place[2]] = cv2.resize(
            mask[top:bottom, left:right], (place[2:] - place[:2]).tolist(), interpolation=cv2.INTER_NEAREST_EXACT
        )
        return cv2.flip(square, 1) if self.mirrored else square


class DetectionAugment:
    """Zoom out and crop as SSD does, mirror, change colors, resize to a square.

    A box is dropped if a crop holds too little of it, see :func:`crop_randomly`; nothing else drops or cuts one.

    Args:
        input_size: Side of the result, in pixels.
        crop: Whether to crop, see :func:`crop_randomly`.
        flip: Whether to mirror every other image.
        photometric: Whether to change brightness, contrast, saturation and hue.
        zoom_out: Whether to show every other image smaller, see :func:`zoom_out_randomly`.
    """

    def __init__(
        self,
        input_size: int,
        *,
        crop: bool = True,
        flip: bool = True,
        photometric: bool = False,
        zoom_out: bool = False,
    ) -> None:
        self.input_size = input_size
        self.crop = crop
        self.flip = flip
        self.photometric = photometric
        self.zoom_out = zoom_out
        # Only pixels go through it: moving boxes takes three lines, and its own checks refuse what float32 rounds.
        self.recolor = A.Compose([A.ColorJitter((0.7, 1.3), (0.7, 1.3), (0.7, 1.3), (-0.05, 0.05), p=0.8)])

    def __call__(self, sample: LabeledImage, seed: int) -> TransformedImage:
        """Transform an image with the randomness of ``seed``, and no other.

        Args:
            sample: An image with boxes that lie within it and have an area.
            seed: Decides everything that is random.
        """
        return self.with_view(sample, seed)[0]

    def with_view(self, sample: LabeledImage, seed: int) -> tuple[TransformedImage, View]:
        """Transform an image as :meth:`__call__` does, and return which part of it is seen where."""
        generator = np.random.default_rng(seed)
        height, width = sample.image.shape[:2]
        boxes, labels = sample.boxes, sample.labels
        window = np.array([0, 0, width, height])
        if self.zoom_out:
            window = zoom_out_randomly(window, generator)
        if self.crop:
            window, stays = crop_randomly(boxes, window, (height, width), generator)
            boxes, labels = boxes[stays], labels[stays]
        # One pair of generators for the whole chain: set_random_seed would let every step draw the same numbers.
        self.recolor.set_random_state(generator, random.Random(seed))  # noqa: S311
        view = make_view(window, (height, width), self.input_size)
        image, boxes = cut_out(sample.image, boxes, view, self._recolored)
        if self.flip and generator.random() < 0.5:
            view = view._replace(mirrored=True)
            image = cv2.flip(image, 1)
            boxes = np.stack(
                [self.input_size - boxes[:, 2], boxes[:, 1], self.input_size - boxes[:, 0], boxes[:, 3]], axis=1
            )
        transformed = TransformedImage(
            to_tensor(image), torch.from_numpy(boxes.astype(np.float32)), torch.from_numpy(labels.astype(np.int64))
        )
        return transformed, view

    def _recolored(self, image: Pixels) -> Pixels:
        return self.recolor(image=image)["image"] if self.photometric else image


def zoom_out_randomly(whole: Window, generator: np.random.Generator) -> Window:
    """Put ``ZOOM_OUT_SHARE`` of the images at a random place of a canvas of up to ``MAX_ZOOM_OUT`` times their sides.

    Args:
        whole: All of the image.
        generator: Decides.

    Returns:
        The canvas, as a window around the image.

    Reference: Liu et al., "SSD: Single Shot MultiBox Detector", ECCV 2016, section 3.6.
    """
    if generator.random() >= ZOOM_OUT_SHARE:
        return whole
    sides = whole[2:] - whole[:2]
    canvas = np.floor(sides * generator.uniform(1.0, MAX_ZOOM_OUT)).astype(np.int64)
    corner = whole[:2] - np.floor(generator.random(2) * (canvas - sides + 1)).astype(np.int64)
    return np.concatenate([corner, corner + canvas])


def crop_randomly(
    boxes: Float32[np.ndarray, "N 4"], window: Window, size: tuple[int, int], generator: np.random.Generator
) -> tuple[Window, Bool[np.ndarray, " N"]]:
    """Choose a random part of a window that holds a drawn share of at least one object.

    A box stays if the part holds that share of its area, and at least ``MIN_VISIBLE_SIDE`` pixels of its sides; the
    others are dropped. Where no part is found in ``CROP_TRIES``, and for ``KEEP_WHOLE`` of the images, it is all of the
    window.

    Args:
        boxes: The objects.
        window: The part of the image that is seen.
        size: Height and width of the image.
        generator: Decides.

    Returns:
        The part, and which boxes stay.

    Reference: TensorFlow Object Detection API, ``ssd_random_crop``.
    """
    all_stay = np.ones(len(boxes), dtype=np.bool_)
    if generator.random() < KEEP_WHOLE:
        return window, all_stay
    coverage = generator.choice(COVERAGES)
    width, height = window[2:] - window[:2]
    parts = draw_windows(int(height), int(width), generator) + window[LOW]
    # On an image without objects a part has nothing to hold but some of the image.
    held = boxes if len(boxes) else np.array([[0, 0, size[1], size[0]]], dtype=np.float32)
    shares = held_shares(held, parts)
    fitting = np.flatnonzero((shares >= (coverage if len(boxes) else 0.0)).any(axis=1) & (shares > 0).any(axis=1))
    if not len(fitting):
        return window, all_stay
    part = parts[fitting[0]]
    visible = np.minimum(boxes[:, 2:], part[2:]) - np.maximum(boxes[:, :2], part[:2])
    return part, (shares[fitting[0], : len(boxes)] >= coverage) & (visible >= MIN_VISIBLE_SIDE).all(axis=1)


def make_view(window: Window, size: tuple[int, int], side: int) -> View:
    """Return which part of an image a window shows, and where in a square of ``side`` pixels.

    Args:
        window: The part to show; some of the image is in it.
        size: Height and width of the image.
        side: Of the square.
    """
    part = np.concatenate([np.maximum(window[:2], 0), np.minimum(window[2:], size[::-1])])
    place = np.rint((part - window[LOW]) * (side / (window[HIGH] - window[LOW]))).astype(np.int64)
    # However little is seen, it has a pixel.
    place[:2] = np.minimum(place[:2], side - 1)
    place[2:] = np.maximum(place[2:], place[:2] + 1)
    return View(part, place, side)


def cut_out(
    image: Pixels,
    boxes: Float32[np.ndarray, "N 4"],
    view: View,
    change: Callable[[Pixels], Pixels] = lambda seen: seen,
) -> tuple[UInt8[np.ndarray, "S S 3"], Float64[np.ndarray, "N 4"]]:
    """Resize the part that a view shows, bilinearly; the canvas is ``MEAN_PIXEL``.

    Args:
        image: The image.
        boxes: The objects, in its pixels.
        view: The part to show, not mirrored.
        change: Applied to the resized part before it is put on the canvas, which stays as it is.

    Returns:
        The square, and the boxes in its pixels, clipped to the part.
    """
    part, place, side, _ = view
    left, top, right, bottom = part
    width, height = (place[2:] - place[:2]).tolist()
    seen = image[top:bottom, left:right]
    if (width, height) == (side, side):
        square = change(cv2.resize(seen, (side, side), interpolation=cv2.INTER_LINEAR))
    else:
        # An image becomes so small here that bilinear weights would miss most of its pixels.
        small = cv2.resize(seen, (width, height), interpolation=cv2.INTER_AREA)
        square = np.full((side, side, 3), MEAN_PIXEL, dtype=np.uint8)
        square[place[1] : place[3], place[0] : place[2]] = change(small)
    scale = (place[HIGH] - place[LOW]) / (part[HIGH] - part[LOW])
    clipped = np.clip(boxes, part[LOW], part[HIGH])
    return square, (clipped - part[LOW]) * scale + place[LOW]


def draw_windows(height: int, width: int, generator: np.random.Generator) -> Int64[np.ndarray, "W 4"]:
    """Draw windows as xyxy in whole pixels; those that do not fit into the image are left out."""
    areas = generator.uniform(*CROP_AREA, CROP_TRIES) * height * width
    aspects = generator.uniform(*CROP_ASPECT, CROP_TRIES)
    sides = np.round(np.stack([np.sqrt(areas * aspects), np.sqrt(areas / aspects)], axis=1)).astype(np.int64)
    places = generator.random((CROP_TRIES, 2))
    sides = np.maximum(sides, 1)
    fits = (sides <= [width, height]).all(axis=1)
    corners = np.floor(places * ([width + 1, height + 1] - sides)).astype(np.int64)
    return np.concatenate([corners, corners + sides], axis=1)[fits]


def held_shares(boxes: Float32[np.ndarray, "N 4"], windows: Int64[np.ndarray, "W 4"]) -> Float[np.ndarray, "W N"]:
    """Return the share of each box's area that each window holds."""
    low = np.maximum(boxes[None, :, :2], windows[:, None, :2])
    high = np.minimum(boxes[None, :, 2:], windows[:, None, 2:])
    held = np.prod(np.maximum(high - low, 0), axis=2)
    shares: Float[np.ndarray, "W N"] = held / np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return shares
