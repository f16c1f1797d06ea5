"""Turn pictures and boxes into what the detector trains on and is measured on."""

import random
from collections.abc import Callable
from typing import NamedTuple

import albumentations as A
import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int64, UInt8
from torch import Tensor

COVERAGES = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
"""The shares of an object that a crop must hold, one of them drawn for each picture."""

CROP_AREA = (0.1, 1.0)
CROP_ASPECT = (0.5, 2.0)
CROP_TRIES = 100
KEEP_WHOLE = 0.15
"""The share of pictures that are not cropped."""

MIN_SIDE = 1.0
"""Boxes whose visible part is thinner than this many pixels of the file go."""

MAX_ZOOM_OUT = 4.0
"""The largest side of the canvas that a picture is put on, as a multiple of the picture's."""

ZOOM_OUT_SHARE = 0.5
MEAN_PIXEL = 128
"""What the canvas is filled with: next to 0 once normalised."""

Picture = UInt8[np.ndarray, "H W 3"]

Window = Int64[np.ndarray, "4"]
"""xyxy in whole pixels of the file; where it is zoomed out, it reaches beyond the picture."""

LOW, HIGH = [0, 1, 0, 1], [2, 3, 2, 3]
"""Of a window, its near and its far corner, twice: what boxes are moved and clipped by."""


class Transformed(NamedTuple):
    """A picture and its boxes in pixels of the network's input."""

    image: UInt8[Tensor, "3 S S"]
    boxes: Float[Tensor, "N 4"]
    labels: Int64[Tensor, " N"]


class View(NamedTuple):
    """What a transformed picture shows of the file, and where.

    Attributes:
        part: Of the file, in its pixels.
        place: Of the square in which the part is; around it is no picture.
        side: Of the square, in pixels.
        mirrored: Whether the square is mirrored after that.
    """

    part: Window
    place: Window
    side: int
    mirrored: bool = False

    def show_mask(self, mask: UInt8[np.ndarray, "H W"], fill: int) -> UInt8[np.ndarray, "S S"]:
        """Show a mask of the file as the picture is shown, with ``fill`` where no picture is."""
        left, top, right, bottom = self.part
        place = self.place
        square = np.full((self.side, self.side), fill, dtype=np.uint8)
        square[place[1] : place[3], place[0] : place[2]] = cv2.resize(
            mask[top:bottom, left:right], (place[2:] - place[:2]).tolist(), interpolation=cv2.INTER_NEAREST_EXACT
        )
        return cv2.flip(square, 1) if self.mirrored else square


class Labelled(NamedTuple):
    """A picture and its boxes in pixels of the picture."""

    image: UInt8[np.ndarray, "H W 3"]
    boxes: Float32[np.ndarray, "N 4"]
    labels: Int64[np.ndarray, " N"]


class EvalTransform:
    """Resize to a square, whatever the aspect, bilinearly.

    Args:
        input_size: Side of the result, in pixels.
    """

    def __init__(self, input_size: int) -> None:
        self.input_size = input_size

    def __call__(self, image: UInt8[np.ndarray, "H W 3"]) -> UInt8[Tensor, "3 S S"]:
        """Transform a picture."""
        side = self.input_size
        return to_tensor(cv2.resize(image, (side, side), interpolation=cv2.INTER_LINEAR))

    def with_boxes(self, sample: Labelled, seed: int = 0) -> Transformed:
        """Transform a picture and its boxes; nothing here is random, so ``seed`` is not used."""
        height, width = sample.image.shape[:2]
        scale = self.input_size / np.array([width, height, width, height], dtype=np.float32)
        return Transformed(self(sample.image), torch.from_numpy(sample.boxes * scale), torch.from_numpy(sample.labels))


class TrainTransform:
    """Zoom out and crop as SSD does, mirror, change colours, resize to a square.

    A box goes if a crop holds too little of it, see :func:`crop_randomly`; nothing else drops or cuts one.

    Args:
        input_size: Side of the result, in pixels.
        crop: Whether to crop, see :func:`crop_randomly`.
        flip: Whether to mirror every other picture.
        photometric: Whether to change brightness, contrast, saturation and hue.
        zoom_out: Whether to show every other picture smaller, see :func:`zoom_out_randomly`.
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

    def __call__(self, sample: Labelled, seed: int) -> Transformed:
        """Transform a picture with the randomness of ``seed``, and no other.

        Args:
            sample: Boxes within the picture and with an area.
            seed: Decides everything that is random.
        """
        return self.with_view(sample, seed)[0]

    def with_view(self, sample: Labelled, seed: int) -> tuple[Transformed, View]:
        """Likewise, and say what is seen of the picture."""
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
        view = look_through(window, (height, width), self.input_size)
        image, boxes = cut_out(sample.image, boxes, view, self._recolored)
        if self.flip and generator.random() < 0.5:
            view = view._replace(mirrored=True)
            image = cv2.flip(image, 1)
            boxes = np.stack(
                [self.input_size - boxes[:, 2], boxes[:, 1], self.input_size - boxes[:, 0], boxes[:, 3]], axis=1
            )
        transformed = Transformed(
            to_tensor(image), torch.from_numpy(boxes.astype(np.float32)), torch.from_numpy(labels.astype(np.int64))
        )
        return transformed, view

    def _recolored(self, image: Picture) -> Picture:
        return self.recolor(image=image)["image"] if self.photometric else image


def zoom_out_randomly(picture: Window, generator: np.random.Generator) -> Window:
    """Put ``ZOOM_OUT_SHARE`` of the pictures at a random place of a canvas of up to ``MAX_ZOOM_OUT`` times their sides.

    Args:
        picture: All of the picture.
        generator: Decides.

    Returns:
        The canvas, as a window around the picture.

    Reference: Liu et al., "SSD: Single Shot MultiBox Detector", ECCV 2016, section 3.6.
    """
    if generator.random() >= ZOOM_OUT_SHARE:
        return picture
    sides = picture[2:] - picture[:2]
    canvas = np.floor(sides * generator.uniform(1.0, MAX_ZOOM_OUT)).astype(np.int64)
    corner = picture[:2] - np.floor(generator.random(2) * (canvas - sides + 1)).astype(np.int64)
    return np.concatenate([corner, corner + canvas])


def crop_randomly(
    boxes: Float32[np.ndarray, "N 4"], window: Window, size: tuple[int, int], generator: np.random.Generator
) -> tuple[Window, Bool[np.ndarray, " N"]]:
    """Choose a random part of a window that holds a drawn share of at least one object.

    A box stays if the part holds that share of its area, and at least ``MIN_SIDE`` pixels of its sides; the others go.
    Where no part is found in ``CROP_TRIES``, and for ``KEEP_WHOLE`` of the pictures, it is all of the window.

    Args:
        boxes: The objects.
        window: What is seen of the picture.
        size: Height and width of the picture.
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
    # On a picture without objects a part has nothing to hold but some of the picture.
    held = boxes if len(boxes) else np.array([[0, 0, size[1], size[0]]], dtype=np.float32)
    shares = held_shares(held, parts)
    fitting = np.flatnonzero((shares >= (coverage if len(boxes) else 0.0)).any(axis=1) & (shares > 0).any(axis=1))
    if not len(fitting):
        return window, all_stay
    part = parts[fitting[0]]
    visible = np.minimum(boxes[:, 2:], part[2:]) - np.maximum(boxes[:, :2], part[:2])
    return part, (shares[fitting[0], : len(boxes)] >= coverage) & (visible >= MIN_SIDE).all(axis=1)


def look_through(window: Window, size: tuple[int, int], side: int) -> View:
    """Say which part of a picture a window shows, and where in a square of ``side`` pixels.

    Args:
        window: What is to be seen; some of the picture is.
        size: Height and width of the picture.
        side: Of the square.
    """
    part = np.concatenate([np.maximum(window[:2], 0), np.minimum(window[2:], size[::-1])])
    place = np.rint((part - window[LOW]) * (side / (window[HIGH] - window[LOW]))).astype(np.int64)
    # However little is seen, it has a pixel.
    place[:2] = np.minimum(place[:2], side - 1)
    place[2:] = np.maximum(place[2:], place[:2] + 1)
    return View(part, place, side)


def cut_out(
    image: Picture,
    boxes: Float32[np.ndarray, "N 4"],
    view: View,
    change: Callable[[Picture], Picture] = lambda seen: seen,
) -> tuple[UInt8[np.ndarray, "S S 3"], Float64[np.ndarray, "N 4"]]:
    """Resize what a view shows, bilinearly; what is not picture is ``MEAN_PIXEL``.

    Args:
        image: The picture.
        boxes: The objects, in its pixels.
        view: What is to be seen of it, not mirrored.
        change: What is done to the resized picture before it is put on the canvas, which stays as it is.

    Returns:
        The square, and the boxes in its pixels, clipped to what is seen of the picture.
    """
    part, place, side, _ = view
    left, top, right, bottom = part
    width, height = (place[2:] - place[:2]).tolist()
    seen = image[top:bottom, left:right]
    if (width, height) == (side, side):
        square = change(cv2.resize(seen, (side, side), interpolation=cv2.INTER_LINEAR))
    else:
        # A picture becomes so small here that bilinear weights would miss most of its pixels.
        small = cv2.resize(seen, (width, height), interpolation=cv2.INTER_AREA)
        square = np.full((side, side, 3), MEAN_PIXEL, dtype=np.uint8)
        square[place[1] : place[3], place[0] : place[2]] = change(small)
    scale = (place[HIGH] - place[LOW]) / (part[HIGH] - part[LOW])
    clipped = np.clip(boxes, part[LOW], part[HIGH])
    return square, (clipped - part[LOW]) * scale + place[LOW]


def draw_windows(height: int, width: int, generator: np.random.Generator) -> Int64[np.ndarray, "W 4"]:
    """Draw windows as xyxy in whole pixels; those that do not fit into the picture are left out."""
    areas = generator.uniform(*CROP_AREA, CROP_TRIES) * height * width
    aspects = generator.uniform(*CROP_ASPECT, CROP_TRIES)
    sides = np.round(np.stack([np.sqrt(areas * aspects), np.sqrt(areas / aspects)], axis=1)).astype(np.int64)
    places = generator.random((CROP_TRIES, 2))
    sides = np.maximum(sides, 1)
    fits = (sides <= [width, height]).all(axis=1)
    corners = np.floor(places * ([width + 1, height + 1] - sides)).astype(np.int64)
    return np.concatenate([corners, corners + sides], axis=1)[fits]


def held_shares(boxes: Float32[np.ndarray, "N 4"], windows: Int64[np.ndarray, "W 4"]) -> Float[np.ndarray, "W N"]:
    """Give the share of each box's area that each window holds."""
    low = np.maximum(boxes[None, :, :2], windows[:, None, :2])
    high = np.minimum(boxes[None, :, 2:], windows[:, None, 2:])
    held = np.prod(np.maximum(high - low, 0), axis=2)
    shares: Float[np.ndarray, "W N"] = held / np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return shares


def to_tensor(image: UInt8[np.ndarray, "H W 3"]) -> UInt8[Tensor, "3 H W"]:
    """Put the channels first, without moving a byte."""
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
